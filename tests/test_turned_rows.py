"""Rows of a matrix that one side stores with its inputs first: they are its outputs, wherever these stand."""

from __future__ import annotations

import pytest
import torch
from aligning import tree

import treealign

HALF, WIDTH = 8, 4
BY_PART = torch.arange(2.0 * HALF * WIDTH).reshape(2 * HALF, WIDTH)  # outputs first, the gate before up
IN_TURNS = BY_PART.reshape(2, HALF, WIDTH).transpose(0, 1).reshape(2 * HALF, WIDTH)
SWAPPED = BY_PART.roll(HALF, 0)
STORED = "layers.0.ff.gate_up_proj.weight"
WANTED = "blocks.0.ff.w12.weight"


def tensors(turned, stored):
    """A checkpoint and a model of which the one has its inputs first: the fused matrix, what follows, a norm."""
    old, new = stored, torch.empty(2 * HALF, WIDTH)
    down = torch.empty(WIDTH, HALF)
    one = {STORED: old, "layers.0.ff.wo.weight": down, "layers.0.ln.weight": torch.empty(WIDTH)}
    two = {WANTED: new, "blocks.0.ff.wo.weight": down, "blocks.0.ln.weight": torch.empty(WIDTH)}
    first = one if turned == "checkpoint" else two
    first |= {key: t.T.contiguous() for key, t in first.items() if t.dim() > 1}
    return one, two


def suggested(sides, hints=None):
    trees = [tree({key: tuple(t.shape) for key, t in side.items()}, ordered=n == 1) for n, side in enumerate(sides)]
    return treealign.suggest(*trees, hints=hints)


@pytest.mark.parametrize("turned", ["checkpoint", "model"])
def test_gate_and_up_that_are_called_otherwise_are_asked_about_although_they_are_turned(turned):
    (question,) = suggested(tensors(turned, BY_PART)).questions
    assert question.about == "rows"


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [(BY_PART, BY_PART), (IN_TURNS, BY_PART), (BY_PART, IN_TURNS), (SWAPPED, BY_PART)],
    ids=["as stored", "in turns in the checkpoint", "in turns in the model", "swapped"],
)
@pytest.mark.parametrize("turned", ["checkpoint", "model"])
def test_one_option_is_the_truth_by_numbers(turned, stored, wanted):
    sides = tensors(turned, stored)
    (question,) = suggested(sides).questions
    made = [dict(suggested(sides, [option.hint]).mapping.apply(dict(sides[0]))) for option in question.options]
    truth = wanted if turned == "checkpoint" else wanted.T
    assert sum(torch.equal(each[WANTED], truth) for each in made) == 1


def test_an_answer_about_rotary_rows_of_a_turned_matrix_turns_its_outputs():
    stored = torch.arange(48.0).reshape(6, 8)
    old = {
        "layers.0.attn.wq.kernel": stored,
        "layers.0.attn.wk.kernel": stored,
        "layers.0.up.kernel": torch.empty(6, 12),
    }
    new = {f"blocks.0.attn.{part}_proj.weight": torch.empty(8, 6) for part in "qk"}
    new |= {"blocks.0.up.weight": torch.empty(12, 6)}
    hint = "q_proj,k_proj: rows from interleaved to half split, heads of 4"
    made = dict(suggested((old, new), [hint]).mapping.accept().apply(dict(old)))
    assert torch.equal(made["blocks.0.attn.q_proj.weight"], stored.T[[0, 2, 1, 3, 4, 6, 5, 7]])
