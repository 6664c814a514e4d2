"""What is certain is right, on trees that nobody has seen: every match is run on numbers."""

from __future__ import annotations

import pytest
from random_trees import certain_and_wrong, truth_of

SEEDS = 240
TOGETHER = 20
CRASHED = 9062  # what was obviously the same, and conversions took apart, has no scores to be read
# certain and wrong today, of the seeds drawn so far: kept until the evidence that is missing is found
KNOWN = (2590, 4596, 4836, 4890, 6028, 9148, 20046, 40064)
# torn modules, numbers of two blocks, another's path, wholes of squares, members of a stack left over, rows of what is
# found late or placed, modules and matrices that could change places, a name taken from the container, parts of wholes,
# towers torn between two
MENDED = (
    *(2254, 2292, 2357, 2456, 2565, 2648, 2751, 2775, 3264, 3316, 3495, 3533, 3634, 3648, 3724),
    *(2631, 2897, 4604, 5527, 5528, 5751, 5842, 5887, 6000, 7383, 7439, 9040, 9206, 9528),
    *(30178, 30248, 40231),
    *(4027, 4144, 4192, 4268, 4334, 4380, 4477, 4790, 4903, 4982, 5178, 5195, 5488, 5657, 5758, 7445),
)


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_what_is_certain_is_right(first):
    seeds = range(first, first + TOGETHER)
    assert {seed: wrong for seed in seeds if (wrong := certain_and_wrong(truth_of(seed)))} == {}


@pytest.mark.parametrize("seed", MENDED)
def test_what_was_certain_and_wrong_is_not(seed):
    assert certain_and_wrong(truth_of(seed)) == []


@pytest.mark.parametrize("seed", KNOWN)
@pytest.mark.xfail(strict=True, reason="certain and wrong")
def test_what_was_found_and_is_not_mended(seed):
    assert certain_and_wrong(truth_of(seed)) == []


def test_a_seed_makes_one_truth():
    one, other = truth_of(7), truth_of(7)
    assert list(one.checkpoint) == list(other.checkpoint)
    assert list(one.model) == list(other.model)


def test_no_tree_ends_in_a_traceback():
    assert truth_of(CRASHED).suggestion().matches
