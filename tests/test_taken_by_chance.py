"""What random trees showed to be certain and wrong, one kind each: it is open, and what is beside it stays certain."""

from __future__ import annotations

import pytest
import torch
from truths import Truth

LAYERS = 2


def transposed(tensor):
    return tensor.T


def certain(truth):
    wrong, sure = truth.judged(truth.suggestion())
    assert not wrong & sure
    return sure


def block(truth, names, turned=(), layers=LAYERS):
    """Layers of an attention and an MLP: `names` are those of the model by those of the checkpoint."""
    for i in range(layers):
        for old, (new, shape) in names.items():
            change = transposed if old in turned else lambda t: t
            stored = shape[::-1] if old in turned else shape
            truth.pair(f"layers.{i}.{old}.weight", f"layers.{i}.{new}.weight", stored, change)


ATTENTION = {f"attn.{n}": (f"attention.{n}", (8, 8)) for n in ("v_proj", "o_proj")}


def test_a_square_is_open_where_no_matrix_around_it_shows_which_way_round_it_is():
    truth = Truth()
    block(truth, ATTENTION | {"xx": ("rho", (24, 8)), "yy": ("eta", (8, 24))}, {*ATTENTION, "xx", "yy"})
    assert not {k for k in certain(truth) if "attention" in k}


def test_a_square_is_certain_beside_matrices_that_stand_as_they_do():
    truth = Truth()
    block(truth, ATTENTION | {"mlp.up_proj": ("ffn.up_proj", (24, 8)), "mlp.down_proj": ("ffn.down_proj", (8, 24))})
    assert {k for k in certain(truth) if "attention" in k} == {k for k in truth.model if "attention" in k}


def test_matrices_of_layers_turn_no_head():
    truth = Truth()
    turned = {"attn.k_proj": ("attention.k_proj", (4, 8)), "mlp.up_proj": ("mlp.up_proj", (24, 8))}
    block(truth, ATTENTION | turned, {*ATTENTION, *turned})
    truth.pair("output.weight", "model.output.weight", (8, 8))
    certain(truth)


def test_two_matrices_without_a_name_in_common_may_be_each_others_transposes():
    truth = Truth()
    block(truth, {"mlp.x10": ("ffn.x10", (24, 8)), "mlp.wo": ("ffn.rho", (8, 24))}, {"mlp.x10", "mlp.wo"})
    assert not {k for k in certain(truth) if "ffn" in k}


@pytest.mark.parametrize(("old", "new"), [(("linear1", "unit"), ("gate_proj", "x")), (("b", "gate"), ("y", "linear1"))])
def test_a_name_that_may_be_a_gates_or_not_tells_no_gate(old, new):
    truth = Truth()
    block(truth, {f"mlp.{a}": (f"ffn.{b}", (24, 8)) for a, b in zip(old, new, strict=True)})
    assert not {k for k in certain(truth) if "ffn" in k}


def test_a_name_without_meaning_that_means_two_things_is_open():
    truth = Truth()
    for old, new in (("a", "x10"), ("x10", "xx")):
        truth.pair(f"block.{old}.weight", f"block.{new}.weight", (8,))
    truth.pair("block.proj.weight", "block.proj.weight", (8, 4))
    assert certain(truth) == {"block.proj.weight"}


def test_stacked_experts_of_one_shape_are_told_apart_by_names_alone():
    truth = Truth()
    for old, new, change in (("x1", "gate", transposed), ("c_fc", "up_proj", transposed), ("eta", "lin2", transposed)):
        shape = (8, 16) if old != "eta" else (16, 8)
        for e in range(3):
            truth.pair(f"part.{old}.{e}", f"moe.{e}.{new}.weight", shape, change)
        parts = [truth.checkpoint.pop(f"part.{old}.{e}") for e in range(3)]
        truth.checkpoint[f"moe.{old}"] = torch.stack(parts)
    assert not certain(truth)


def test_a_name_that_two_towers_share_does_not_tear_their_blocks():
    truth = Truth()
    for old, new, own in (("text_model", "decoder", (24, 8)), ("transformer", "text_model", (16, 8))):
        truth.pair(f"{old}.layer.0.mlp.up.weight", f"{new}.layer.0.mlp.up.weight", own)
        truth.pair(f"{old}.layer.0.mlp.down.weight", f"{new}.layer.0.mlp.down.weight", own[::-1])
        for norm in ("norm1", "norm2"):
            truth.pair(f"{old}.layer.0.{norm}.weight", f"{new}.layer.0.{norm}.weight", (8,))
    assert not {k for k in certain(truth) if "norm" in k}


def test_what_the_name_of_a_fused_layer_spells_is_no_order_of_parts_that_may_be_others():
    truth = Truth()
    for i in range(LAYERS):
        truth.fused(f"whole.{i}", [f"h.{i}.mlp.unit.weight", f"h.{i}.mlp.lin1.weight"], (8, 8))
        halves = truth.checkpoint.pop(f"whole.{i}")
        for name in ("unit", "lin1"):
            truth.checkpoint[f"h.{i}.mlp.{name}.weight"] = truth.model.pop(f"h.{i}.mlp.{name}.weight")
        truth.model[f"h.{i}.ffn.gate_up.weight"] = halves
        truth.pair(f"h.{i}.mlp.linear2.weight", f"h.{i}.ffn.c_proj.weight", (8, 8))
    assert not {k for k in certain(truth) if "gate_up" in k}


def test_a_whole_path_below_a_level_that_only_the_model_has_needs_no_other_evidence():
    truth = Truth()
    for name in ("encoder.norm", "decoder.norm"):
        truth.pair(f"{name}.weight", f"model.{name}.weight", (8,))
    truth.pair("encoder.patches.per_kind.s2.proj.weight", "model.encoder.patches.per_kind.s2.proj.weight", (8, 3, 4, 4))
    assert certain(truth) == set(truth.model)
