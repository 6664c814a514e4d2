"""Conversions of what is left over once all else is matched."""

from __future__ import annotations

import pytest
from cases import read_cases

import treealign
from treealign import KeyTree


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


def test_what_is_found_among_leftovers_is_never_certain(detr):
    assert not any(m.certain for m in fused(detr))


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
