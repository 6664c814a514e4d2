"""What is emitted for transformers does there what the mapping does here, or is refused with the reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from cases import read_cases
from releases import need_rule, refusal_left_out

from treealign import (
    ConversionMapping,
    Convert,
    KeyTree,
    PrefixChange,
    Rename,
    TreealignError,
    emit,
    operations,
    suggest,
)

ROOT = Path(__file__).parent.parent
CASES = (
    "LlavaForConditionalGeneration",
    "DetrForSegmentation",
    "PhimoeModel",
    "DeepseekV2ForCausalLM",
    "Tipsv2DptForDe",
)


def rules(mapping, **options):
    return emit(mapping, live=True, **options)


def renamed(used, key):
    for rule in used:
        key = rule.rename_source_key(key)[0]
    return key


def there_and_back(mapping, *keys, **options):
    """Keys after the emitted rules, and whether the reversed ones bring them back."""
    used = rules(mapping, **options)
    made = [renamed(used, key) for key in keys]
    back = [rule.reverse_transform() for rule in reversed(used)]
    return made, [renamed(back, key) for key in made] == list(keys)


def tree(*keys, shape=(2, 2)):
    return KeyTree.from_leaves([(key, shape, "float32") for key in keys])


def test_source_registers_what_it_says_when_it_is_run():
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    from treealign.dialects.transformers.entries import registry_restored

    text = emit([PrefixChange(remove="vision_model", under="tower"), Rename("**.attn", "**.self_attn")], name="mine")
    with registry_restored():
        exec(text, {})
        found = get_checkpoint_conversion_mapping("mine")
    assert [type(rule).__name__ for rule in found] == ["PrefixChange", "WeightRenaming"]
    assert get_checkpoint_conversion_mapping("mine") is None


def test_half_a_segment_is_never_touched():
    made, back = there_and_back([Rename("**.attn", "**.self_attn")], "h.0.attn.w", "h.0.attn_norm.w", "x.attn")
    assert (made, back) == (["h.0.self_attn.w", "h.0.attn_norm.w", "x.self_attn"], True)


def test_several_captures_become_several_rules_of_one_group_each():
    mapping = [Rename("layers.{i}.experts.{j}.w1", "blocks.{i}.mlp.{j}.up")]
    assert there_and_back(mapping, "layers.3.experts.12.w1.bias") == (["blocks.3.mlp.12.up.bias"], True)


def test_an_index_that_shifts_is_written_out():
    mapping = [Rename("blk.{i:1..12}", "layers.{i-1}")]
    assert there_and_back(mapping, "blk.1.w", "blk.12.w") == (["layers.0.w", "layers.11.w"], True)


def test_an_index_that_shifts_without_end_needs_the_keys():
    mapping = [Rename("blk.{i+1}", "layers.{i}")]
    with pytest.raises(TreealignError, match="no rule"):
        rules(mapping)
    given = tree("blk.1.w", "blk.2.w")
    assert there_and_back(mapping, *given.keys, checkpoint=given) == (["layers.0.w", "layers.1.w"], True)


TAILS = ("conv", "norm")
BRANCHES = [
    f"fpn.{i}.cv{j}.0.b.{k}.{m}.weight" for i in (0, 1) for j in (2, 3) for k in (0, 1) for m in ("conv", "norm")
]
SHIFTED = {
    "a tail behind the index, and another rule for other tails": (
        [
            Rename(f"fpn.{{i:0..1}}.cv{{j:2..3}}.0.b.{{k}}.{m}.weight$", f"p.{{i}}.rep{{j-1}}.b.{{k}}.{m}.weight$")
            for m in TAILS
        ],
        BRANCHES,
    ),
    "two shifts": (
        [Rename("s{i:1..2}.x.{k}.t{j:3..4}", "s.{i-1}.y.{k}.t.{j-3}")],
        [f"s{i}.x.{k}.t{j}.w" for i in (1, 2) for j in (3, 4) for k in (0, 11)],
    ),
    "two shifts within the same names": (
        [Rename("a.{i:0..2}.b.{j:1..3}", "a.{i+1}.b.{j-1}")],
        [f"a.{i}.b.{j}.w" for i in range(3) for j in range(1, 4)],
    ),
    "ranges that touch": (
        [Rename("f.{i:0..3}.c", "g.{i}.c"), Rename("f.{i:4..7}.c", "k.{i-4}.c")],
        [f"f.{i}.c.w" for i in range(8)],
    ),
    "a range that is carried over in front of what changes": (
        [Rename("h.{i:3..25}.m.{j}.a", "h.{i}.n.{j}.b")],
        [f"h.{i}.m.{j}.a.w" for i in range(30) for j in (0, 1)],
    ),
    "a choice in front of the index": (
        [Rename("**.{p:fpn|pan}.{k}.cv{j:2..3}", "**.{p}.{k}.rep{j-1}")],
        [f"m.{p}.{k}.cv{j}.w" for p in ("fpn", "pan", "top") for k in (0, 1) for j in (1, 2, 3)],
    ),
    "below a module, anywhere": (
        [Rename("cv{j:2..3}", "rep{j-1}", under="**.tower.{t}")],
        [f"{top}tower.{t}.cv{j}.w" for top in ("", "a.") for t in (0, 1) for j in (1, 2, 3)],
    ),
    "an index glued to the end of the key": (
        [Rename("**.w{i:1..2}_{j:1..2}$", "**.mlp.{i-1}.{j-1}.weight$")],
        [f"x.{k}.w{i}_{j}" for k in (0, 1) for i in (1, 2) for j in (1, 2)],
    ),
    "a series against itself": ([Rename("l.{i:0..14}", "l.{i+1}")], [f"l.{i}.w" for i in range(15)]),
    "two indices that change places": (
        [Rename("grp.{i:0..1}.lay.{j:0..2}.q", "lay.{j}.grp.{i}.q")],
        [f"grp.{i}.lay.{j}.q.w" for i in (0, 1) for j in (0, 1, 2)],
    ),
}


@pytest.mark.parametrize("given", [True, False], ids=["for these keys", "whatever the keys"])
@pytest.mark.parametrize("name", SHIFTED)
def test_what_no_group_can_carry_over_is_written_out_value_by_value(name, given):
    mapping, keys = SHIFTED[name]
    wanted = [targets[0] for targets in ConversionMapping(mapping).map_keys(keys, converted=False).values()]
    assert there_and_back(mapping, *keys, **{"checkpoint": tree(*keys)} if given else {}) == (wanted, True)


def test_a_choice_is_an_alternation():
    used = rules([Rename("**.{part:q|k}_linear", "**.{part}_proj")])
    assert [renamed(used, f"a.{p}_linear.weight") for p in "qkv"] == [
        "a.q_proj.weight",
        "a.k_proj.weight",
        "a.v_linear.weight",
    ]


def test_two_choices_are_one_alternation_of_what_they_hold_together():
    mapping = [Rename("{a:x|y}.{b:l|m}", "new.{a}.{b}")]
    assert there_and_back(mapping, "x.l.w", "y.m.w", "x.n.w") == (["new.x.l.w", "new.y.m.w", "x.n.w"], True)


def test_a_range_touches_nothing_beyond_it():
    made, back = there_and_back([Rename("h.{i:3..5}.a", "h.{i}.b")], "h.2.a.w", "h.3.a.w", "h.5.a.w", "h.6.a.w")
    assert (made, back) == (["h.2.a.w", "h.3.b.w", "h.5.b.w", "h.6.a.w"], True)


def test_the_end_of_a_key_is_held():
    mapping = [Rename("**.position_embedding$", "**.position_embedding.weight$")]
    assert there_and_back(mapping, "v.position_embedding") == (["v.position_embedding.weight"], True)


@pytest.mark.parametrize("pairs", [{"norm0": "norm1", "norm1": "norm2"}, {"a": "b", "b": "a"}])
def test_chains_and_swaps_are_done_at_once(pairs):
    need_rule("GroupWeightRename")
    used = rules([Rename({f"**.{old}": f"**.{new}" for old, new in pairs.items()})])
    assert [type(rule).__name__ for rule in used] == ["GroupWeightRename"]
    assert [renamed(used, f"h.0.{old}.w") for old in pairs] == [f"h.0.{new}.w" for new in pairs.values()]


def test_a_chain_that_counts_down_is_done_one_after_the_other():
    need_rule("GroupWeightRename")
    mapping = [Rename({"**.norm2": "**.norm1", "**.norm1": "**.norm0"})]
    assert there_and_back(mapping, "h.norm1.w", "h.norm2.w") == (["h.norm0.w", "h.norm1.w"], True)


def test_a_split_into_unequal_parts_reads_them_off_the_model():
    need_rule("Split")
    split = Convert("**.attn.qkv", ["**.attn.q", "**.attn.k", "**.attn.v"], [operations.Split(0, (8, 2, 2))])
    (rule,) = rules([split])
    assert type(rule.operations[0]).__name__ == "Split"


def test_a_join_of_unequal_parts_is_refused_with_the_reason():
    join = Convert(["**.q", "**.k", "**.v"], "**.qkv", [operations.Concat(0, (8, 2, 2))])
    with pytest.raises(TreealignError, match=r"8 \+ 2 \+ 2.*cuts equal ones"):
        emit([join])


TURNED = {
    "a kernel of one point": (operations.Reshape((8, 4, 1), (8, 4)), ["SplitModulelist"]),
    "a table with one level more": (operations.Reshape((5, 8), (1, 5, 8)), ["MergeModulelist"]),
    "a flat kernel": (operations.Reshape((8, 3, 2, 2), (8, 12)), ["MergeModulelist", "Conv3dToLinear"]),
    "a kernel set up again": (operations.Reshape((8, 12), (8, 3, 2, 2)), ["LinearToConv3d", "SplitModulelist"]),
    "all dimensions turned": (operations.Permute((3, 2, 0, 1)), ["Transpose"] * 3),
}


@pytest.mark.parametrize("what", TURNED)
@pytest.mark.parametrize("name", ["weight", "other"])
def test_reshapes_and_permutations_are_made_of_what_transformers_has(what, name):
    """Emission runs them on numbers, there and back."""
    operation, expected = TURNED[what]
    (rule,) = rules([Convert(f"**.conv.{name}$", "**.proj.weight$", [operation])])
    assert [type(step).__name__ for step in rule.operations] == expected


@pytest.mark.parametrize("shapes", [((8, 4, 3), (8, 12)), ((2, 4, 8), (8, 8)), ((8,), (1, 1, 8))])
def test_reshapes_that_transformers_could_not_undo_are_refused_by_name(shapes):
    with pytest.raises(TreealignError, match="Reshape"):
        emit([Convert("**.conv$", "**.proj$", [operations.Reshape(*shapes)])])


def test_a_converter_of_a_range_touches_no_index_beyond_it():
    split = Convert("blk.{i:2..3}.qk", ["blk.{i}.q", "blk.{i}.k"], [operations.Split(0, (4, 4))])
    met = [any(rule.rename_source_key(f"blk.{i}.qk.weight")[1] for rule in rules([split])) for i in range(1, 5)]
    assert met == [False, True, True, False]


def test_a_converter_of_an_index_that_shifts_without_end_needs_the_keys():
    split = [Convert("blk.{i+1}.qk", ["layers.{i}.q", "layers.{i}.k"], [operations.Split(0, (4, 4))])]
    with pytest.raises(TreealignError, match="pass the checkpoint"):
        rules(split)
    assert len(rules(split, checkpoint=tree("blk.1.qk", "blk.2.qk", shape=(8, 2)))) == 2


def test_operations_that_transformers_lacks_are_refused_by_name():
    with pytest.raises(TreealignError, match="FoldWeightNorm"):
        emit([Convert(["**.weight_g", "**.weight_v"], "**.weight", [operations.FoldWeightNorm(0)])])


def test_experts_are_merged_by_one_converter():
    experts = [operations.Stack(0, 4), operations.Concat(1, (4, 4))]
    convert = Convert(["**.experts.{j:0..3}.gate", "**.experts.{j}.up"], "**.experts.gate_up", experts)
    (rule,) = rules([convert])
    assert [type(step).__name__ for step in rule.operations] == ["MergeModulelist", "Concatenate"]


def test_a_key_mapping_is_a_dict_of_patterns_that_transformers_reverses():
    from transformers.core_model_loading import WeightRenaming

    mapping = emit([PrefixChange(remove="model", under="text"), Rename("**.attn", "**.self_attn")], "key_mapping")
    used = [WeightRenaming(source, target) for source, target in mapping.items()]
    assert renamed(used, "text.model.h.attn.w") == "text.h.self_attn.w"
    assert renamed([rule.reverse_transform() for rule in reversed(used)], "text.h.self_attn.w") == "text.model.h.attn.w"


@pytest.mark.parametrize(
    "transform",
    [
        Convert("**.qkv", ["**.q", "**.k"], [operations.Split(0, (2, 2))]),
        Rename({"**.a": "**.b", "**.b": "**.a"}),
    ],
)
def test_what_is_more_than_renaming_is_no_key_mapping(transform):
    with pytest.raises(TreealignError):
        emit([transform], "key_mapping")


def test_two_converters_never_share_a_pattern():
    need_rule("Split")
    both = [
        Convert(f"{tower}.h.{{i}}.qkv", [f"{tower}.h.{{i}}.q", f"{tower}.h.{{i}}.k"], [operations.Split(0, sizes)])
        for tower, sizes in (("text", (8, 4)), ("vision", (2, 2)))
    ]
    given = KeyTree.from_leaves(
        [("text.h.0.qkv.weight", (12, 2), "float32"), ("vision.h.0.qkv.weight", (4, 2), "float32")]
    )
    patterns = [rule.source_patterns[0] for rule in rules(both, checkpoint=given)]
    assert len(set(patterns)) == 2


@pytest.mark.parametrize("name", CASES)
def test_a_suggestion_for_a_model_of_transformers_is_emitted(name, empty_registry):
    case = next(read_cases("transformers", name))
    checkpoint, model = case.trees()
    text = emit(suggest(checkpoint, model).mapping.accept(), checkpoint=checkpoint, model=model)
    assert "register_checkpoint_conversion_mapping(" in text


LLAVA = [
    Rename("language_model.lm_head", "lm_head"),
    Rename("{part:language_model|multi_modal_projector|vision_tower}", "model.{part}"),
    PrefixChange(remove="vision_model", under="model.vision_tower"),
    PrefixChange(remove="model", under="model.language_model"),
]


def llava():
    return next(read_cases("transformers", "LlavaForConditionalGeneration")).trees()


def test_what_transformers_has_already_is_not_said_again():
    checkpoint, model = llava()
    assert "nothing to register" in emit(LLAVA, checkpoint=checkpoint, model=model)


def test_an_entry_is_of_the_class_that_was_meant_and_of_no_other(empty_registry):
    checkpoint, model = llava()
    before = set(empty_registry)
    exec(emit(LLAVA, checkpoint=checkpoint, model=model), {})
    assert set(empty_registry) - before == {"LlavaForConditionalGeneration"}


def test_a_model_type_that_other_classes_share_is_not_taken_over(empty_registry):
    checkpoint, model = llava()
    before = set(empty_registry)
    exec(emit(LLAVA, checkpoint=checkpoint, model=model, name="llava"), {})
    assert set(empty_registry) - before == {"LlavaForConditionalGeneration"}
    with pytest.raises(TreealignError, match="LlavaForConditionalGeneration"):
        emit(LLAVA, checkpoint=checkpoint, name="llava")


def test_an_entry_of_a_part_is_left_to_transformers_where_it_says_the_same(empty_registry):
    from transformers.core_model_loading import PrefixChange as Theirs

    checkpoint, model = llava()
    tower = model.modules["model.vision_tower"]
    empty_registry[tower] = [Theirs(prefix_to_remove="vision_model")]
    text = emit(LLAVA, checkpoint=checkpoint, model=model)
    assert f"# {tower} keeps the entry that transformers has" in text
    assert "vision_model" not in text


def outcomes(text):
    """Name of each test of an emitted file to whether it passes, with what is registered just now."""

    def passes(test):
        try:
            test()
        except Exception:
            return False
        return True

    scope = {"__name__": "emitted_tests"}
    exec(text, scope)
    return {name: passes(test) for name, test in scope.items() if name.startswith("test_")}


def test_emitted_tests_pass_for_the_entry_and_fail_without_it():
    from treealign.dialects.transformers.entries import registry_restored

    mapping = [Rename("blocks", "layers"), Rename("**.attn", "**.self_attn")]
    given = tree("blocks.0.attn.w", "blocks.1.attn.w", "norm.w")
    text = emit(mapping, checkpoint=given, name="mine", tests=True)
    with registry_restored():
        exec(emit(mapping, checkpoint=given, name="mine"), {})
        assert list(outcomes(text).values()) == [True] * 4
    assert list(outcomes(text).values()) == [False] * 4


def test_emitted_tests_fail_for_an_entry_that_is_changed(empty_registry):
    from transformers.core_model_loading import WeightRenaming

    checkpoint, model = llava()
    source, text = (emit(LLAVA, checkpoint=checkpoint, model=model, tests=tests) for tests in (False, True))
    exec(source, {})
    parts = [model.modules[""]]
    assert set(outcomes(text).values()) == {True}
    unnoticed = []
    for name in parts:
        rules = empty_registry.pop(name)
        changes = [None, [], rules[1:], rules[:-1], [*rules, WeightRenaming("weight", "wait")]]
        for changed in [*changes, [*rules, WeightRenaming("nowhere", "somewhere")]]:
            if changed is not None:
                empty_registry[name] = changed
            unnoticed += [(name, changed)] if False not in outcomes(text).values() else []
        empty_registry[name] = rules
    assert unnoticed == []


def test_emitted_tests_take_an_entry_that_transformers_has_for_granted(empty_registry):
    from transformers.core_model_loading import PrefixChange as Theirs
    from transformers.core_model_loading import WeightRenaming

    checkpoint, model = llava()
    tower = model.modules["model.vision_tower"]
    # a rule that this checkpoint does not use is the business of whoever registered it
    empty_registry[tower] = [Theirs(prefix_to_remove="vision_model"), WeightRenaming("nowhere", "somewhere")]
    text = emit(LLAVA, checkpoint=checkpoint, model=model, tests=True)
    exec(emit(LLAVA, checkpoint=checkpoint, model=model), {})
    assert set(outcomes(text).values()) == {True}
    empty_registry[tower] = []
    assert False in outcomes(text).values()


def test_what_was_made_up_stands_in_no_rule():
    """Names without the level are possible too, and no rule keeps them apart: without keys that is refused."""
    mapping = [Rename("{part:text|vision}", "model.{part}"), PrefixChange(remove="tower", under="model.vision")]
    with pytest.raises(TreealignError, match=r"whatever the keys(?s:.)*pass the checkpoint"):
        emit(mapping, name="mine")
    text = emit(mapping, name="mine", checkpoint=tree("vision.tower.a", "vision.tower.b", "text.a"))
    assert "weight" not in text


def test_a_converter_from_made_up_names_touches_no_other_place():
    from transformers.core_model_loading import WeightConverter

    parts = [operations.Split(0, (4, 4))]
    for under, place in (("", "layers.3."), ("tower", "tower.")):
        head = "layers.{i}." if not under else ""
        (rule,) = rules([Convert(f"{head}a.qk", [f"{head}a.q", f"{head}a.k"], parts, under=under)])
        assert isinstance(rule, WeightConverter)
        met = [rule.rename_source_key(f"{where}a.qk.bias")[1] is not None for where in (place, f"eye.{place}")]
        assert met == [True, False]


def test_a_converter_that_would_hold_a_made_up_name_is_refused_without_keys():
    turned = [Convert("x.y", "x", [operations.Permute((1, 0))])]
    with pytest.raises(TreealignError, match=r"whatever the keys(?s:.)*pass the checkpoint"):
        emit(turned)
    assert "kernel" in emit(turned, checkpoint=tree("x.y.kernel"))


TENSORS = "test_tensors_are_converted_and_come_back"
FUSED = Convert("**.qkv", ["**.q", "**.k", "**.v"], [operations.Split(0, (4, 4, 4))])
EXPERTS = Convert(
    ["**.experts.{j:0..3}.gate", "**.experts.{j}.up"],
    "**.experts.both",
    [operations.Stack(0, 4), operations.Concat(1, (6, 6))],
)
WHOLE = KeyTree.from_leaves(
    [
        *((f"blocks.{i}.attn.qkv.weight", (12, 4), None) for i in range(2)),
        *(
            (f"blocks.{i}.experts.{j}.{part}.weight", (6, 4), None)
            for i in range(2)
            for j in range(4)
            for part in ("gate", "up")
        ),
    ]
)


def converting(registry):
    """The emitted tests of a mapping that renames and converts, its entry registered; and what that entry holds."""
    mapping = [Rename("blocks", "layers"), FUSED, EXPERTS]
    exec(emit(mapping, checkpoint=WHOLE, name="mine"), {})
    return emit(mapping, checkpoint=WHOLE, name="mine", tests=True), registry["mine"]


def other_order(rule):
    return type(rule)(rule._original_source_patterns, rule._original_target_patterns[::-1], rule.operations)


def other_dim(rule, at):
    made = deepcopy(rule)
    made.operations[at].dim = 1 - made.operations[at].dim
    return made


def test_emitted_tests_convert_tensors_and_pass(empty_registry):
    text, _ = converting(empty_registry)
    found = outcomes(text)
    assert found[TENSORS]
    assert set(found.values()) == {True}


BROKEN = {
    "no renaming": lambda renaming, fused, experts: [fused, experts],
    "no split": lambda renaming, fused, experts: [renaming, experts],
    "no experts": lambda renaming, fused, experts: [renaming, fused],
    "parts in another order": lambda renaming, fused, experts: [renaming, other_order(fused), experts],
    "split elsewhere": lambda renaming, fused, experts: [renaming, other_dim(fused, 0), experts],
    "stacked elsewhere": lambda renaming, fused, experts: [renaming, fused, other_dim(experts, 0)],
    "joined elsewhere": lambda renaming, fused, experts: [renaming, fused, other_dim(experts, 1)],
}


@pytest.mark.parametrize("how", BROKEN)
def test_emitted_tests_fail_for_a_conversion_that_is_broken(empty_registry, how):
    text, rules_ = converting(empty_registry)
    empty_registry["mine"] = BROKEN[how](*rules_)
    assert not outcomes(text)[TENSORS]


def test_emitted_tests_need_transformers_and_torch_only(tmp_path):
    mapping = [Rename("blocks", "layers"), FUSED, EXPERTS]
    for tests in (False, True):
        text = emit(mapping, checkpoint=WHOLE, name="mine", tests=tests)
        (tmp_path / ("test_mine.py" if tests else "conftest.py")).write_text(text)
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['treealign'] = None\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:treealign", str(tmp_path)]
    quiet = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=quiet, check=False)
    assert (done.returncode, "5 passed" in done.stdout) == (0, True), done.stdout


def test_heads_that_transformers_reads_of_a_config_stand_in_the_emitted_tests(empty_registry):
    from transformers import LlamaConfig, LlamaModel

    need_rule("PermuteForRope", argument="inverse")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 8}
    with torch.device("meta"):
        model = LlamaModel(LlamaConfig(num_attention_heads=2, **sizes))
    turned = operations.RotaryPermute(2, 4)
    mapping = [Convert(f"**.{part}_old", f"**.{part}_proj", [turned]) for part in "qk"]
    with refusal_left_out():
        text = emit(mapping, model=model, tests=True)
    exec(emit(mapping, model=model), {})
    assert "SimpleNamespace(num_attention_heads=2)" in text
    assert outcomes(text)[TENSORS]


def test_the_verb_prints_source_that_runs(tmp_path):
    ConversionMapping([Rename("**.attn", "**.self_attn")]).to_json(tmp_path / "mapping.json")
    command = [sys.executable, "-m", "treealign.cli", "emit", tmp_path / "mapping.json", "--name", "mine"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout)["emitted"].startswith('"""Conversion mapping of mine')


@pytest.mark.parametrize("dialect", ["transformers", "key_mapping", "vllm", "mmengine", "python", "timm", "torchtitan"])
def test_a_mapping_that_touches_none_of_the_keys_is_refused_not_emitted_as_nothing(dialect):
    with pytest.raises(TreealignError, match=r"touches none of the keys(?s:.)*layers"):
        emit([Rename("blocks", "layers")], dialect, checkpoint=tree("layers.0.w", "layers.1.w"))


def test_an_unknown_dialect_is_named_with_the_known_ones():
    with pytest.raises(TreealignError, match="key_mapping"):
        emit([Rename("a", "b")], "klingon")


def test_emitted_rules_load_numbers_as_the_mapping_does():
    need_rule("Split")
    split = Convert("**.qkv", ["**.q", "**.k", "**.v"], [operations.Split(0, (8, 2, 2))])
    (rule,) = rules([split])
    rule.add_tensor("h.q.weight", "h.qkv.weight", rule.source_patterns[0], torch.arange(24).reshape(12, 2))
    model = torch.nn.Module()
    model.h = torch.nn.ModuleDict({n: torch.nn.Linear(2, s, bias=False) for n, s in (("q", 8), ("k", 2), ("v", 2))})
    made = rule.convert("h.q.weight", model=model)
    assert {key: len(value) for key, value in made.items()} == {"h.q.weight": 8, "h.k.weight": 2, "h.v.weight": 2}


def test_source_fits_79_columns_where_names_let_it():
    experts = [operations.Stack(0, 4), operations.Concat(1, (4, 4))]
    patterns = ["**.experts.{j:0..3}.a_rather_long_name.weight", "**.experts.{j}.another_long_name.weight"]
    text = emit([Convert(patterns, "**.experts.both", experts)], name="AModelWithQuiteALongNameForItsDocstring")
    assert max(map(len, text.splitlines())) <= 79
