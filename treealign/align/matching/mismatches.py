"""Leaves that correspond by name but whose shapes differ in size: a resized vocabulary, another number of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from treealign.align.knowledge.weights import SIMILAR
from treealign.align.matching.agreement import Agreement
from treealign.align.matching.scoring import Floats, Side
from treealign.align.patterns import Pattern


def find_mismatches(
    left: Side,
    right: Side,
    free: tuple[Sequence[int], Sequence[int]],
    scores: Floats,
    agreement: Agreement,
) -> list[tuple[Pattern, Pattern]]:
    """Unmatched patterns with the same repeats and the same number of dimensions, whose names mean the same.

    Parameters
    ----------
    left, right : Side
        Checkpoint and model.
    free : two sequences of int
        The unmatched patterns of either side.
    scores : array
        Names and votes of all pairs, (left, right).
    agreement : Agreement
        Judges whether names and ancestors allow a match.
    """
    rows, columns = np.array(free[0], int), np.array(free[1], int)
    options = [
        (-float(scores[i, j]), int(i), int(j))
        for i in rows
        for j in columns
        if scores[i, j] >= SIMILAR and _resized(left.patterns[i], right.patterns[j]) and _same_name(agreement, i, j)
    ]
    taken: tuple[set[int], set[int]] = (set(), set())
    found = []
    for _, i, j in sorted(options):
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            found.append((left.patterns[i], right.patterns[j]))
    return found


def _same_name(agreement: Agreement, i: int, j: int) -> bool:
    return agreement.same_role(i, j) and not agreement.objection(i, j)


def _resized(a: Pattern, b: Pattern) -> bool:
    """The same cells, and shapes that differ in the size of one dimension."""
    if a.shapes.keys() != b.shapes.keys() or a.nature != b.nature:
        return False
    return all(_one_size_differs(a.shapes[k], b.shapes[k]) for k in a.shapes)


def _one_size_differs(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> bool:
    return a is not None and b is not None and len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) == 1
