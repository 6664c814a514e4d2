"""Layers that correspond by what they hold and by their order, under names that have nothing in common."""

from __future__ import annotations

import pytest
import torch
import transformers
from aligning import aligned
from hypothesis import given
from safetensors.torch import save_file
from strategies import cut_twice

import treealign
from treealign import KeyTree
from treealign.align.hinted import evidence_of
from treealign.align.links import Link, part_of
from treealign.align.matching import sequences
from treealign.align.matching.in_step import EVIDENCE, placed_in_step
from treealign.align.patterns import build_patterns
from treealign.align.reading_hints import read


def tree(*leaves, ordered=False):
    return KeyTree.from_leaves([(key, shape, "float32") for key, shape in leaves], ordered=ordered)


def in_order(checkpoint, model):
    """Keys of the checkpoint to those of the model, in the order of both, by shapes alone."""
    kinds = tuple({at: leaf.shape for at, leaf in enumerate(side.leaves)} for side in (checkpoint, model))
    return {checkpoint.keys[i]: model.keys[j] for i, j in sequences.align_sequences(checkpoint, model, kinds)}


@given(cut_twice(distinct=True))
def test_a_sequence_of_different_layers_is_followed_however_it_is_cut(trees):
    assert in_order(*trees) == dict(zip(trees[0].keys, trees[1].keys, strict=True))


@given(cut_twice())
def test_what_is_paired_is_of_one_shape_and_paired_once(trees):
    found = in_order(*trees)
    assert all(trees[0].leaf(a).shape == trees[1].leaf(b).shape for a, b in found.items())
    assert len(set(found.values())) == len(found)


def test_one_block_here_is_two_layers_there():
    blocks = tree(
        *(
            (f"blocks.{n}.{name}", shape)
            for n in range(3)
            for name, shape in (("dw", (4, 1, 3, 3)), ("pw", (4, 4, 1, 1)))
        )
    )
    layers = tree(*((f"layer.{n}.weight", ((4, 4, 1, 1) if n % 2 else (4, 1, 3, 3))) for n in range(6)))
    assert in_order(blocks, layers) == {
        f"blocks.{n}.{name}": f"layer.{2 * n + (name == 'pw')}.weight" for n in range(3) for name in ("dw", "pw")
    }


def test_a_list_that_differs_only_in_where_its_like_parts_stand_is_opened():
    """The first part of the one holds what the second of the other holds, by chance."""
    here = tree(("a.0.0", (4,)), ("a.0.1", (8,)), ("a.1.0", (4,)))
    there = tree(("b.0.0", (4,)), ("b.1.0", (8,)), ("b.1.1", (4,)))
    assert in_order(here, there) == {"a.0.0": "b.0.0", "a.0.1": "b.1.0", "a.1.0": "b.1.1"}


def test_twins_with_other_names_are_left_out():
    here = tree(("attn.query", (4, 4)), ("attn.key", (4, 4)), ("attn.out", (8, 4)))
    there = tree(("sa.first", (4, 4)), ("sa.second", (4, 4)), ("sa.last", (8, 4)), ordered=True)
    assert in_order(here, there) == {"attn.out": "sa.last"}


def test_twins_are_told_apart_by_names_that_both_sides_have():
    here = tree(("x.query", (4, 4)), ("x.key", (4, 4)))
    there = tree(("y.z.key", (4, 4)), ("y.z.query", (4, 4)), ordered=True)
    assert in_order(here, there) == {"x.query": "y.z.query", "x.key": "y.z.key"}


def test_a_numbered_list_follows_the_order_of_definition():
    here = tree(("bn1", (4,)), ("bn2", (4,)))
    there = tree(("expand_bn", (4,)), ("depthwise_bn", (4,)), ordered=True)
    assert in_order(here, there) == {"bn1": "expand_bn", "bn2": "depthwise_bn"}


def test_names_in_the_order_of_the_alphabet_are_no_order():
    here = tree(("bn1", (4,)), ("bn2", (4,)))
    there = tree(("expand_bn", (4,)), ("depthwise_bn", (4,)))
    assert in_order(here, there) == {}


def test_what_one_side_lacks_does_not_stop_the_rest():
    here = tree(*((f"a.{n}.weight", (n + 2,)) for n in range(4)), *((f"a.{n}.count", ()) for n in range(4)))
    there = tree(*((f"b.{n // 2}.{n % 2}.weight", (n + 2,)) for n in range(4)))
    assert in_order(here, there) == {f"a.{n}.weight": f"b.{n // 2}.{n % 2}.weight" for n in range(4)}


def test_the_work_is_bounded(monkeypatch):
    monkeypatch.setattr(sequences, "BUDGET", 10)
    trees = [tree(*((f"{name}.{n}.weight", (n + 2,)) for n in range(50))) for name in ("a", "b")]
    assert in_order(*trees) == {}


@pytest.fixture(scope="module")
def mobilenet():
    """A real MobileNet of transformers, and its keys under the names of timm."""
    config = transformers.MobileNetV1Config(depth_multiplier=0.25, min_depth=4, image_size=32)
    model = KeyTree.from_leaves(
        [(k, tuple(v.shape), "float32") for k, v in transformers.MobileNetV1Model(config).state_dict().items()],
        ordered=True,
    )
    stages = [1, 2, 2, 6, 2]
    places = [(s, b) for s, depth in enumerate(stages) for b in range(depth)]
    names = {}
    for key in model.keys:
        head, _, rest = key.rpartition(".")
        module, kind = head.rsplit(".", 1)
        if module == "conv_stem":
            names[key] = f"{'entry' if kind == 'convolution' else 'scaler1'}.{rest}"
        else:
            at = int(module.removeprefix("layer."))
            stage, block = places[at // 2]
            part = ("mix", "join")[at % 2] if kind == "convolution" else ("scaler1", "scaler2")[at % 2]
            names[key] = f"pile.{stage}.{block}.{part}.{rest}"
    return KeyTree.from_leaves([(names[k], model.leaf(k).shape, "float32") for k in model.keys]), model, names


def test_a_real_network_under_the_names_of_another_library_is_placed(mobilenet):
    checkpoint, model, names = mobilenet
    suggestion = treealign.suggest(checkpoint, model)
    assert {m.checkpoint[0]: m.model[0] for m in suggestion.matches} == {v: k for k, v in names.items()}


def test_what_only_order_and_shapes_speak_for_is_never_certain(mobilenet):
    checkpoint, model, _ = mobilenet
    links = [link for link in treealign.suggest(checkpoint, model).alignment.links if EVIDENCE in link.evidence]
    assert links
    assert all(link.placed or not link.certain for link in links)


def test_what_is_placed_so_is_asked_about_with_the_truth_among_the_rivals(mobilenet):
    checkpoint, model, names = mobilenet
    suggestion = treealign.suggest(checkpoint, model)
    asked = [(set(question.checkpoint), set(question.model)) for question in suggestion.ambiguous]
    open_matches = [m for m in suggestion.matches if not m.certain]
    backwards = {v: k for k, v in names.items()}
    assert all(
        any(m.checkpoint[0] in mine and backwards[m.checkpoint[0]] in theirs for mine, theirs in asked)
        for m in open_matches
    )


def test_the_mapping_of_such_a_network_goes_both_ways(mobilenet):
    checkpoint, model, names = mobilenet
    mapping = treealign.suggest(checkpoint, model).mapping
    forward = mapping.map_keys(list(checkpoint.keys))
    assert forward == {v: (k,) for k, v in names.items()}
    assert mapping.reverse.map_keys(list(model.keys)) == {k: (v,) for k, v in names.items()}


def test_what_no_name_speaks_of_is_a_question_with_options():
    """Blocks of one size: no shape says which way the list runs."""
    old = {f"trunk.{n // 2}.{('mix', 'join')[n % 2]}.weight": ((4, 1, 3, 3), (4, 4, 1, 1))[n % 2] for n in range(6)}
    new = {f"layer.{n}.weight": ((4, 1, 3, 3), (4, 4, 1, 1))[n % 2] for n in range(6)}
    asked = aligned(old, new).questions
    assert asked and all(2 <= len(q.options) <= 6 for q in asked)


def test_equal_values_settle_it(tmp_path):
    """What the question names as an answer is one."""
    torch.manual_seed(0)
    sizes = [(4, 1, 3, 3), (4, 4, 1, 1)] * 3
    tensors = [torch.randn(size) for size in sizes]
    old = {f"blocks.{n // 2}.{('dw', 'pw')[n % 2]}.weight": t for n, t in enumerate(tensors)}
    new = {f"layer.{n}.weight": t for n, t in enumerate(tensors)}
    for name, state in (("old", old), ("new", new)):
        save_file(state, tmp_path / f"{name}.safetensors")
    paths = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    assert not any(m.certain for m in treealign.suggest(*paths).matches)
    settled = treealign.suggest(*paths, values=True)
    assert {m.checkpoint[0]: m.model[0] for m in settled.matches if m.certain} == dict(zip(old, new, strict=True))


def placed(hints):
    """Where two uncertain links against the order end, `hints` given."""
    here, there = tree(("a.0.w", (4,)), ("a.1.w", (4,))), tree(("b.0.w", (4,)), ("b.1.w", (4,)))
    sides = [[part_of(p, {at}) for p in build_patterns(side) for at in (0, 1)] for side in (here, there)]
    crossed = [Link((sides[0][n],), (sides[1][1 - n],), certain=False) for n in (0, 1)]
    links, _, _ = placed_in_step(crossed, [], (here, there), (sides[0], sides[1]), evidence_of(read(hints, *sides), []))
    return {here.keys[g.left[0]]: there.keys[g.right[0]] for link in links for g in link.expand()}


def test_an_uncertain_match_gives_way_to_the_order():
    assert placed({}) == {"a.0.w": "b.0.w", "a.1.w": "b.1.w"}


def test_what_a_hint_speaks_of_does_not():
    assert placed({"a.0": "b.1", "a.1": "b.0"}) == {"a.0.w": "b.1.w", "a.1.w": "b.0.w"}
