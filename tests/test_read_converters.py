"""Converters of transformers are read with sizes, and loaded and saved by them as transformers loads."""

from __future__ import annotations

import pytest
import torch
from read_registry import check
from real_models import quiet_transformers
from releases import leave_out, need_entry, need_rule, need_setting

from treealign import Convert, KeyTree, PrefixChange, Rename, operations
from treealign.dialects.reading import read_mapping
from treealign.dialects.transformers import operations as table
from treealign.dialects.transformers.collecting import fresh

# between them they have every operation of the registry; `scripts/read_registry.py` does all entries
SAMPLE = ("mixtral", "ernie4_5_vl_moe", "step3p5_vision", "inkling2_loop", "inkling_mm_model", "Molmo2TextModel")


@pytest.mark.parametrize("entry", SAMPLE)
def test_an_entry_read_loads_as_transformers_does_saves_the_same_file_and_is_emitted_again(entry):
    quiet_transformers()
    need_entry(entry)
    outcome = check(entry)
    assert (outcome.fault, outcome.unread) == ("", [])
    if outcome.emitted:
        leave_out(f"way to do this: {outcome.emitted}")
    assert outcome.converters == outcome.read > 0


def test_every_operation_of_the_registry_has_a_reader():
    from transformers.conversion_mapping import _build_checkpoint_conversion_mapping

    rules = [rule for entry in _build_checkpoint_conversion_mapping().values() for rule in entry]
    used = {type(step).__name__ for rule in rules for step in getattr(rule, "operations", ())}
    # gave way to `Chunk` and `PermuteForRope`; where entries still have it, they are reported as unread
    deprecated = {"VisionUnfuseAndPermuteForRope"}
    assert used - table.READERS.keys() - deprecated == set()


def converter(sources, targets, *steps):
    from transformers import core_model_loading as loading

    made = [getattr(loading, name)(**options) for name, options in steps]
    return loading.WeightConverter(sources, targets, made)


def tree(shapes):
    return KeyTree.from_leaves([(key, shape, "float32") for key, shape in shapes.items()])


def read(rules, given, model=None):
    return read_mapping(rules, checkpoint=tree(given), model=None if model is None else tree(model))


EXPERTS = {f"h.{i}.experts.{j}.{part}.weight": (2, 3) for i in range(2) for j in range(4) for part in ("up", "gate")}


def test_experts_are_read_with_their_number_and_sizes():
    merged = converter(
        ["experts.*.gate.weight", "experts.*.up.weight"],
        "experts.gate_up",
        ("MergeModulelist", {"dim": 0}),
        ("Concatenate", {"dim": 1}),
    )
    (convert,) = read([merged], EXPERTS).mapping
    assert convert.operations == (operations.Stack(0, 4), operations.Concat(1, (2, 2)))
    first = convert.group("h.1.experts.0.gate.weight")
    assert first.sources == tuple(f"h.1.experts.{j}.{part}.weight" for part in ("gate", "up") for j in range(4))
    assert first.targets == ("h.1.experts.gate_up",)


def test_parts_of_the_model_s_sizes_are_read_off_the_model():
    need_rule("Split")
    split = converter(r"\.qkv\.", [".q.", ".k."], ("Split", {"dim": 0}))
    reading = read([split], {"h.0.qkv.weight": (6, 2)}, {"h.0.q.weight": (4, 2), "h.0.k.weight": (2, 2)})
    assert list(reading.mapping) == [Convert("**.qkv", ["**.q", "**.k"], [operations.Split(0, (4, 2))])]


def test_what_a_converter_makes_for_no_key_of_the_model_goes_nowhere():
    merged = converter("experts.*.up.weight", "experts.up", ("MergeModulelist", {"dim": 0}))
    given = {f"{place}.experts.{j}.up.weight": (2, 3) for place in ("h", "elsewhere") for j in range(2)}
    reading = read([merged], given, {"h.experts.up": (2, 2, 3)})
    assert (reading.unread, reading.findings) == ((), ())
    assert reading.mapping.map_keys(given)["h.experts.0.up.weight"] == ("h.experts.up",)


def test_what_asks_the_model_is_not_read_without_it():
    need_rule("Split")
    split = converter(r"\.qkv\.", [".q.", ".k."], ("Split", {"dim": 0}))
    ((_, reason),) = read([split], {"h.0.qkv.weight": (6, 2)}).unread
    assert reason == "Split asks the model: pass it"


def test_what_transformers_itself_does_not_undo_is_noted_and_read_all_the_same():
    joined = converter([r"\.q\.", r"\.k\."], ".qk.", ("Concatenate", {"dim": 0}))
    reading = read([joined], {"h.0.q.weight": (4, 2), "h.0.k.weight": (2, 2)})
    assert next(iter(reading.mapping)).operations == (operations.Concat(0, (4, 2)),)
    ((_, note),) = reading.notes
    assert "saving changes h.0.q.weight" in note


def test_a_matrix_that_transformers_leaves_because_it_fits_is_only_renamed():
    turned = converter(r"\.old\.", ".new.", ("Transpose", {"check_dims": True}))
    model = {"h.new.weight": (2, 3)}
    (rename,) = read([turned], {"h.old.weight": (2, 3)}, model).mapping
    assert (type(rename), rename.map_key("h.old.weight")) == (Rename, ("h.new.weight",))
    (convert,) = read([turned], {"h.old.weight": (3, 2)}, model).mapping
    assert convert.operations == (operations.Permute((1, 0)),)


def test_a_tensor_that_would_be_dropped_is_no_conversion():
    chunked = converter(r"\.qkv(_\d)?\.", [".q.", ".k."], ("Chunk", {"dim": 0}))
    ((_, reason),) = read([chunked], {"h.qkv_0.weight": (4, 2), "h.qkv_1.weight": (4, 2)}).unread
    assert reason == "Chunk takes the first of 2 tensors and drops the others"


def test_an_operation_that_we_have_none_for_is_named():
    from transformers.core_model_loading import ConversionOps, WeightConverter

    class Doubled(ConversionOps):
        def convert(self, input_dict, target_patterns, **_):
            return {target_patterns[0]: next(iter(input_dict.values()))[0] * 2}

    ((_, reason),) = read([WeightConverter("old", "new", [Doubled()])], {"h.old": (2, 2)}).unread
    assert reason == "it runs Doubled, of which we have no counterpart"


def test_a_reader_that_is_wrong_is_found_out_by_numbers(monkeypatch):
    need_rule("Interleave")
    turns = converter("old", "new", ("Interleave", {"dim": 0}))
    assert next(iter(read([turns], {"h.old": (4, 2)}).mapping)).operations == (operations.Deinterleave(0, (1, 1)),)
    monkeypatch.setitem(table.READERS, "Interleave", lambda moment: [operations.Deinterleave(0, (2, 2))])
    ((_, reason),) = read([turns], {"h.old": (4, 2)}).unread
    assert reason == "transformers makes other numbers than ours, in h.new"


def test_a_renaming_inside_segments_is_read_by_what_it_does():
    rename = {"attention.query": "q_proj"}
    reading = read(rename, {"h.cross_attention.query.w": (2,), "h.attention.query.w": (2,), "h.query.w": (2,)})
    assert reading.unread == ()
    assert {key: to for key, (to,) in reading.mapping.map_keys(reading.run(EXPERTS)).items()} == {k: k for k in EXPERTS}
    assert reading.mapping.map_keys(["h.cross_attention.query.w"]) == {
        "h.cross_attention.query.w": ("h.cross_q_proj.w",)
    }


def test_a_renaming_that_makes_one_name_of_two_keys_is_not_read():
    ((_, reason),) = read({"^old": "new"}, {"old.a": (2,), "new.a": (2,)}).unread
    assert reason == "it makes new.a of both new.a and old.a"


def test_rules_that_touch_nothing_are_left_out_and_told():
    reading = read({r"^a\.": "b.", r"^x\.": "y."}, {"a.w": (2,)})
    assert list(reading.mapping) == [Rename("a", "b")]
    assert [rule.source_patterns for rule in reading.idle] == [[r"^x\."]]


def test_a_scope_is_found_with_and_without_the_prefix_of_the_base_model():
    from transformers.core_model_loading import PrefixChange as Theirs

    need_setting("base_model_prefix")
    rule = Theirs(prefix_to_remove="vision_model")
    rule.scope_prefix, rule.base_model_prefix = "tower", "model"
    for place in ("model.tower", "tower"):
        given = {f"{place}.vision_model.w": (2,), "head.vision_model.w": (2,)}
        assert list(read([rule], given).mapping) == [PrefixChange(remove="vision_model", under=place)]


def skeleton_of(keys, **parts):
    """A model without weights, its keys, and its parts by path: class name, model type, prefix of the base model."""
    from treealign.dialects.transformers.skeleton import Part, skeleton

    shapes = dict.fromkeys(keys, (1, 2))
    return skeleton(shapes, {path.replace("root", ""): Part(*said) for path, said in parts.items()})


@pytest.mark.parametrize(
    ("scope", "given", "wanted"),
    [
        ("", "old_q.weight", "model.q.weight"),
        ("", "model.old_q.weight", "model.q.weight"),
        ("sub", "sub.old_q.weight", "model.sub.q.weight"),
        ("sub", "model.sub.old_q.weight", "model.sub.q.weight"),
    ],
)
def test_a_checkpoint_of_the_base_model_gets_its_prefix_after_a_rule_of_a_part(scope, given, wanted):
    from transformers.core_model_loading import WeightRenaming

    need_setting("base_model_prefix")
    rule = WeightRenaming("^old_q", "q")
    rule.scope_prefix, rule.base_model_prefix = scope, "model"
    model = skeleton_of([wanted], root=("Root", None, "model"))
    reading = read_mapping([rule], checkpoint=tree({given: (1, 2)}), model=model)
    assert (reading.unread, reading.findings) == ((), ())
    assert reading.mapping.map_keys([given]) == {given: (wanted,)}
    assert reading.mapping.reverse.map_keys([wanted]) == {wanted: (given,)}


def test_two_parts_of_one_model_type_are_both_read(empty_registry):
    from transformers.core_model_loading import WeightRenaming

    empty_registry["of_both"] = [WeightRenaming(r"^w\.", "renamed_w.")]
    keys = {f"{part}.w.x": f"{part}.renamed_w.x" for part in ("encoder", "decoder")} | {"w.x": "w.x"}
    parts = {"encoder": ("First", "of_both"), "decoder": ("Second", "of_both")}
    model = skeleton_of(keys.values(), root=("Root", "of_none"), **parts)
    reading = read_mapping(model, checkpoint=tree(dict.fromkeys(keys, (1, 2))))
    assert (reading.unread, reading.findings) == ((), ())
    assert {key: to for key, (to,) in reading.mapping.map_keys(keys).items()} == keys


def test_a_renaming_that_swallows_an_index_is_read_where_there_is_one_and_refused_where_there_are_two():
    from transformers.core_model_loading import WeightRenaming

    rule = WeightRenaming("moe.experts.*.w1.weight", "mlp.experts.gate_up")
    one = {"h.moe.experts.3.w1.weight": (1, 2)}
    assert read([rule], one).mapping.map_keys(one) == {next(iter(one)): ("h.mlp.experts.gate_up",)}
    ((_, reason),) = read([rule], {**one, "h.moe.experts.4.w1.weight": (1, 2)}).unread
    assert reason.startswith("it makes h.mlp.experts.gate_up of both")


def test_reading_leaves_the_rules_as_they_are():
    from transformers.core_model_loading import WeightRenaming

    rule = WeightRenaming(r"^model\.(?!vision)", "text.")
    for _ in range(3):
        assert fresh(rule).rename_source_key("model.a")[0] == "text.a"
        assert fresh(rule).rename_source_key("model.vision.a")[0] == "model.vision.a"
        rule.reverse_transform()


def test_without_a_checkpoint_a_model_is_read_for_what_transformers_would_save_of_it():
    from real_models import tiny

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 8}
    with torch.device("meta"):
        model = tiny("MixtralForCausalLM", num_hidden_layers=1, num_local_experts=2, num_key_value_heads=2, **sizes)()
    reading = read_mapping(model)
    assert (reading.unread, reading.findings) == ((), ())
    keys = ["model.layers.0.block_sparse_moe.experts.1.w2.weight"]
    assert reading.mapping.map_keys(keys) == {keys[0]: ("model.layers.0.mlp.experts.down_proj",)}


def test_copies_of_a_converter_for_several_parts_are_read_where_one_matches_and_another_converts():
    from treealign.dialects.transformers.installed import scope_settings

    rules = [converter("qkv.weight", ["q.weight", "k.weight"], ("Chunk", {"dim": 0})) for _ in range(2)]
    for rule, part in zip(rules, ("first", "second"), strict=True):
        for name, value in scope_settings(part).items():
            setattr(rule, name, value)
    given = {"first.0.qkv.weight": (4, 2), "second.0.qkv.weight": (6, 2)}
    wanted = {key.replace("qkv", part): (rows // 2, 2) for key, (rows, _) in given.items() for part in "qk"}
    reading = read(rules, given, wanted)
    assert (reading.unread, reading.findings) == ((), ())
    assert reading.mapping.map_keys(["first.0.qkv.weight"])["first.0.qkv.weight"][0] == "first.0.q.weight"
