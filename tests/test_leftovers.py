"""Conversions of what is left over once all else is matched."""

from __future__ import annotations

import pytest
from aligning import aligned
from cases import read_cases
from test_layouts import known

import treealign
from treealign import KeyTree
from treealign.mapping.operations import Permute, Split, invert


@pytest.fixture(scope="module")
def detr():
    """DETR's own names against those of transformers: batch norms of the backbone are as long as biases elsewhere."""
    (case,) = [case for case in read_cases("real_vision", "detr_facebook__hf") if case.name == "detr_facebook__hf"]
    return treealign.suggest(*case.trees())


def fused(suggestion):
    return [m for m in suggestion.matches if "in_proj" in m.checkpoint[0]]


def test_fused_projections_are_found_although_norms_elsewhere_are_as_long_as_their_biases(detr):
    matches = {m.checkpoint[0]: set(m.model) for m in fused(detr)}
    assert matches["transformer.decoder.layers.1.multihead_attn.in_proj_bias"] == {
        f"model.decoder.layers.1.encoder_attn.{part}_proj.bias" for part in "qkv"
    }
    assert len(matches) == 2 * 6 * 3


def test_leftovers_are_still_of_the_library_whose_layout_settles_their_order(detr):
    assert all(m.certain for m in fused(detr))
    assert all(any("torch MultiheadAttention" in said for said in m.evidence) for m in fused(detr))


def test_leftovers_of_which_no_layout_knows_the_order_stay_open(monkeypatch):
    known(monkeypatch)
    (case,) = [case for case in read_cases("real_vision", "detr_facebook__hf") if case.name == "detr_facebook__hf"]
    assert not any(m.certain for m in fused(treealign.suggest(*case.trees())))


def test_a_linear_layer_that_was_a_convolution_over_one_point_is_found_at_every_width():
    blocks = [(f"stages.{s}.blocks.{b}", 8 * 2**s) for s in range(3) for b in range(2)]
    checkpoint = [
        leaf
        for name, width in blocks
        for leaf in (
            (f"{name}.mlp.fc1.weight", (4 * width, width, 1, 1), "float32"),
            (f"{name}.mlp.fc1.bias", (4 * width,), "float32"),
        )
    ]
    model = [
        leaf
        for name, width in blocks
        for leaf in (
            (f"{name.replace('blocks', 'layers')}.pwconv1.weight", (4 * width, width), "float32"),
            (f"{name.replace('blocks', 'layers')}.pwconv1.bias", (4 * width,), "float32"),
        )
    ]
    suggestion = treealign.suggest(KeyTree.from_leaves(checkpoint), KeyTree.from_leaves(model, ordered=True))
    assert {m.checkpoint[0]: m.model[0] for m in suggestion.matches if m.operations} == {
        f"{name}.mlp.fc1.weight": f"{name.replace('blocks', 'layers')}.pwconv1.weight" for name, _ in blocks
    }


def test_a_table_of_one_name_is_reshaped_in_its_own_block_though_another_block_names_it_otherwise() -> None:
    width, left, right = 8, [], []
    for n in range(3):
        left += [(f"blocks.{n}.{'mod.lin' if n == 1 else 'table'}", (6 * width,), "float32")]
        left += [
            (f"blocks.{n}.mlp.up.weight", (20, width), "float32"),
            (f"blocks.{n}.out.weight", (3, width), "float32"),
        ]
        right += [(f"layers.{n}.table", (6, width), "float32"), (f"layers.{n}.ff.up.weight", (20, width), "float32")]
        right += [(f"layers.{n}.out.weight", (3, width), "float32")]
    found = treealign.suggest(KeyTree.from_leaves(left), KeyTree.from_leaves(right, ordered=True))
    tables = {m.checkpoint[0]: m.model[0] for m in found.matches if m.operations}
    assert tables == {
        "blocks.0.table": "layers.0.table",
        "blocks.1.mod.lin": "layers.1.table",
        "blocks.2.table": "layers.2.table",
    }


def test_the_number_glued_to_a_parameter_counts_experts() -> None:
    left, right = [], []
    for e in range(2):
        left += [(f"moe.experts.{e}.{name}_proj.weight", (12, 8), "float32") for name in ("gate", "up")]
        left += [(f"moe.experts.{e}.down_proj.weight", (8, 12), "float32")]
        right += [
            (f"moe.experts.fc1.weight{e}", (24, 8), "float32"),
            (f"moe.experts.fc2.weight{e}", (8, 12), "float32"),
        ]
    found = treealign.suggest(KeyTree.from_leaves(left), KeyTree.from_leaves(right, ordered=True))
    assert {m.model: m.checkpoint for m in found.matches} == {
        **{
            (f"moe.experts.fc1.weight{e}",): tuple(f"moe.experts.{e}.{x}_proj.weight" for x in ("gate", "up"))
            for e in range(2)
        },
        **{(f"moe.experts.fc2.weight{e}",): (f"moe.experts.{e}.down_proj.weight",) for e in range(2)},
    }


@pytest.mark.parametrize("cut", [True, False])
def test_experts_one_below_the_other_are_turned_where_their_sizes_say_so(cut: bool) -> None:
    stack = [("layers.0.moe.router.weight", (3, 8), "float32"), ("layers.0.moe.down_stack", (36, 8), "float32")]
    experts = [("layers.0.moe.router.weight", (3, 8), "float32")]
    experts += [(f"layers.0.moe.experts.{e}.down_proj.weight", (8, 12), "float32") for e in range(3)]
    sides = (stack, experts) if cut else (experts, stack)
    found = treealign.suggest(KeyTree.from_leaves(sides[0]), KeyTree.from_leaves(sides[1], ordered=True))
    split = (Permute((1, 0)), Split(1, (12, 12, 12)))
    assert [m.operations for m in found.matches if m.operations] == [split if cut else invert(split)]


def test_a_member_of_a_stack_that_is_left_over_goes_nowhere_else_for_certain():
    """Experts of which some were converted: no stack can be made, and one that is left fits an output by its shape."""
    old = {"trunk.mlp.moe.0.wo.weight": (4, 4), "trunk.mlp.router.weight": (3, 4), "trunk.norm.weight": (4,)}
    new = {"trunk.mlp.moe.wo": (3, 4, 4), "trunk.out_lin.weight": (4, 4)}
    new |= {"trunk.mlp.router.weight": (3, 4), "trunk.norm.weight": (4,)}
    leaves = [[(key, shape, "float32") for key, shape in side.items()] for side in (old, new)]
    suggestion = treealign.suggest(KeyTree.from_leaves(leaves[0]), KeyTree.from_leaves(leaves[1], ordered=True))
    assert not [m for m in suggestion.matches if m.certain and "moe" in m.checkpoint[0]]


def test_a_conversion_of_one_block_is_written_so_that_it_leaves_the_others_alone_on_the_way_back():
    """The one table that the author called otherwise: its index is spelled out, or it would take those of all."""
    tables = {n: f"blocks.{n}.{'mod.lin' if n == 1 else 'scale_shift_table'}" for n in range(3)}
    old = [(name, (192,), "float32") for name in tables.values()]
    new = [(f"transformer_blocks.{n}.scale_shift_table", (6, 32), "float32") for n in tables]
    words = {"attn.wo": "attn.to_out.0", "mlp.up": "ff.up", "mlp.down": "ff.down", "prenorm": "norm1"}
    shapes = dict(zip(words, ((32, 32), (72, 32), (32, 72), (32,)), strict=True))
    old += [(f"blocks.{n}.{word}.weight", shape, "float32") for n in tables for word, shape in shapes.items()]
    new += [(f"transformer_blocks.{n}.{words[w]}.weight", s, "float32") for n in tables for w, s in shapes.items()]
    suggestion = treealign.suggest(KeyTree.from_leaves(old), KeyTree.from_leaves(new, ordered=True))
    assert {m.checkpoint[0]: m.model[0] for m in suggestion.matches if m.operations} == {
        table: f"transformer_blocks.{n}.scale_shift_table" for n, table in tables.items()
    }


def two_stages(first, second, attention, parts, mlp):
    """Two stages of two blocks; `mlp` names its two layers, which in some libraries are members of a list."""
    found = {}
    for stage, width in zip((first, second), (8, 16), strict=True):
        for block in (f"{stage}.0", f"{stage}.1"):
            found |= {f"{block}.{attention}.relative_position_bias_table": (9, width // 4)}
            for part in parts:
                rows = 3 * width if part == "qkv" else width
                found |= {
                    f"{block}.{attention}.{part}.weight": (rows, width),
                    f"{block}.{attention}.{part}.bias": (rows,),
                }
            for name, (rows, columns) in zip(mlp, ((4 * width, width), (width, 4 * width)), strict=True):
                found |= {f"{block}.{name}.weight": (rows, columns), f"{block}.{name}.bias": (rows,)}
    return found


def test_leftovers_of_one_block_belong_together_though_the_block_holds_a_list():
    """As in torchvision's Swin: `trunk.1.0` is a block, and `trunk.1.0.mlp.0` is no other one."""
    here = two_stages("trunk.1", "trunk.3", "attn", ("qkv", "proj"), ("mlp.0", "mlp.3"))
    parts = "q_proj", "k_proj", "v_proj", "o_proj"
    there = two_stages("layers.0.blocks", "layers.1.blocks", "attention", parts, ("mlp.fc1", "mlp.fc2"))
    assert {q.about for q in aligned(here, there).questions} == {"rows"}
