"""Projections taken apart into heads: `[heads x size, inputs]` here, `[heads, inputs, size]` there."""

from __future__ import annotations

import pytest
import torch
from aligning import aligned

from treealign.align.converting.shape_algebra import headed
from treealign.mapping.execution.execute import run

HEADS, SIZE, INPUTS = 4, 8, 24
WEIGHT = torch.arange(HEADS * SIZE * INPUTS, dtype=torch.float32).reshape(HEADS * SIZE, INPUTS)


@pytest.mark.parametrize(
    ("before", "after"),
    {
        "TransformerLens, of torch's layers": (WEIGHT, WEIGHT.reshape(HEADS, SIZE, INPUTS).transpose(1, 2)),
        "Flax, of torch's layers": (WEIGHT, WEIGHT.T.reshape(INPUTS, HEADS, SIZE)),
        "TransformerLens, of GPT-2's": (WEIGHT.T, WEIGHT.T.reshape(INPUTS, HEADS, SIZE).transpose(0, 1)),
        "Flax, outputs": (WEIGHT.T, WEIGHT.reshape(HEADS, SIZE, INPUTS)),
    }.values(),
)
def test_the_operations_do_what_the_library_does(before, after):
    assert torch.equal(run(headed(before.shape, after.shape), [before])[0], after)
    assert torch.equal(run(headed(after.shape, before.shape), [after])[0], before)


@pytest.mark.parametrize(("before", "after"), [((32, 24), (4, 24, 9)), ((32, 24), (768,)), ((4, 8, 24), (24, 8, 4))])
def test_other_shapes_are_not_taken_apart(before, after):
    assert headed(before, after) is None


def test_such_a_projection_is_found_and_never_certain():
    old = {f"layers.{n}.self_attn.q_proj.weight": (HEADS * SIZE, INPUTS) for n in range(3)}
    new = {f"blocks.{n}.attn.W_Q": (HEADS, INPUTS, SIZE) for n in range(3)}
    suggestion = aligned(old, new)
    assert {m.checkpoint[0]: m.model[0] for m in suggestion.matches} == dict(zip(old, new, strict=True))
    assert not any(m.certain for m in suggestion.matches)
