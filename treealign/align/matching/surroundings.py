"""Where the parts of the model lead: the path of the checkpoint below which all certain partners of a part stand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from treealign.align.knowledge.weights import KNOWN_PART
from treealign.align.matching.assignment import Assignment
from treealign.align.matching.scoring import Floats, Side

Path = tuple[str, ...]
Leads = Mapping[Path, tuple[int, Path]]


def misplaced(left: Side, right: Side, assignment: Assignment, doubted: Collection[int]) -> Floats | None:
    """-1 for pairs of leaves whose surroundings lead elsewhere, in classes in which a doubted pair is one of them.

    A leaf of the model whose partner stands in a part of the checkpoint to which no certain match leads (another model
    kept in the same file) is to be asked whether a leaf of the right part does as well.

    Parameters
    ----------
    left, right : Side
        Checkpoint and model.
    assignment : Assignment
        The matches so far.
    doubted : collection of int
        Left patterns whose match is not certain.

    Returns
    -------
    array or None
        (left, right); None where no doubted pair is misplaced.

    """
    if not doubted:
        return None
    certain = ((i, j) for i, j in assignment.pairs.items() if i not in doubted)
    leads = _leads((left.patterns[i].segments, right.patterns[j].segments) for i, j in certain)
    wrong = {i for i in doubted if _astray(left, right, leads, i, assignment.pairs[i])}
    if not wrong:
        return None
    table: Floats = np.zeros_like(assignment.scores)
    for c in assignment.classes:
        if not wrong.isdisjoint(map(int, c.left)):
            for i in map(int, c.left):
                for j in map(int, c.right):
                    table[i, j] = -1.0 if _astray(left, right, leads, i, j) else 0.0
    return table


def _leads(pairs: Iterable[tuple[Path, Path]]) -> Leads:
    """For each part of the model: how many certain leaves it has, and the path that their partners have in common."""
    leads: dict[Path, tuple[int, Path]] = {}
    for a, b in pairs:
        for depth in range(1, len(b)):
            count, common = leads.get(b[:depth], (0, a[:-1]))
            leads[b[:depth]] = count + 1, _common(common, a)
    return leads


def _common(a: Path, b: Path) -> Path:
    size = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:size]


def _astray(left: Side, right: Side, leads: Leads, i: int, j: int) -> bool:
    """Whether the nearest known part around the model's leaf leads where the checkpoint's leaf is not."""
    a, b = left.patterns[i].segments, right.patterns[j].segments
    for depth in range(len(b) - 1, 0, -1):
        count, common = leads.get(b[:depth], (0, ()))
        if count >= KNOWN_PART:
            return a[: len(common)] != common
    return False
