"""Matrices that two libraries store the other way round, as the biases beside them show."""

from __future__ import annotations

import pytest
from cases import read_cases

import treealign
from treealign import KeyTree
from treealign.mapping.operations import Permute

WIDE, NARROW = 72, 32


def suggest(checkpoint, model):
    sides = [[(key, shape, "float32") for key, shape in side.items()] for side in (checkpoint, model)]
    return treealign.suggest(KeyTree.from_leaves(sides[0]), KeyTree.from_leaves(sides[1], ordered=True))


def outputs_first(path, one, two, layers=2):
    """A feed-forward block as `torch.nn.Linear` stores it."""
    return {
        f"{path.format(n)}.{name}": shape
        for n in range(layers)
        for name, shape in {
            f"{one}.weight": (WIDE, NARROW),
            f"{one}.bias": (WIDE,),
            f"{two}.weight": (NARROW, WIDE),
            f"{two}.bias": (NARROW,),
        }.items()
    }


def inputs_first(path, layers=2):
    """The same block with bare parameters, the inputs of each matrix first."""
    return {
        f"{path.format(n)}.{name}": shape
        for n in range(layers)
        for name, shape in {
            "W_in": (NARROW, WIDE),
            "b_in": (WIDE,),
            "W_out": (WIDE, NARROW),
            "b_out": (NARROW,),
        }.items()
    }


@pytest.mark.parametrize("names", [("fc1", "fc2"), ("fc_in", "fc_out"), ("dense_h_to_4h", "dense_4h_to_h")])
def test_equal_shapes_are_no_evidence_where_biases_show_the_matrices_stored_the_other_way_round(names):
    suggestion = suggest(outputs_first("layers.{}.mlp", *names), inputs_first("blocks.{}.mlp"))
    wrong = {("layers.0.mlp." + names[0] + ".weight", "blocks.0.mlp.W_out")}
    assert not wrong & {(m.checkpoint[0], m.model[0]) for m in suggestion.matches}


def test_such_matrices_are_transposed():
    suggestion = suggest(outputs_first("layers.{}.mlp", "fc1", "fc2"), inputs_first("blocks.{}.mlp"))
    found = {m.checkpoint[0]: (m.model[0], m.operations) for m in suggestion.matches}
    assert found["layers.1.mlp.fc1.weight"] == ("blocks.1.mlp.W_in", (Permute((1, 0)),))


def test_biases_that_agree_change_nothing():
    suggestion = suggest(outputs_first("layers.{}.mlp", "fc1", "fc2"), outputs_first("blocks.{}.mlp", "fc1", "fc2"))
    assert all(m.certain and not m.operations for m in suggestion.matches)


def test_a_square_matrix_cut_into_heads_on_the_side_of_bare_parameters_is_not_certain():
    checkpoint = {"layers.0.attn.dense.weight": (32, 32), "layers.0.attn.dense.bias": (32,)}
    suggestion = suggest(checkpoint, {"blocks.0.attn.W_O": (4, 8, 32), "blocks.0.attn.b_O": (32,)})
    assert [m for m in suggestion.matches if m.certain and m.model == ("blocks.0.attn.W_O",)] == []


def lora(module, names, sizes=(64, 32)):
    return {
        f"layers.{n}.{module}.{proj}.{part}.weight": ((8, sizes[1]) if part == names[0] else (sizes[0], 8))
        for n in range(2)
        for proj in ("q_proj", "k_proj", "v_proj")
        for part in names
    }


def test_rows_of_an_adapter_s_outputs_are_doubted_like_those_of_its_layer():
    suggestion = suggest(lora("attn", ("lora_a", "lora_b")), lora("self_attn", ("lora_A", "lora_B")))
    certain = {m.checkpoint[0]: m.certain for m in suggestion.matches if not m.operations}
    assert not certain["layers.0.attn.q_proj.lora_b.weight"]
    assert certain["layers.0.attn.q_proj.lora_a.weight"]
    assert certain["layers.0.attn.v_proj.lora_b.weight"]


def test_a_bare_matrix_of_equal_shape_is_doubted_where_both_sides_hold_its_transpose_too():
    checkpoint = {"layer.0.mlp.wi.weight": (WIDE, NARROW), "layer.0.mlp.wo.weight": (NARROW, WIDE)}
    model = {"encoder.0.mlp.W_in": (NARROW, WIDE), "encoder.0.mlp.W_out": (WIDE, NARROW)}
    assert [m for m in suggest(checkpoint, model).matches if m.certain and not m.operations] == []


def attention(module, q, k):
    return {
        f"layers.{n}.{module}.{name}.weight": shape
        for n in range(2)
        for name, shape in {q: (32, 32), k: (16, 32), "q_norm": (8,), "k_norm": (8,)}.items()
    }


def test_a_norm_of_rotated_rows_is_doubted_like_the_rows():
    suggestion = suggest(attention("attn.in_proj", "query", "key"), attention("self_attn", "q_proj", "k_proj"))
    assert [m.checkpoint[0] for m in suggestion.matches if m.certain] == []


def test_such_a_norm_is_certain_where_the_rows_are():
    suggestion = suggest(attention("self_attn", "q_proj", "k_proj"), attention("self_attn", "q_proj", "k_proj"))
    assert all(m.certain for m in suggestion.matches)


def test_a_square_weight_cut_into_the_heads_of_a_kernel_is_transposed_first_and_not_certain():
    checkpoint = {"layers.0.attn.query.weight": (32, 32), "layers.0.attn.query.bias": (32,)}
    suggestion = suggest(checkpoint, {"layer_0.attn.query.kernel": (32, 4, 8), "layer_0.attn.query.bias": (4, 8)})
    found = next(m for m in suggestion.matches if m.checkpoint == ("layers.0.attn.query.weight",))
    assert found.operations[0] == Permute((1, 0))
    assert not found.certain


def test_a_matrix_whose_biases_say_that_it_is_stored_alike_is_not_turned_for_its_name():
    """`w1` and `w2` of IBM's models say nothing of which of BERT's is the first; [72, 32] with a bias of 72 does."""
    (case,) = [case for case in read_cases("real_text", "bert_hf__fmsplain") if case.name == "bert_hf__fmsplain"]
    matches = {m.checkpoint[0]: m for m in treealign.suggest(*case.trees()).matches}
    assert matches["encoder.layer.1.output.dense.weight"].model == ("base_model.layers.1.ff_sub_layer.w2.weight",)
    assert not any(m.operations for m in matches.values())
