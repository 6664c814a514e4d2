"""Lists that run the other way round: one library numbers levels from the inside, another from the outside.

Where levels of a list that are certain without it correspond in opposite order, the whole list does: each level's place
counted from the one end is the other's counted from the other end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from treealign.align.patterns import Pattern
from treealign.align.scoring import Floats, Side

Path = tuple[str, ...]
POINTS = 2  # levels that must be certain: two that stand in opposite order exclude a shift


def reflections(left: Side, right: Side, pairs: Mapping[int, int], doubted: Collection[int]) -> Floats | None:
    """1 for pairs of leaves at mirrored places of two reversed lists, -1 for those at others; None without such lists.

    Parameters
    ----------
    left, right : Side
        Checkpoint and model.
    pairs : mapping of int to int
        Matched patterns.
    doubted : collection of int
        Left patterns whose match is not certain.

    """
    sums: dict[tuple[Path, Path], dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for i, j in pairs.items():
        if i not in doubted:
            for (above, a), (over, b) in _places(left.patterns[i], right.patterns[j]):
                sums[above, over][a].add(b)
    last = _last(left), _last(right)
    table: Floats = np.zeros((len(left.patterns), len(right.patterns)), np.float32)
    for (above, over), points in sums.items():
        end = last[0][above]
        if end == last[1][over] and len(points) >= POINTS and all(bs == {end - a} for a, bs in points.items()):
            _mark(table, left, right, above, over, end)
    return table if table.any() else None


def _numbered(p: Pattern) -> Iterator[tuple[Path, int]]:
    """The lists in which a leaf stands, and its place there; repeats that were folded have no places to tell apart."""
    return ((p.segments[:at], int(s)) for at, s in enumerate(p.segments) if s.isdecimal())


def _places(a: Pattern, b: Pattern) -> Iterator[tuple[tuple[Path, int], tuple[Path, int]]]:
    return ((x, y) for x in _numbered(a) for y in _numbered(b))


def _last(side: Side) -> dict[Path, int]:
    found: dict[Path, int] = defaultdict(int)
    for p in side.patterns:
        for above, place in _numbered(p):
            found[above] = max(found[above], place)
    return found


def _mark(table: Floats, left: Side, right: Side, above: Path, over: Path, end: int) -> None:
    here = [(i, int(left.patterns[i].segments[len(above)])) for i in _inside(left, above)]
    there = [(j, int(right.patterns[j].segments[len(over)])) for j in _inside(right, over)]
    for i, a in here:
        for j, b in there:
            table[i, j] = 1 if a + b == end else -1


def _inside(side: Side, above: Path) -> list[int]:
    below = side.below[above]
    return [
        n
        for n in below
        if len(side.patterns[n].segments) > len(above) and side.patterns[n].segments[len(above)].isdecimal()
    ]
