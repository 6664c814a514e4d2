"""What is certain is right, on trees that nobody has seen: every match is run on numbers."""

from __future__ import annotations

import pytest
from random_trees import certain_and_wrong, truth_of

SEEDS = 240
TOGETHER = 20


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_what_is_certain_is_right(first):
    seeds = range(first, first + TOGETHER)
    assert {seed: wrong for seed in seeds if (wrong := certain_and_wrong(truth_of(seed)))} == {}


def test_a_seed_makes_one_truth():
    one, other = truth_of(7), truth_of(7)
    assert list(one.checkpoint) == list(other.checkpoint)
    assert list(one.model) == list(other.model)
