"""What is emitted for loaders other than transformers does there what the mapping does here, or is refused."""

from __future__ import annotations

import re
import subprocess
import sys
import types

import pytest
import torch
from hypothesis import given, settings
from loaders import WeightsMapper, install, revised
from strategies import mappings_and_keys

from treealign import ConversionMapping, Convert, KeyTree, PrefixChange, Rename, TreealignError, emit, operations
from treealign.dialects.reading import read_mapping
from treealign.mapping.execution import run as execute

SWAP = Rename({"**.a": "**.b", "**.b": "**.a"})
EXPERTS = Convert(
    ["**.experts.{j:0..3}.gate", "**.experts.{j}.up"],
    "**.experts.gate_up",
    [operations.Stack(0, 4), operations.Concat(1, (4, 4))],
)
SPLIT = Convert("**.attn.qkv", ["**.attn.q", "**.attn.k", "**.attn.v"], [operations.Split(0, (8, 2, 2))])
RENAMES = [
    PrefixChange(remove="model"),
    PrefixChange(add="tower", under="vision"),
    Rename("layers.{i}.attn", "blocks.{i}.mixer"),
    Rename("**.gamma$", "**.weight$"),
    Rename("**.{part:q|k}_linear", "**.{part}_proj"),
    SWAP,
    Rename({"**.norm0": "**.norm1", "**.norm1": "**.norm2"}),
    Rename("blk.{i:1..3}", "stage.{i-1}"),
    Rename("**.fc", "**.dense", under="head.{k}"),
]


@pytest.fixture
def loaders(monkeypatch):
    """vllm and torchtitan with what emitted code imports from them."""
    install(monkeypatch)


def executed(text):
    scope = {"__name__": "emitted"}
    exec(text, scope)
    return scope


def tree(*keys, shape=(2, 2)):
    return KeyTree.from_leaves([(key, shape, "float32") for key in keys])


def state_of(mapping, keys):
    """A state dict with numbers of its own in each tensor."""
    shapes = {"gate": (4, 3), "up": (4, 3), "qkv": (12, 3)}
    return {
        key: torch.arange(n * 100, n * 100 + 36)[: 12 if "experts" in key else 36].reshape(
            next((s for part, s in shapes.items() if part in key), (6, 6))
        )
        for n, key in enumerate(keys)
    }


KEYS = (
    *(f"model.h.{i}.experts.{j}.{part}" for i in range(2) for j in range(4) for part in ("gate", "up")),
    *("model.h.0.attn.qkv.weight", "model.h.0.a.weight", "model.h.0.b.weight", "model.head.weight"),
)
EVERYTHING = ConversionMapping([PrefixChange(remove="model"), SWAP, EXPERTS, SPLIT])


def everything():
    state = state_of(EVERYTHING, KEYS)
    state = {k: v[:, :3] if k.endswith(("gate", "up")) else v for k, v in state.items()}
    return state, dict(EVERYTHING.apply(state))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# -- loaders that only rename ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", RENAMES, ids=repr)
def test_vllm_maps_the_names_as_the_mapping_does(transform, loaders):
    mapping = ConversionMapping([transform])
    mapper = executed(emit(mapping, "vllm"))["hf_to_vllm_mapper"]
    keys = example_keys(mapping)
    assert {key: mapper.map_name(key) for key in keys} == {k: v[0] for k, v in mapping.map_keys(keys).items()}


@pytest.mark.parametrize("transform", RENAMES, ids=repr)
def test_mmengine_revises_the_keys_as_the_mapping_does(transform):
    mapping = ConversionMapping([transform])
    pairs = executed(emit(mapping, "mmengine"))["revise_keys"]
    keys = example_keys(mapping)
    assert {key: revised(pairs, key) for key in keys} == {k: v[0] for k, v in mapping.map_keys(keys).items()}


def example_keys(mapping):
    from treealign.dialects.transformers.sides import sample_keys

    return [*sample_keys(mapping), "zz.other.weight", "layers_norm.weight", "modelling.weight"]


def test_fixed_text_in_front_is_a_prefix_for_vllm(loaders):
    text = emit([Rename("vision", "model.vision")], "vllm", checkpoint=tree("vision.a", "visionary.b"))
    mapper = executed(text)["hf_to_vllm_mapper"]
    assert mapper.orig_to_new_prefix == {"vision.": "model.vision."}


def test_a_prefix_that_has_to_come_before_a_regular_expression_is_one_too(loaders):
    mapping = [PrefixChange(remove="a"), Rename("l.{i}.x", "l.{i}.y")]
    mapper = executed(emit(mapping, "vllm", checkpoint=tree("a.l.0.x")))["hf_to_vllm_mapper"]
    assert (mapper.map_name("a.l.0.x"), mapper.orig_to_new_prefix) == ("l.0.y", {})


@pytest.mark.parametrize("dialect", ["vllm", "mmengine"])
def test_conversions_are_refused_with_the_transform_and_a_hint(dialect):
    with pytest.raises(TreealignError, match=r"this mapping (?s:.)*converts(?s:.)*qkv(?s:.)*hint"):
        emit([SPLIT], dialect)


JOINED = [
    Rename("h", "layers"),
    Convert(["**.q_proj", "**.k_proj", "**.v_proj"], "**.qkv_proj", [operations.Concat(0, (8, 2, 2))]),
    Convert(["**.w1", "**.w3"], "**.gate_up_proj", [operations.Concat(0, (6, 6))]),
]
JOINED_SHAPES = {
    **{f"h.{n}.attn.{part}_proj.weight": (rows, 8) for n in range(2) for part, rows in (("q", 8), ("k", 2), ("v", 2))},
    **{f"h.{n}.mlp.{part}.weight": (6, 8) for n in range(2) for part in ("w1", "w3")},
    **{f"h.{n}.attn.q_proj_norm.weight": (8,) for n in range(2)},
}
JOINED_TREE = KeyTree.from_leaves([(key, shape, "float32") for key, shape in JOINED_SHAPES.items()])


def test_what_a_mapping_joins_by_rows_is_stacked_by_vllm(loaders):
    scope = executed(emit(JOINED, "vllm", checkpoint=JOINED_TREE))
    assert scope["hf_to_vllm_mapper"].orig_to_new_stacked == {
        ".q_proj.": (".qkv_proj.", "q"),
        ".k_proj.": (".qkv_proj.", "k"),
        ".v_proj.": (".qkv_proj.", "v"),
        ".w1.": (".gate_up_proj.", 0),
        ".w3.": (".gate_up_proj.", 1),
    }
    assert scope["packed_modules_mapping"] == {
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["w1", "w3"],
    }


def test_what_is_stacked_for_vllm_reads_back_as_the_same_conversions(loaders):
    mapper = executed(emit(JOINED, "vllm", checkpoint=JOINED_TREE))["hf_to_vllm_mapper"]
    found = read_mapping(mapper, "vllm", JOINED_TREE)
    wanted, made = (
        {s.sources: s[1:3] for s in ConversionMapping(m).plan(JOINED_TREE.keys)} for m in (JOINED, found.mapping)
    )
    assert (found.unread, made) == ((), wanted)


TALL, WIDE = operations.Concat(0, (4, 4)), operations.Concat(1, (4, 4))
TALLER = Convert(["**.a.w", "**.b.w"], "**.c.w", [TALL])


@pytest.mark.parametrize(
    ("convert", "shapes", "reason"),
    [
        (EXPERTS, {f"h.experts.{j}.{p}": (4, 3) for j in range(4) for p in ("gate", "up")}, "FusedMoE"),
        (SPLIT, {"h.attn.qkv": (12, 3)}, "which vLLM keeps as one"),
        (
            Convert(["**.a", "**.b"], "**.c", [operations.Concat(1, (4, 4))]),
            {"h.a": (4, 4), "h.b": (4, 4)},
            "converts otherwise",
        ),
        (Convert(["**.x{i}a", "**.x{i}b"], "**.y{i}", [TALL]), {"h.x1a": (4, 4), "h.x1b": (4, 4)}, "by fixed text"),
        # the text stands in another name first
        (TALLER, {"h.a.z.a.w": (4, 4), "h.a.z.b.w": (4, 4)}, "would not do"),
        # this one is left alone by the mapping
        (
            Convert(["**.a.w", "**.b.w"], "**.c.w", [TALL]),
            {"h.a.w": (4, 4), "h.b.w": (4, 4), "h.a.v": (4, 4)},
            "would not do",
        ),
    ],
)
def test_what_vllm_cannot_stack_is_refused_with_the_reason(convert, shapes, reason):
    given = KeyTree.from_leaves([(key, shape, "float32") for key, shape in shapes.items()])
    with pytest.raises(TreealignError, match=reason):
        emit([convert], "vllm", checkpoint=given)


def test_what_is_stacked_is_seen_on_keys_only():
    with pytest.raises(TreealignError, match=r"on keys only(?s:.)*pass the checkpoint"):
        emit(JOINED, "vllm")


@pytest.mark.parametrize("dialect", ["vllm", "mmengine", "python"])
def test_a_shift_without_end_needs_the_keys(dialect):
    mapping = [Rename("blk.{i+1}", "layers.{i}")]
    with pytest.raises(TreealignError, match=r"value by value(?s:.)*pass the checkpoint"):
        emit(mapping, dialect)
    assert "layers" in emit(mapping, dialect, checkpoint=tree("blk.1.w", "blk.2.w"))


@given(mappings_and_keys())
@settings(max_examples=60)
def test_pairs_for_mmengine_come_back_as_a_mapping_that_does_the_same(drawn):
    transforms, keys = drawn
    mapping = ConversionMapping(t for t in transforms if not isinstance(t, Convert))
    try:
        checkpoint = tree(*dict.fromkeys(keys))
        pairs = emit(mapping, "mmengine", checkpoint=checkpoint, live=True)
        meant = {k: v[0] for k, v in mapping.map_keys(checkpoint).items()}
    except TreealignError:
        return
    assert {key: revised(pairs, key) for key in meant} == meant
    found = read_mapping(pairs, "mmengine", keys)
    assert found.run(meant) == meant
    if not found.unread:
        assert {k: v[0] for k, v in found.mapping.map_keys(meant, converted=False).items()} == meant


# -- loaders that convert ----------------------------------------------------------------------------------------------


def test_plain_functions_convert_and_bring_every_tensor_back():
    state, wanted = everything()
    made = executed(emit(EVERYTHING, "python", checkpoint=tree_of(state)))
    assert same(made["checkpoint_to_model"](state), wanted)
    assert same(made["model_to_checkpoint"](wanted), state)


@given(mappings_and_keys())
@settings(max_examples=60)
def test_plain_functions_rename_as_the_mapping_does_and_back(drawn):
    transforms, keys = drawn
    mapping = ConversionMapping(t for t in transforms if not isinstance(t, Convert))
    state = {key: torch.tensor([n]) for n, key in enumerate(dict.fromkeys(keys))}
    try:
        made = executed(emit(mapping, "python", checkpoint=tree_of(state)))
        meant = {new[0]: state[key] for key, new in mapping.map_keys(state).items()}
    except TreealignError:
        return
    assert same(made["checkpoint_to_model"](state), meant)
    assert same(made["model_to_checkpoint"](meant), state)


def test_sizes_that_differ_from_group_to_group_are_looked_up_by_name():
    table = operations.SizeTable.by("i", {0: 4, 1: 6, 2: 6})
    mapping = ConversionMapping([Convert("s.{i}.qk", ["s.{i}.q", "s.{i}.k"], [operations.Split(0, (table, 2))])])
    state = {f"s.{i}.qk.w": torch.arange(n * 3).reshape(n, 3) for i, n in enumerate((6, 8, 8))}
    made = executed(emit(mapping, "python", checkpoint=tree_of(state)))
    wanted = dict(mapping.apply(state))
    assert same(made["checkpoint_to_model"](state), wanted)
    assert same(made["model_to_checkpoint"](wanted), state)
    with pytest.raises(TreealignError, match="no size for"):
        emit(mapping, "python")


def test_a_torchtitan_adapter_converts_both_ways(loaders):
    state, wanted = everything()
    adapter = executed(emit(EVERYTHING, "torchtitan", checkpoint=tree_of(state), name="Adapter"))["Adapter"](None, None)
    assert same(adapter.from_hf(state), wanted)
    assert same(adapter.to_hf(wanted), state)


def test_a_timm_filter_converts_a_checkpoint_and_passes_a_converted_one(loaders):
    state, wanted = everything()
    function = executed(emit(EVERYTHING, "timm", checkpoint=tree_of(state)))["checkpoint_filter_fn"]
    model = types.SimpleNamespace(state_dict=lambda: wanted)
    assert same(function(state, model), wanted)
    assert same(function(wanted, model), wanted)


def test_a_swap_that_no_name_tells_is_refused_for_timm():
    keys = tree("h.a.weight", "h.b.weight")
    with pytest.raises(TreealignError, match="another tensor"):
        emit([SWAP], "timm", checkpoint=keys)


def tree_of(state):
    return KeyTree.from_leaves([(k, tuple(v.shape), "int64") for k, v in state.items()])


def test_emitted_functions_need_no_treealign(tmp_path):
    (tmp_path / "emitted.py").write_text(emit([PrefixChange(add="model")], "python"))
    code = "import emitted, sys; print(emitted.checkpoint_to_model({'a.b': 1}), 'treealign' in sys.modules)"
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'model.a.b': 1} False"


OPERATIONS = [
    ([operations.Concat(0, (3, 1))], [(3, 2), (1, 2)]),
    ([operations.Split(1, (3, 1))], [(2, 4)]),
    ([operations.Stack(1, 3)], [(2, 2)] * 3),
    ([operations.Unstack(0, 3)], [(3, 2)]),
    ([operations.Permute((2, 0, 1))], [(2, 3, 4)]),
    ([operations.Reshape((4, 6), (2, 2, 6))], [(4, 6)]),
    ([operations.Deinterleave(0, (2, 1))], [(6, 2)]),
    ([operations.Interleave(0, (2, 1))], [(6, 2)]),
    ([operations.RotaryPermute(2, 8, 4, 2)], [(16, 3)]),
    ([operations.RotaryUnpermute(2, 8)], [(16, 3)]),
    ([operations.Reorder((2, 0, 1))], [(1,), (2,), (3,)]),
    ([operations.Select(0, ((0, 3), (1, 2)))], [(4, 2)]),
    ([operations.Join(0, ((0, 3), (1, 2)))], [(2, 2), (2, 2)]),
    ([operations.Parallel((operations.Keep(), operations.Permute((1, 0))))], [(2, 3), (2, 3)]),
]


@pytest.mark.parametrize(("steps", "shapes"), OPERATIONS, ids=lambda value: str(value)[:40])
def test_the_code_of_an_operation_does_what_it_does(steps, shapes):
    from treealign.dialects.operation_code import EACH, code

    scope = executed("import torch\n" + EACH)
    tensors = [torch.arange(100 * n, 100 * n + 100)[: torch.Size(s).numel()].reshape(s) for n, s in enumerate(shapes)]
    made = eval(f"list({code(tuple(steps), 't')})", scope | {"t": tensors})
    wanted = execute(tuple(steps), tensors)
    assert len(made) == len(wanted)
    assert all(map(torch.equal, made, wanted))


def test_lossy_operations_are_refused_by_name():
    with pytest.raises(TreealignError, match="FoldWeightNorm"):
        emit([Convert(["**.weight_g", "**.weight_v"], "**.weight", [operations.FoldWeightNorm(0)])], "python")


# -- readers -----------------------------------------------------------------------------------------------------------


def test_a_weights_mapper_is_read_as_prefixes_substrings_and_suffixes():
    mapper = WeightsMapper(
        orig_to_new_prefix={"model.": "language_model.model.", "old.": ""},
        orig_to_new_substr={".attn.": ".self_attn."},
        orig_to_new_suffix={".gamma": ".weight"},
    )
    found = read_mapping(mapper, "vllm")
    assert (list(found.mapping), found.unread) == (
        [
            Rename("**.attn", "**.self_attn"),
            Rename("model", "language_model.model"),
            PrefixChange(remove="old"),
            Rename("**.gamma$", "**.weight$"),
        ],
        (),
    )


STACKED = {".q": (".qkv", "q"), ".k": (".qkv", "k"), ".v": (".qkv", "v")}
PROJECTIONS = {"a.0.q.weight": (8, 6), "a.0.k.weight": (2, 6), "a.0.v.weight": (2, 6), "a.0.q_norm.weight": (3,)}


def stacked(shapes, **more):
    fields = {"orig_to_new_stacked": STACKED, "orig_to_new_prefix": {"a.": "model."}} | more
    return read_mapping(fields, "vllm", KeyTree.from_leaves([(key, shape, None) for key, shape in shapes.items()]))


def test_what_vllm_stacks_is_a_conversion_where_shapes_are_known():
    found = stacked({key: shape for key, shape in PROJECTIONS.items() if "norm" not in key})
    joined = Convert(["**.q", "**.k", "**.v"], "**.qkv", [operations.Concat(0, (8, 2, 2))])
    assert (list(found.mapping), found.unread) == ([Rename("a", "model"), joined], ())


def test_what_vllm_stacks_within_segments_is_reported_for_these_keys():
    found = stacked(PROJECTIONS)
    assert (list(found.mapping), len(found.unread)) == ([Rename("a", "model")], 3)
    assert found.run(["a.0.q_norm.weight"]) == {"a.0.q_norm.weight": "model.0.qkv_norm.weight"}


def test_towers_of_other_sizes_are_stacked_below_their_own_modules():
    shapes = {
        f"{m}.{n}.{p}.bias": (2 + 2 * (m == "eye") + 3 * (p == "q"),)
        for m in ("eye", "text")
        for n in (0, 1)
        for p in "qkv"
    }
    found = stacked(shapes)
    sizes = {convert.under: convert.operations for convert in list(found.mapping)[1:]}
    assert sizes == {"eye": (operations.Concat(0, (7, 4, 4)),), "text": (operations.Concat(0, (5, 2, 2)),)}


def test_what_vllm_stacks_is_named_where_no_shapes_are_known():
    found = read_mapping({"orig_to_new_stacked": STACKED}, "vllm", ["h.q.weight"])
    assert [why for _, why in found.unread] == [found.unread[0][1]] * 3
    assert "pass the checkpoint" in found.unread[0][1]


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"h.q.w": (2,), "h.k.w": (2,)}, "not made of one weight for each"),
        ({f"h.{n}.{p}.w": (n + 1,) for n in (0, 1) for p in "qkv"}, "differ within"),
        ({f"h.{p}.w": () for p in "qkv"}, "no rows"),
    ],
)
def test_shards_that_do_not_show_how_they_lie_are_reported(shapes, reason):
    found = stacked(shapes)
    assert len(found.unread) == 3
    assert reason in found.unread[0][1]


def test_fields_of_a_later_vllm_are_not_passed_over():
    with pytest.raises(TreealignError, match="orig_to_new_other"):
        read_mapping(types.SimpleNamespace(orig_to_new_prefix={"a.": "b."}, orig_to_new_other={"x": "y"}), "vllm")


def test_flags_of_a_regular_expression_count():
    found = read_mapping({"orig_to_new_regex": {re.compile(r"^A\.", re.IGNORECASE): "b."}}, "vllm", ["a.w"])
    assert (found.run(["a.w"]), len(found.unread)) == ({"a.w": "b.w"}, 1)


def test_fixed_text_is_read_as_segments_where_it_is_that_in_the_keys():
    found = read_mapping({"orig_to_new_prefix": {"visual": "model.visual"}}, "vllm", ["visual.a", "head.b"])
    assert list(found.mapping) == [Rename("visual", "model.visual")]


def test_renamings_of_transformers_come_first_for_vllm():
    from transformers.core_model_loading import WeightRenaming

    rules = {"orig_to_new_renaming": [WeightRenaming("^old\\.", "new.")], "orig_to_new_prefix": {"new.": "model."}}
    found = read_mapping(rules, "vllm")
    assert list(found.mapping) == [Rename("old", "new"), Rename("new", "model")]
    assert found.run(["old.w"]) == {"old.w": "model.w"}


def test_what_vllm_drops_is_reported_and_still_run():
    found = read_mapping({"orig_to_new_prefix": {"vision.": None, "text.": "model."}}, "vllm", ["vision.a", "text.b"])
    assert found.run(["vision.a", "text.b"]) == {"vision.a": None, "text.b": "model.b"}
    assert [(rule.old, "drops" in why) for rule, why in found.unread] == [("vision.", True)]


def test_a_substring_within_segments_is_no_key_pattern_but_runs():
    found = read_mapping({"orig_to_new_substr": {"attn": "attention"}}, "vllm", ["h.attn_norm.w"])
    assert (found.run(["h.attn_norm.w"]), len(found.unread)) == ({"h.attn_norm.w": "h.attention_norm.w"}, 1)


@pytest.mark.parametrize(
    ("pair", "transform"),
    [
        ((r"^module\.", ""), PrefixChange(remove="module")),
        ((r"^", "backbone."), PrefixChange(add="backbone")),
        ((r"^backbone\.layers\.(\d+)\.", r"stages.\1."), Rename("backbone.layers.{h1}", "stages.{h1}")),
        ((r"\.(q|k)_lin\.", r".\1_proj."), Rename("**.{h1:q|k}_lin", "**.{h1}_proj")),
    ],
)
def test_what_people_write_for_mmengine_is_read(pair, transform):
    assert list(read_mapping([pair], "mmengine").mapping) == [transform]


@pytest.mark.parametrize("pair", [("layer", "block"), (r"(\d+)\.(\d+)", r"\1"), (r"a.*b", "c"), (r"^a\.b", "c")])
def test_regular_expressions_beyond_key_patterns_are_reported(pair):
    found = read_mapping([pair], "mmengine")
    assert (list(found.mapping), len(found.unread)) == ([], 1)


def test_our_json_comes_back_equal(tmp_path):
    (tmp_path / "m.json").write_text(emit(EVERYTHING, "json"))
    assert read_mapping(tmp_path / "m.json", "json").mapping == EVERYTHING


# -- code that is read by running it -----------------------------------------------------------------------------------


def by_hand(state):
    """What people write: it renames, splits, drops, computes and makes up."""
    made = {}
    for key, tensor in state.items():
        if "rotary" in key:
            continue
        name = key.replace("transformer.h.", "layers.")
        if name.endswith("attn.weight"):
            made |= dict(zip((name.replace("attn", part) for part in "qkv"), tensor.split([4, 2, 2]), strict=True))
        elif name.endswith("position"):
            made[name] = tensor[:3] + tensor[1:]
        else:
            made[name] = tensor
    made["head.bias"] = torch.zeros(5)
    return made


LAYOUT = {"transformer.h.0.attn.weight": (8, 6), "transformer.h.1.attn.weight": (8, 6), "position": (4, 6)}
LAYOUT |= {"transformer.h.0.rotary": (3,), "transformer.h.0.mlp.weight": (5, 6), "transformer.h.1.mlp.weight": (5, 6)}


def layout(**more):
    return KeyTree.from_leaves([(key, shape, "float32") for key, shape in (LAYOUT | more).items()])


def test_a_function_is_read_by_what_it_does_to_numbers():
    found = read_mapping(by_hand, "python", layout())
    names = {key: found.mapping.map_keys([key])[key] for key in LAYOUT if "transformer" in key and "rotary" not in key}
    assert names == {
        **{f"transformer.h.{i}.attn.weight": tuple(f"layers.{i}.{part}.weight" for part in "qkv") for i in (0, 1)},
        **{f"transformer.h.{i}.mlp.weight": (f"layers.{i}.mlp.weight",) for i in (0, 1)},
    }


def test_what_a_function_drops_computes_or_makes_up_is_reported():
    reasons = dict(read_mapping(by_hand, "python", layout()).unread)
    assert {key: why.split(",")[0] for key, why in reasons.items()} == {
        "transformer.h.0.rotary": "it is dropped",
        "position": "it is computed",
        "head.bias": "it is made of nothing that the checkpoint holds",
    }


def test_an_emitted_function_is_read_back_as_its_mapping_does():
    state, _ = everything()
    function = executed(emit(EVERYTHING, "python", checkpoint=tree_of(state)))["checkpoint_to_model"]
    found = read_mapping(function, "python", tree_of(state))
    assert found.unread == ()
    assert same(dict(found.mapping.apply(state)), dict(EVERYTHING.apply(state)))


@pytest.mark.parametrize("keys", [None, ["a.b"], KeyTree.from_leaves([("a.b", None, None)])], ids=str)
def test_a_function_is_not_read_without_shapes(keys):
    with pytest.raises(TreealignError, match=r"(?s)checkpoint"):
        read_mapping(by_hand, "timm", keys)


def test_a_checkpoint_too_large_for_numbers_is_refused():
    with pytest.raises(TreealignError, match=r"(?s)numbers.*small checkpoint"):
        read_mapping(by_hand, "python", layout(huge=(1 << 20, 1 << 20)))
