"""The cases that transformers holds its own loading to, in our words: for our transforms, and for what we emit.

Each case is a mapping, keys, and what they become. It is run on our transforms, forward and back; then emitted for
these keys, and run by transformers' loader and saver (which `emit` does) and rule by rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from releases import need_rule, refusal_left_out

from treealign import ConversionMapping, Convert, KeyTree, PrefixChange, Rename, TreealignError, emit, operations


class Names(NamedTuple):
    name: str
    mapping: list
    keys: dict[str, str]


RENAMED = [
    Names("an exact name", [Rename("norm", "final_norm")], {"norm.weight": "final_norm.weight", "norms.w": "norms.w"}),
    Names(
        "a number stands for any index",
        [Rename("layers.{i}.ln", "layers.{i}.norm")],
        {"layers.0.ln.w": "layers.0.norm.w", "layers.10.ln.w": "layers.10.norm.w", "layers.x.ln.w": "layers.x.ln.w"},
    ),
    Names(
        "letters are no index",
        [Rename("foo.{i}.bar", "foo.{i}.baz")],
        {"foo.1.bar.w": "foo.1.baz.w", "foo.a.bar.w": "foo.a.bar.w"},
    ),
    Names(
        "the first of two that overlap is done first",
        [Rename("model.layers", "layers"), Rename("model", "body")],
        {"model.layers.0.w": "layers.0.w", "model.norm.w": "body.norm.w"},
    ),
    Names(
        "parts with one beginning stay apart",
        [Rename(f"**.attn.{part}", f"**.self_attn.{part}_proj") for part in "qkv"],
        {f"h.0.attn.{part}.weight": f"h.0.self_attn.{part}_proj.weight" for part in "qkv"}
        | {"h.0.attn.qkv.weight": "h.0.attn.qkv.weight"},
    ),
    Names(
        "two hundred patterns at once",
        [Rename(f"old_{n}", f"new_{n}") for n in range(200)],
        {f"old_{n}.w": f"new_{n}.w" for n in range(200)},
    ),
    Names(
        "a start that moves, and a scope below it",
        [Rename("decoder", "encoder"), Rename("attn", "self_attn", under="encoder.layers.{i}")],
        {"decoder.layers.0.attn.w": "encoder.layers.0.self_attn.w", "head.attn.w": "head.attn.w"},
    ),
    Names(
        "a rule for one part touches neither its sibling nor the root",
        [Rename("ln", "norm", under="vision_model")],
        {"vision_model.ln.w": "vision_model.norm.w", "text_model.ln.w": "text_model.ln.w", "ln.w": "ln.w"},
    ),
    Names(
        "a level below a base model, and one nested deeper",
        [Rename("**.tower.ln", "**.tower.norm")],
        {"model.tower.ln.w": "model.tower.norm.w", "tower.ln.w": "tower.norm.w", "a.b.tower.ln.w": "a.b.tower.norm.w"},
    ),
    Names(
        "a chain of names at once",
        [Rename({"**.norm0": "**.norm1", "**.norm1": "**.norm2"})],
        {"h.0.norm0.w": "h.0.norm1.w", "h.0.norm1.w": "h.0.norm2.w"},
    ),
    Names("a level removed at the root", [PrefixChange(remove="bert")], {"bert.a.w": "a.w", "bert.b.w": "b.w"}),
    Names("a level added at the root", [PrefixChange(add="model")], {"a.w": "model.a.w", "b.w": "model.b.w"}),
    Names(
        "a level removed below a part",
        [PrefixChange(remove="vision_model", under="tower")],
        {"tower.vision_model.a.w": "tower.a.w", "head.w": "head.w"},
    ),
    Names(
        "a level added below a part",
        [PrefixChange(add="encoder", under="tower")],
        {"tower.a.w": "tower.encoder.a.w", "head.w": "head.w"},
    ),
]
names = pytest.mark.parametrize("case", RENAMED, ids=lambda case: case.name)


def emitted(case):
    if "chain" in case.name:
        need_rule("GroupWeightRename")
    return emit(case.mapping, live=True, checkpoint=KeyTree.from_leaves([(k, (2,), "float32") for k in case.keys]))


def run(rules, keys):
    from transformers.core_model_loading import dot_natural_key, rename_source_key

    return {key: rename_source_key(key, rules, [])[0] for key in sorted(keys, key=dot_natural_key)}


@names
def test_our_transforms_rename(case):
    mapping = ConversionMapping(case.mapping)
    assert {key: to[0] for key, to in mapping.map_keys(case.keys).items()} == case.keys


@names
def test_our_transforms_rename_back(case):
    mapping = ConversionMapping(case.mapping).reverse
    assert {to[0]: key for key, to in mapping.map_keys(case.keys.values()).items()} == case.keys


@names
def test_emitted_rules_rename(case):
    assert run(emitted(case), case.keys) == case.keys


@names
def test_emitted_rules_rename_back(case):
    back = [rule.reverse_transform() for rule in reversed(emitted(case))]
    assert run(back, case.keys.values()) == {new: old for old, new in case.keys.items()}


@pytest.mark.parametrize("case", [c for c in RENAMED if "chain" in c.name or "level" in c.name], ids=lambda c: c.name)
def test_a_converted_checkpoint_passes_through_emitted_rules(case):
    own = list(case.keys.values())
    made = run(emitted(case), own)
    # the loader keeps a name whose new name the model lacks
    assert {key: new for key, new in made.items() if new != key and new in own} == {}


class Numbers(NamedTuple):
    name: str
    mapping: list
    shapes: dict[str, tuple[int, ...]]


CONVERTED = [
    Numbers(
        "unequal parts of a fused projection",
        [Convert("**.qkv", ["**.q", "**.k", "**.v"], [operations.Split(0, (4, 2, 2))])],
        {"h.0.qkv.weight": (8, 3), "h.1.qkv.weight": (8, 3), "h.0.qkv.bias": (8,)},
    ),
    Numbers(
        "equal thirds",
        [Convert("**.qkv", ["**.q", "**.k", "**.v"], [operations.Split(0, (2, 2, 2))])],
        {"h.0.qkv.weight": (6, 3)},
    ),
    Numbers(
        "experts stacked, gate and up joined, a fused projection in the first layer only",
        [
            Rename("**.moe", "**.mlp"),
            Convert(
                ["**.experts.{j:0..2}.w1", "**.experts.{j}.w3"],
                "**.experts.gate_up",
                [operations.Stack(0, 3), operations.Concat(1, (2, 2))],
            ),
            Convert("**.experts.{j:0..2}.w2", "**.experts.down", [operations.Stack(0, 3)]),
            Convert("layers.0.qkv", ["layers.0.q", "layers.0.k"], [operations.Split(0, (2, 2))]),
        ],
        {f"layers.{i}.moe.experts.{j}.w{w}": (2, 4) for i in range(2) for j in range(3) for w in (1, 2, 3)}
        | {"layers.0.qkv": (4, 4), "layers.1.qkv": (4, 4)},
    ),
    Numbers(
        "a kernel in three dimensions laid flat",
        [Convert("patch.weight", "patch.weight", [operations.Reshape((4, 3, 2, 2, 2), (4, 24))])],
        {"patch.weight": (4, 3, 2, 2, 2)},
    ),
    Numbers(
        "a matrix set up as a kernel in three dimensions",
        [Convert("patch.weight", "patch.weight", [operations.Reshape((4, 24), (4, 3, 2, 2, 2))])],
        {"patch.weight": (4, 24)},
    ),
    Numbers(
        "a start that moves, and a fused projection below it",
        [
            Rename("decoder", "encoder"),
            Convert("attn.qkv", ["attn.q", "attn.k", "attn.v"], [operations.Split(0, (2, 2, 2))], under="encoder"),
        ],
        {"decoder.attn.qkv.weight": (6, 4), "other.attn.qkv.weight": (6, 4)},
    ),
    Numbers(
        "rows of gate and up that take turns",
        [
            Convert(
                "**.gate_up", ["**.gate", "**.up"], [operations.Deinterleave(0, (1, 1)), operations.Split(0, (3, 3))]
            )
        ],
        {"h.0.gate_up.weight": (6, 2)},
    ),
    Numbers(
        "a matrix turned",
        [Convert("**.c_attn", "**.attn", [operations.Permute((1, 0))])],
        {"h.0.c_attn": (2, 5)},
    ),
    Numbers(
        "the same names converted differently in two parts",
        [
            Convert("text.{i}.qkv", ["text.{i}.q", "text.{i}.k"], [operations.Split(0, (3, 1))]),
            Convert("vision.{i}.qkv", ["vision.{i}.q", "vision.{i}.k"], [operations.Split(0, (2, 2))]),
        ],
        {"text.0.qkv": (4, 2), "vision.0.qkv": (4, 2), "vision.1.qkv": (4, 2)},
    ),
]


@pytest.mark.parametrize("case", CONVERTED, ids=lambda case: case.name)
def test_conversions_are_done_and_undone_by_transformers_as_by_us(case):
    from treealign.dialects.transformers.proving import run as load_and_save

    tree = KeyTree.from_leaves([(key, shape, "int64") for key, shape in case.shapes.items()])
    with refusal_left_out():
        rules = emit(case.mapping, live=True, checkpoint=tree)
    state = {key: torch.randint(0, 999, shape) for key, shape in case.shapes.items()}
    wanted = dict(ConversionMapping(case.mapping).apply(state))
    loaded, info, saved = load_and_save(rules, state, {k: tuple(t.shape) for k, t in wanted.items()}, {})
    assert (info.missing_keys, info.unexpected_keys) == (set(), set())
    assert all(torch.equal(loaded[key], wanted[key]) for key in wanted)
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[key], state[key]) for key in state)


class ByHand(NamedTuple):
    """What comes out is worked out here, and not by our transforms."""

    name: str
    mapping: list
    shapes: dict[str, tuple[int, ...]]
    wanted: dict[str, Callable]


def halved(weight, heads=2):
    """Rows of heads from pairs side by side to halves, as the conversion scripts of Llama do it."""
    rows = weight.shape[0] // heads
    return weight.view(heads, rows // 2, 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def paired(weight, heads=2):
    """The other way round."""
    rows = weight.shape[0] // heads
    return weight.view(heads, 2, rows // 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def as_it_is(weight):
    return weight


def stacked(part, experts, of="h.0"):
    return lambda given: torch.stack([given[f"{of}.experts.{j}.{part}"] for j in experts])


def rotated(order, part):
    return lambda given: order(given["vision.0.qkv.weight"].chunk(3)[part])


def rotary(order):
    apart = [operations.Split(0, (8, 8, 8)), operations.Parallel((order(2, 4), order(2, 4), operations.Keep()))]
    return [Convert("**.qkv", ["**.q", "**.k", "**.v"], apart)]


def both(experts):
    return lambda given: torch.cat([stacked(part, experts)(given) for part in ("gate", "up")], dim=1)


def towers(of_text, of_vision):
    """Gate and up of one list of experts, joined for either tower."""
    ranges = {"text": (0, of_text - 1), "vision": (of_text, of_text + of_vision - 1)}
    return [
        Convert(
            [f"**.experts.{{j:{low}..{high}}}.gate", "**.experts.{j}.up"],
            f"**.{tower}.gate_up",
            [operations.Stack(0, high - low + 1), operations.Concat(1, (2, 2))],
        )
        for tower, (low, high) in ranges.items()
    ]


BY_HAND = [
    ByHand(
        "experts of one list, three for a text and two for a vision tower",
        [
            Convert("**.experts.{j:0..2}.up", "**.text.up", [operations.Stack(0, 3)]),
            Convert("**.experts.{j:3..4}.up", "**.vision.up", [operations.Stack(0, 2)]),
            Convert("**.experts.{j:0..2}.down", "**.text.down", [operations.Stack(0, 3)]),
            Convert("**.experts.{j:3..4}.down", "**.vision.down", [operations.Stack(0, 2)]),
        ],
        {f"h.0.experts.{j}.{part}": (2, 3) for j in range(5) for part in ("up", "down")},
        {
            f"h.0.{tower}.{part}": stacked(part, experts)
            for part in ("up", "down")
            for tower, experts in (("text", (0, 1, 2)), ("vision", (3, 4)))
        },
    ),
    *(
        ByHand(
            f"gate and up of one list joined for two towers, {said}",
            towers(*shares),
            {f"h.0.experts.{j}.{part}": (2, 3) for j in range(sum(shares)) for part in ("gate", "up")},
            {
                "h.0.text.gate_up": both(range(shares[0])),
                "h.0.vision.gate_up": both(range(shares[0], sum(shares))),
            },
        )
        for said, shares in (("halves of it", (2, 2)), ("one more for the first", (3, 2)))
    ),
    ByHand(
        "lists of different lengths in two towers",
        [
            Convert(
                "{tower:text|vision}.experts.{j:0..3}.up",
                "{tower}.up",
                [operations.Stack(0, operations.SizeTable.by("tower", {"text": 4, "vision": 2}))],
                counts={"j": operations.SizeTable.by("tower", {"text": 4, "vision": 2})},
            )
        ],
        {f"{tower}.experts.{j}.up": (2, 3) for tower, n in (("text", 4), ("vision", 2)) for j in range(n)},
        {
            f"{tower}.up": lambda given, n=n, tower=tower: torch.stack(
                [given[f"{tower}.experts.{j}.up"] for j in range(n)]
            )
            for tower, n in (("text", 4), ("vision", 2))
        },
    ),
    ByHand(
        "a stack taken apart into a list",
        [Convert("**.experts.up", "**.experts.{j:0..2}.up", [operations.Unstack(0, 3)])],
        {"h.0.experts.up": (3, 2, 2)},
        {f"h.0.experts.{j}.up": lambda given, j=j: given["h.0.experts.up"][j] for j in range(3)},
    ),
    ByHand(
        "a fused projection of a vision tower, the heads of all three parts in halves",
        [
            Convert(
                "**.qkv",
                ["**.q", "**.k", "**.v"],
                [operations.Split(0, (8, 8, 8)), operations.RotaryPermute(2, 4)],
            )
        ],
        {"vision.0.qkv.weight": (24, 8)},
        {f"vision.0.{part}.weight": rotated(halved, at) for at, part in enumerate("qkv")},
    ),
    ByHand(
        "three parts fused, the heads of two in pairs",
        [rotary(operations.RotaryPermute)[0].inverse],
        {f"vision.0.{part}.weight": (8, 8) for part in "qkv"},
        {
            "vision.0.qkv.weight": lambda given: torch.cat(
                [
                    order(given[f"vision.0.{part}.weight"])
                    for part, order in zip("qkv", (paired, paired, as_it_is), strict=True)
                ]
            )
        },
    ),
    *(
        ByHand(
            f"a fused projection of a vision tower, {said}",
            rotary(order),
            {"vision.0.qkv.weight": (24, 8)},
            {
                "vision.0.q.weight": rotated(by_hand, 0),
                "vision.0.k.weight": rotated(by_hand, 1),
                "vision.0.v.weight": rotated(as_it_is, 2),
            },
        )
        for said, order, by_hand in (
            ("its heads in halves", operations.RotaryPermute, halved),
            ("its heads in pairs", operations.RotaryUnpermute, paired),
        )
    ),
]
by_hand = pytest.mark.parametrize("case", BY_HAND, ids=lambda case: case.name)


def made_up(case):
    return {key: torch.randint(0, 999, shape) for key, shape in case.shapes.items()}


@by_hand
def test_our_transforms_convert_and_undo_what_is_worked_out_by_hand(case):
    mapping, given = ConversionMapping(case.mapping), made_up(case)
    made = dict(mapping.apply(given))
    assert made.keys() == case.wanted.keys()
    assert all(torch.equal(made[key], wanted(given)) for key, wanted in case.wanted.items())
    back = dict(mapping.reverse.apply(made))
    assert back.keys() == given.keys()
    assert all(torch.equal(back[key], given[key]) for key in given)


def with_heads(keys, heads, part=None):
    """A model of transformers with these keys, whose config, or a part of it, counts these heads."""
    from types import SimpleNamespace

    from treealign.dialects.transformers.skeleton import Part, skeleton

    config = SimpleNamespace(num_attention_heads=heads, model_type=None)
    if part:
        config = SimpleNamespace(**{part: config}, sub_configs={part: None}, num_attention_heads=64, model_type=None)
    return skeleton(keys, {"": Part("TwoTowers", None, "", config)})


@by_hand
def test_transformers_converts_and_undoes_what_is_worked_out_by_hand(case):
    from treealign.dialects.transformers.proving import run as load_and_save
    from treealign.dialects.transformers.skeleton import parts_of

    given = made_up(case)
    wanted = {key: work(given) for key, work in case.wanted.items()}
    shapes = {key: tuple(tensor.shape) for key, tensor in wanted.items()}
    model = with_heads(shapes, 2, "vision_config")
    tree = KeyTree.from_leaves([(key, shape, "int64") for key, shape in case.shapes.items()])
    with refusal_left_out():
        rules = emit(case.mapping, live=True, checkpoint=tree, model=model)
    loaded, info, saved = load_and_save(rules, given, shapes, parts_of(model))
    assert (info.missing_keys, info.unexpected_keys) == (set(), set())
    assert all(torch.equal(loaded[key], wanted[key]) for key in wanted)
    assert saved.keys() == given.keys()
    assert all(torch.equal(saved[key], given[key]) for key in given)


class Refused(NamedTuple):
    """What transformers cannot do or undo, and what the refusal says of it."""

    name: str
    mapping: list
    shapes: dict[str, tuple[int, ...]]
    said: str
    heads: int | None = 2


FUSED = {"vision.0.qkv.weight": (24, 8)}
PERMUTED = operations.RotaryPermute
REFUSED = [
    Refused(
        "two lists dealt out to towers otherwise than in runs of one length",
        towers(4, 2),
        {f"h.0.experts.{j}.{part}": (2, 3) for j in range(6) for part in ("gate", "up")},
        r"lists of 6 out to towers as 3 \+ 3, not 4 \+ 2",
    ),
    Refused(
        "heads of which no config is at hand",
        rotary(PERMUTED),
        FUSED,
        r"as many as the config counts: no RotaryPermute\(2, 4\)(.|\n)*hint: pass the model",
        heads=None,
    ),
    Refused(
        "fewer heads for k than the config counts",
        [Convert("**.k", "**.k_proj", [PERMUTED(1, 4)])],
        {"vision.0.k.weight": (4, 8)},
        r"no RotaryPermute\(1, 4\)(.|\n)*the config counts 2 heads",
    ),
    Refused(
        "a part of each head",
        [Convert("**.k", "**.k_proj", [PERMUTED(2, 4, rotary_dim=2)])],
        {"vision.0.k.weight": (8, 8)},
        "transformers permutes whole heads",
    ),
    Refused(
        "heads of which some go one way and some the other",
        [
            Convert(
                "**.qk",
                ["**.q", "**.k"],
                [operations.Split(0, (8, 8)), operations.Parallel((PERMUTED(2, 4), PERMUTED(2, 4).inverse))],
            )
        ],
        {"vision.0.qk.weight": (16, 8)},
        "all rotary heads of a conversion the same way",
    ),
    Refused(
        "two lists out of one stack",
        [
            Convert(
                "**.experts.gate_up",
                ["**.experts.{j:0..1}.gate", "**.experts.{j}.up"],
                [operations.Split(1, (2, 2)), operations.Unstack(0, 2)],
            )
        ],
        {"h.0.experts.gate_up": (2, 4, 3)},
        r"takes a stack apart into a list only when it saves",
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_cannot_be_said_to_transformers_is_refused_with_the_reason(case):
    tree = KeyTree.from_leaves([(key, shape, "int64") for key, shape in case.shapes.items()])
    made = dict(ConversionMapping(case.mapping).apply(made_up(case)))
    shapes = {key: tuple(tensor.shape) for key, tensor in made.items()}
    model = None if case.heads is None else with_heads(shapes, case.heads)
    with pytest.raises(TreealignError, match=case.said) as refusal:
        emit(case.mapping, live=True, checkpoint=tree, model=model)
    assert "treealign's own load and save do it" in str(refusal.value)


SPLIT_OF_ONE_LAYER = [Convert("layers.0.qkv", ["layers.0.q", "layers.0.k"], [operations.Split(0, (2, 2))])]


def test_what_no_rule_is_for_is_missing_and_unexpected_in_transformers_as_with_us():
    from treealign import load
    from treealign.dialects.transformers.proving import run as load_and_save

    state = {f"layers.{i}.qkv": torch.randint(0, 999, (4, 3)) for i in range(2)}
    shapes = {f"layers.{i}.{part}": (2, 3) for i in range(2) for part in "qk"}
    tree = KeyTree.from_leaves([("layers.0.qkv", (4, 3), "int64")])
    _, info, _ = load_and_save(emit(SPLIT_OF_ONE_LAYER, live=True, checkpoint=tree), state, shapes, {})
    result = load(with_heads(shapes, 2), state, SPLIT_OF_ONE_LAYER, strict=False, dtype="checkpoint")
    assert info.missing_keys == {*result.missing_keys} == {"layers.1.q", "layers.1.k"}
    assert {*result.unexpected_keys} == {"layers.1.qkv"} == info.unexpected_keys


CHAIN = {"h.0.norm0.w": "h.0.norm1.w", "h.0.norm1.w": "h.0.norm2.w", "h.0.attn.w": "h.0.attn.w"}


@pytest.mark.parametrize("given", [list(CHAIN), list(CHAIN.values())], ids=["to be converted", "converted already"])
def test_a_chain_of_names_is_loaded_and_saved_as_it_came(given):
    from treealign.dialects.transformers.proving import run as load_and_save

    need_rule("GroupWeightRename")
    mapping = [Rename({"**.norm0": "**.norm1", "**.norm1": "**.norm2"})]
    rules = emit(mapping, live=True, checkpoint=KeyTree.from_leaves([(key, (2,), "int64") for key in CHAIN]))
    state = {key: torch.full((2,), at) for at, key in enumerate(given)}
    loaded, info, saved = load_and_save(rules, state, dict.fromkeys(CHAIN.values(), (2,)), {})
    assert (info.missing_keys, info.unexpected_keys) == (set(), set())
    assert {key: int(tensor[0]) for key, tensor in loaded.items()} == {key: at for at, key in enumerate(CHAIN.values())}
    assert {key: int(tensor[0]) for key, tensor in saved.items()} == {key: at for at, key in enumerate(given)}


def test_an_entry_that_is_there_is_replaced_and_a_second_one_of_its_name_is_not(empty_registry):
    from transformers.conversion_mapping import register_checkpoint_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    from treealign.dialects.transformers.entries import run_source

    empty_registry["mine"] = [WeightRenaming("a", "b"), WeightRenaming("b", "c")]
    run_source(emit([Rename("attn", "self_attn")], name="mine"))
    assert [rule.target_patterns for rule in empty_registry["mine"]] == [["self_attn"]]
    with pytest.raises(ValueError, match="already exists"):
        register_checkpoint_conversion_mapping("mine", [])


def sides(keys, modules):
    """Trees of a checkpoint and a model, from pairs of keys."""
    old, new = (KeyTree.from_leaves([(key, (2,), "float32") for key in side]) for side in (keys, keys.values()))
    return old, KeyTree.from_leaves(new.leaves, modules, ordered=True)


def registered(mapping, keys, modules, **options):
    """What transformers makes of the keys, once what was emitted is registered."""
    from treealign.dialects.transformers.entries import rules_of, run_source
    from treealign.dialects.transformers.skeleton import parts_named

    old, new = sides(keys, modules)
    run_source(emit(mapping, checkpoint=old, model=new, **options))
    return run(rules_of(parts_named(new.modules)), keys)


ATTN = {f"layers.{i}.attn.w": f"layers.{i}.self_attn.w" for i in range(2)}


def test_an_entry_of_a_class_comes_before_one_of_its_model_type(empty_registry):
    from transformers.core_model_loading import WeightRenaming

    empty_registry["llama"] = [WeightRenaming("attn", "of_the_model_type")]
    assert registered([Rename("**.attn", "**.self_attn")], ATTN, {"": "LlamaModel"}) == ATTN


def test_two_siblings_of_one_class_are_each_renamed_and_a_third_is_not(empty_registry):
    modules = {"left": "CLIPVisionModel", "right": "CLIPVisionModel", "other": "SiglipVisionModel"}
    keys = {f"{side}.{key}": f"{side}.{new}" for side in ("left", "right") for key, new in ATTN.items()}
    keys |= {f"other.{key}": f"other.{key}" for key in ATTN}
    rules = [Rename("**.attn", "**.self_attn", under=side) for side in ("left", "right")]
    assert registered(rules, keys, {"": "LlavaModel", **modules}) == keys


def test_a_part_of_the_root_s_type_is_not_renamed_a_second_time(empty_registry):
    keys = {"model.norm0.w": "model.norm1.w", "model.norm1.w": "model.norm2.w"}
    chain = [Rename({"**.norm0": "**.norm1", "**.norm1": "**.norm2"})]
    assert registered(chain, keys, {"": "LlamaForCausalLM", "model": "LlamaModel"}, name="llama") == keys


LEVELS = [PrefixChange(remove="net"), PrefixChange(remove="net", under="layers")]


def small():
    from real_models import build, tiny

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 8}
    return build(tiny("LlamaModel", num_hidden_layers=1, num_key_value_heads=2, **sizes), 0)


@pytest.mark.parametrize("start", ["with the level", "without it", "fresh"])
@pytest.mark.parametrize("level", LEVELS, ids=["at the root", "below a part"])
def test_a_level_is_kept_where_the_checkpoint_has_it_and_nowhere_else(level, start, empty_registry, tmp_path):
    from safetensors.torch import save_file
    from weights import saved_keys

    from treealign.dialects.transformers.entries import run_source

    model = small()
    own = dict(model.state_dict())
    with_level = dict(ConversionMapping([level]).reverse.apply(own))
    run_source(emit([level], model=model, checkpoint=with_level))
    given = with_level if start == "with the level" else own
    if start != "fresh":
        model.save_pretrained(tmp_path / "in", save_original_format=False)
        save_file(given, tmp_path / "in" / "model.safetensors", metadata={"format": "pt"})
        model = type(model).from_pretrained(tmp_path / "in")
    model.save_pretrained(tmp_path / "out")
    assert saved_keys(tmp_path / "out") == given.keys()
