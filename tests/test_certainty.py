"""What is certain, what is listed with its rivals, and that nothing wrong is ever certain."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from aligning import aligned, certain_links, certain_pairs, guessed_pairs, tree
from cases import read_cases
from hypothesis import given
from hypothesis import strategies as st
from strategies import renamed_trees

from treealign import KeyTree, suggest
from treealign.align.alignment import align
from treealign.align.knowledge.weights import MARGIN
from treealign.align.matching.assignment import Class
from treealign.align.matching.certainty import _in_class


def in_every_best_assignment(table):
    """Oracle: pairs (i, i) that stand in all assignments within MARGIN of the diagonal's evidence, by enumeration."""
    size = len(table)
    diagonal = sum(table[n, n] for n in range(size))
    certain = set(range(size))
    for order in itertools.permutations(range(size)):
        if sum(table[n, m] for n, m in enumerate(order)) >= diagonal - MARGIN:
            certain -= {n for n, m in enumerate(order) if n != m}
    return certain


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.integers(0, 3), min_size=n * n, max_size=n * n)))
def test_exchange_cycles_find_what_enumeration_finds(entries):
    size = int(len(entries) ** 0.5)
    table = np.array(entries, np.float32).reshape(size, size)
    both = Class(np.arange(size, dtype=np.int32), np.arange(size, dtype=np.int32))
    doubted = set(_in_class(both, table, {n: n for n in range(size)}))
    expected = in_every_best_assignment(table)
    assert set(range(size)) - doubted <= expected
    best = max(sum(table[n, m] for n, m in enumerate(order)) for order in itertools.permutations(range(size)))
    if best <= np.trace(table) + MARGIN:
        assert set(range(size)) - doubted == expected


@given(renamed_trees())
def test_random_renames_of_random_trees_are_recovered_or_flagged_never_silently_wrong(drawn):
    leaves, old_names = drawn
    checkpoint = tree([(old_names[key], shape, dtype) for key, shape, dtype in leaves])
    alignment = align(checkpoint, tree(leaves, ordered=True))
    truth = {old: new for new, old in old_names.items()}
    wrong = {k: v for k, v in certain_links(alignment).items() if truth[k] != v}
    assert wrong == {}


def test_a_decoy_of_the_same_shape_whose_name_says_nothing_is_ambiguous():
    model = {"net.first.weight": (4, 4), "net.second.weight": (4, 4), "head.weight": (2, 4)}
    suggestion = aligned({"net.aaa.weight": (4, 4), "net.bbb.weight": (4, 4), "head.weight": (2, 4)}, model)
    (question,) = suggestion.ambiguous
    assert set(question.checkpoint) == {"net.aaa.weight", "net.bbb.weight"}
    assert set(question.model) == {"net.first.weight", "net.second.weight"}


def test_a_hint_settles_an_ambiguity():
    checkpoint = {"net.aaa.weight": (4, 4), "net.bbb.weight": (4, 4), "head.weight": (2, 4)}
    model = {"net.first.weight": (4, 4), "net.second.weight": (4, 4), "head.weight": (2, 4)}
    suggestion = aligned(checkpoint, model, hints={"aaa": "second", "bbb": "first"})
    assert certain_pairs(suggestion)["net.aaa.weight"] == "net.second.weight"
    assert suggestion.ok


def test_two_towers_of_equal_shapes_with_meaningless_names_are_ambiguous():
    layers = [f"layers.{i}.{leaf}" for i in range(2) for leaf in ("q_proj.weight", "k_proj.weight")]
    checkpoint = {f"{t}.{leaf}": (4, 4) for t in ("foo", "bar") for leaf in layers}
    model = {f"{t}.{leaf}": (4, 4) for t in ("alice", "bob") for leaf in layers}
    assert certain_pairs(aligned(checkpoint, model)) == {}


def test_a_leaf_that_only_one_tower_has_settles_both_towers():
    layers = [f"layers.{i}.{leaf}" for i in range(2) for leaf in ("q_proj.weight", "k_proj.weight")]
    checkpoint = {f"{t}.{leaf}": (4, 4) for t in ("foo", "bar") for leaf in layers} | {
        "foo.patch_embed.weight": (4, 3, 2, 2)
    }
    model = {f"{t}.{leaf}": (4, 4) for t in ("alice", "bob") for leaf in layers} | {
        "bob.patch_embed.weight": (4, 3, 2, 2)
    }
    certain = certain_pairs(aligned(checkpoint, model))
    assert certain["foo.layers.0.q_proj.weight"] == "bob.layers.0.q_proj.weight"
    assert certain["bar.layers.1.k_proj.weight"] == "alice.layers.1.k_proj.weight"


def test_what_is_left_over_on_both_sides_is_no_certain_match():
    checkpoint = {f"attn.{n}.weight": (4, 4) for n in ("q_proj", "k_proj", "v_proj")}
    model = {f"attn.{n}.weight": (4, 4) for n in ("q_proj", "k_proj", "out_proj")}
    assert "attn.v_proj.weight" not in certain_pairs(aligned(checkpoint, model))


def test_numbers_are_positions_in_a_series():
    checkpoint = {f"blocks.{i}.norm{n}.weight": (4,) for i in range(2) for n in (0, 1)}
    model = {f"blocks.{i}.norm{n}.weight": (4,) for i in range(2) for n in (1, 2)}
    assert guessed_pairs(aligned(checkpoint, model))["blocks.0.norm1.weight"] == "blocks.0.norm2.weight"


def test_the_two_norms_of_a_layer_are_told_apart_by_their_roles():
    checkpoint = {f"layers.{i}.{n}.weight": (4,) for i in range(2) for n in ("attention_norm", "ffn_norm")}
    names = ("input_layernorm", "post_attention_layernorm")
    model = {f"layers.{i}.{n}.weight": (4,) for i in range(2) for n in names}
    certain = certain_pairs(aligned(checkpoint, model))
    assert certain["layers.1.ffn_norm.weight"] == "layers.1.post_attention_layernorm.weight"


def test_an_averaged_copy_is_taken_only_where_the_weights_themselves_are_absent():
    checkpoint = {f"{p}.conv{i}.weight": (4, i) for p in ("model", "ema.module") for i in (1, 2)}
    model = {f"conv{i}.weight": (4, i) for i in (1, 2)}
    assert guessed_pairs(aligned(checkpoint, model)) == {
        "model.conv1.weight": "conv1.weight",
        "model.conv2.weight": "conv2.weight",
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_keys_changes_nothing(seed):
    names = ("q_proj", "k_proj", "v_proj", "o_proj")
    checkpoint = [(f"m.layer.{i}.{n}.weight", (4, 4), "float32") for i in range(3) for n in names]
    model = [(f"layers.{i}.attn.{n}.weight", (4, 4), "float32") for i in range(3) for n in names]
    shuffled = random.Random(seed).sample(checkpoint, len(checkpoint))
    one, other = aligned(checkpoint, model), aligned(shuffled, model)
    assert (one.matches, one.mapping) == (other.matches, other.mapping)


def test_without_shapes_only_one_and_the_same_path_is_certain():
    checkpoint = [("enc.q_proj.weight", None, None), ("head.weight", None, None)]
    model = {"encoder.q_proj.weight": (4, 4), "head.weight": (2, 4)}
    assert certain_pairs(aligned(checkpoint, model)) == {"head.weight": "head.weight"}


def test_norms_of_one_name_inside_keys_and_values_are_no_match():
    suggestion = aligned({"attn.key.norm.weight": (8,)}, {"attn.value.norm.weight": (8,)})
    assert not certain_pairs(suggestion)


def test_the_order_of_definition_ranks_what_names_leave_open_and_is_named_but_settles_nothing():
    leaves = [(f"block.{name}.weight", (8,), "float32") for name in ("zeta", "alpha")]
    model = tree([(f"block.{name}.weight", (8,), "float32") for name in ("first", "second")], ordered=True)
    for order in (leaves, leaves[::-1]):
        suggestion = suggest(tree(order, ordered=True), model)
        assert guessed_pairs(suggestion) == dict(zip([k for k, *_ in order], model.keys, strict=True))
        assert not certain_pairs(suggestion)
        assert all(any(e.startswith("order among siblings") for e in m.evidence) for m in suggestion.matches)


def test_a_word_that_any_module_bears_does_not_join_two_containers_of_other_names():
    block = [("layers.0.mlp.up_proj.weight", (12, 8), "float32"), ("layers.0.mlp.down_proj.weight", (8, 12), "float32")]
    pooler = [("pooler.dense.weight", (8, 8), "float32"), ("pooler.dense.bias", (8,), "float32")]
    head = [("scorer.dense.weight", (8, 8), "float32"), ("scorer.dense.bias", (8,), "float32")]
    found = suggest(KeyTree.from_leaves(block + pooler), KeyTree.from_leaves(block + head, ordered=True))
    assert {m.model[0] for m in found.matches if m.certain} == {key for key, *_ in block}


def test_repeats_of_other_sizes_are_no_twins_of_one_another():
    sizes = [(0, 8), (1, 16)]
    whole = [(f"layers.{n}.attn.qkv.{leaf}", shape, "float32") for n, d in sizes for leaf, shape in qkv(3 * d, d)]
    parts = [
        (f"layers.{n}.attn.{x}_proj.{leaf}", shape, "float32")
        for n, d in sizes
        for x in "qkv"
        for leaf, shape in qkv(d, d)
    ]
    found = suggest(KeyTree.from_leaves(whole), KeyTree.from_leaves(parts, ordered=True))
    assert not [q.why for q in found.questions if q.about == "names"]


def qkv(rows: int, columns: int) -> list[tuple[str, tuple[int, ...]]]:
    return [("weight", (rows, columns)), ("bias", (rows,))]


def test_the_last_leaf_of_a_module_goes_where_all_its_other_leaves_certainly_go():
    (case,) = read_cases("real_vision", "regnety004_pytorchcv__hf")
    counters = {m.checkpoint[0]: m for m in suggest(*case.trees()).matches if "num_batches_tracked" in m.model[0]}
    assert [key for key, match in counters.items() if not match.certain] == []


def test_a_small_part_of_one_name_on_both_sides_is_no_tower_of_which_nothing_else_is_used():
    """SAM: almost all is the image encoder, which has a bias left over; the prompt encoder is fed by its like."""
    encoder = {f"image_encoder.blocks.{n}.lin{k}.weight": (8, 6) for n in range(12) for k in (1, 2)}
    left = {"image_encoder.neck.tail.extra.bias": (4,), "image_encoder.neck.pos.embed.table": (5, 6)}
    layers = {"0": {"weight": (4, 1, 2, 2), "bias": (4,)}, "1": {"weight": (4,), "bias": (4,)}}
    here = {f"prompt_encoder.downscaling.{n}.{leaf}": size for n, own in layers.items() for leaf, size in own.items()}
    names = {"downscaling.0": "mask_embed.conv1", "downscaling.1": "mask_embed.norm1"}
    there = {key.replace(old, new): size for key, size in here.items() for old, new in names.items() if old in key}
    model = {key.replace("image", "vision"): size for key, size in encoder.items()} | {"vision_encoder.table": (5, 6)}
    pairs = certain_pairs(aligned(encoder | left | here, model | there))
    assert pairs["prompt_encoder.downscaling.1.bias"] == "prompt_encoder.mask_embed.norm1.bias"
