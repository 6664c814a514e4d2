"""Dimensions of equal sizes: what others of their kind show of them, and what they do not."""

from __future__ import annotations

import pytest
from aligning import aligned
from truths import Truth

CHANNELS_LAST = (0, 2, 3, 1)
INPUTS_FIRST = (3, 2, 0, 1)


NAMES = ("stem", "body", "head")


def tower(shapes, order):
    """A tower of three layers, each with one tensor of these shapes, its dimensions in another order in the model."""
    truth = Truth()
    for name, shape in zip(NAMES, shapes, strict=True):
        truth.pair(f"tower.{name}.weight", f"tower.{name}.weight", shape, lambda t: t.permute(order))
        truth.pair(f"tower.{name}.bias", f"tower.{name}.bias", shape[:1])
    return truth


@pytest.mark.parametrize(
    ("shapes", "order"),
    [
        (((16, 3, 3, 3), (32, 16, 3, 3), (48, 32, 3, 3)), CHANNELS_LAST),
        (((8, 8, 8, 8), (16, 8, 3, 3), (24, 16, 3, 3)), CHANNELS_LAST),
        (((3, 3, 3, 3), (3, 3, 3, 16), (3, 3, 16, 24)), INPUTS_FIRST),
        (((4, 16, 16), (4, 16, 24), (4, 24, 16)), (0, 2, 1)),
        (((5, 3, 3, 3, 3), (6, 5, 3, 3, 3), (7, 6, 3, 3, 3)), (0, 2, 3, 4, 1)),
    ],
)
def test_one_that_cannot_show_its_axes_is_turned_as_its_siblings_are(shapes, order):
    truth = tower(shapes, order)
    wrong, _ = truth.judged(truth.suggestion())
    assert wrong == set()


def test_a_cube_among_turned_kernels_is_not_certainly_unchanged():
    truth = tower(((16, 3, 3, 3), (32, 16, 3, 3), (48, 32, 3, 3)), CHANNELS_LAST)
    suggestion = truth.suggestion()
    first = next(m for m in suggestion.matches if m.model == ("tower.stem.weight",))
    assert first.operations and not first.certain


def test_kernels_of_unequal_sides_settle_the_axes_of_the_others():
    truth = tower(((16, 8, 3, 5), (32, 16, 3, 5), (5, 5, 5, 5)), CHANNELS_LAST)
    wrong, certain = truth.judged(truth.suggestion())
    assert wrong == set()
    assert certain == set(truth.model)


def test_turned_matrices_of_another_module_are_no_proof_for_the_squares_of_an_attention():
    truth = Truth()
    for n in range(2):
        for name in ("q", "k", "v", "o"):
            truth.pair(f"h.{n}.attn.{name}_proj.weight", f"h.{n}.attn.{name}_proj.weight", (16, 16))
        truth.pair(f"h.{n}.mlp.fc_in.weight", f"h.{n}.mlp.fc_in.weight", (16, 40), lambda t: t.T)
        truth.pair(f"h.{n}.mlp.fc_out.weight", f"h.{n}.mlp.fc_out.weight", (40, 16), lambda t: t.T)
    wrong, certain = truth.judged(truth.suggestion())
    assert not wrong & certain


def test_siblings_that_contradict_each_other_turn_nothing():
    truth = Truth()
    truth.pair("block.0.a.weight", "block.0.a.weight", (8, 16), lambda t: t.T)
    truth.pair("block.0.b.weight", "block.0.b.weight", (24, 16))
    truth.pair("block.0.c.weight", "block.0.c.weight", (16, 16))
    matches = {m.model[0]: m for m in truth.suggestion().matches}
    assert not matches["block.0.c.weight"].operations


def test_square_matrices_where_nothing_is_turned_are_certain():
    suggestion = aligned(
        {"a.0.w.weight": (8, 8), "a.0.v.weight": (8, 4)}, {"a.0.w.weight": (8, 8), "a.0.v.weight": (8, 4)}
    )
    assert all(m.certain and not m.operations for m in suggestion.matches)


def test_the_question_about_axes_offers_the_guess_first_and_as_stored_second():
    truth = tower(((16, 3, 3, 3), (32, 16, 3, 3), (48, 32, 3, 3)), CHANNELS_LAST)
    asked = next(q for q in truth.suggestion().questions if "tower.stem.weight" in q.model)
    assert [o.text for o in asked.options[:2]] == ["axes 0,2,3,1", "axes 0,1,2,3"]


@pytest.mark.parametrize(("old", "new"), [("proj_out", "to_out.0"), ("merge", "dense"), ("mix", "blend")])
def test_a_weight_of_another_layout_goes_where_its_bias_goes(old, new):
    truth = Truth()
    for n, size in enumerate((16, 24)):
        truth.pair(f"blocks.{n}.{old}.weight", f"layers.{n}.{new}.weight", (size, 4, 1, 1), lambda t: t.flatten(1))
        truth.pair(f"blocks.{n}.{old}.bias", f"layers.{n}.{new}.bias", (size,))
        truth.pair(f"blocks.{n}.query.weight", f"layers.{n}.query.weight", (size, 4, 1, 1), lambda t: t.flatten(1))
        truth.pair(f"blocks.{n}.query.bias", f"layers.{n}.query.bias", (size,))
    wrong, certain = truth.judged(truth.suggestion())
    assert not wrong & certain
    assert wrong == set()
