"""Lists that run the other way round: one library numbers levels from the inside, another from the outside.

Where shapes alone place levels of a list, and in opposite order, the whole list runs the other way: each level's place
counted from the one end is the other's counted from the other end. Where shapes place a level at another place than its
own and do not tell which way the list runs, the places of its other levels tell nothing. Where a list is longer on one
side and all levels that shapes place are moved alike, all are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from treealign.align.matching.assignment import Assignment
from treealign.align.matching.scoring import Floats, Side
from treealign.align.patterns import Pattern
from treealign.tree.keys import number_of

Path = tuple[str, ...]
Numbers = dict[tuple[Path, Path], set[tuple[int, int]]]
POINTS = 2  # levels that shapes must place: two in opposite order exclude a shift


class Place(NamedTuple):
    """A leaf's place in a list: the path of the list, and the number."""

    above: Path
    number: int


def reflections(left: Side, right: Side, assignment: Assignment, _: object = None) -> Floats | None:
    """What lists out of order teach about pairs of leaves, (left, right); None where there are none.

    1 at mirrored places of lists that run in opposite order, at moved places of lists of two lengths, and -1 at others;
    in lists of opposite or unknown order, minus what equal places count as evidence.

    Parameters
    ----------
    left, right : Side
        Checkpoint and model.
    assignment : Assignment
        The matches so far.

    """
    placed, matched = _placed(left, right, assignment)
    last = _last(left), _last(right)
    table: Floats = np.zeros(assignment.given.free, np.float32)
    for (above, over), points in placed.items():
        if any(a != b for a, b in points) and (len(points) > POINTS or _same_levels(matched[above, over])):
            ends = last[0][above], last[1][over]
            _mark(table, (left, right), (above, over), _relation(points, ends), ends[0] == ends[1])
    return table if table.any() else None


class Relation(NamedTuple):
    """How places of one list become those of the other: counted backwards or not, and moved."""

    backwards: bool
    move: int

    def holds(self, here: int, there: int) -> bool:
        """Whether two places correspond."""
        return there == (self.move - here if self.backwards else self.move + here)


def _relation(points: set[tuple[int, int]], ends: tuple[int, int]) -> Relation | None:
    """The one relation that fits all points; lists of one length are not taken to be shifted."""
    levels = len({a for a, _ in points})
    if ends[0] == ends[1]:
        fits = levels >= POINTS and all(a + b == ends[0] for a, b in points)
        return Relation(True, ends[0]) if fits else None
    moves = {b - a for a, b in points}
    return Relation(False, min(moves)) if len(moves) == 1 and levels > POINTS else None


def _placed(left: Side, right: Side, assignment: Assignment) -> tuple[Numbers, Numbers]:
    """Numbers of leaves that nothing but their shape places in their lists, and of all that match, by pair of lists."""
    placed: Numbers = defaultdict(set)
    matched: Numbers = defaultdict(set)
    for c in assignment.classes:
        alone = _alone(left.patterns[int(i)] for i in c.left), _alone(right.patterns[int(j)] for j in c.right)
        for i in map(int, c.left):
            j = assignment.pairs.get(i)
            if j is None:
                continue
            for a, b in product(_places(left.patterns[i]), _places(right.patterns[j])):
                matched[a.above, b.above].add((a.number, b.number))
                if alone[0][a.above] == alone[1][b.above] == 1:
                    placed[a.above, b.above].add((a.number, b.number))
    return placed, matched


def _same_levels(numbers: set[tuple[int, int]]) -> bool:
    """Whether the levels of one list go to those of the other at all, and not to something below one of them."""
    return len({a for a, _ in numbers}) == len({b for _, b in numbers}) > 1


def _alone(patterns: Iterable[Pattern]) -> Counter[Path]:
    """How many levels of each list hold leaves of one class."""
    return Counter(above for above, _ in {(place.above, place.number) for p in patterns for place in _places(p)})


def _places(p: Pattern) -> Iterator[Place]:
    """The lists in which a leaf stands; repeats that were folded have no places to tell apart."""
    return (Place(p.segments[:n], number_of(s)) for n, s in enumerate(p.segments) if s.isdecimal())


def _last(side: Side) -> dict[Path, int]:
    found: dict[Path, int] = defaultdict(int)
    for p in side.patterns:
        for place in _places(p):
            found[place.above] = max(found[place.above], place.number)
    return found


def _mark(
    table: Floats, sides: tuple[Side, Side], lists: tuple[Path, Path], relation: Relation | None, ranked: bool
) -> None:
    here, there = (_levels(side, above, size) for side, above, size in zip(sides, lists, table.shape, strict=True))
    for i, a in here:
        for j, b in there:
            if relation is not None:
                table[i, j] = 1 if relation.holds(a, b) else -1
            if ranked:
                table[i, j] -= len(_ranks(sides[0], i, lists[0]) & _ranks(sides[1], j, lists[1]))


def _levels(side: Side, above: Path, free: int) -> list[tuple[int, int]]:
    """Leaves below the levels of a list that are not settled, each with the number of its level."""
    at = len(above)
    inside = ((n, side.patterns[n].segments) for n in side.below[above] if n < free)
    return [(n, number_of(s[at])) for n, s in inside if len(s) > at and s[at].isdecimal()]


def _ranks(side: Side, at: int, above: Path) -> set[str]:
    depth = len(side.patterns[at].segments) - 1 - len(above)
    return {t.text for t in side.tokens[at] if t.text[0] == "%" and t.depth == depth and t.qualified}
