"""Transposed matrices: pairs of one shape whose names speak for partners of another layout.

Whether matrices are transposed is a habit of a library, so of whole blocks and not of single matrices: GPT-2 writes
all its linear layers the other way round. Where the matrices of a block that can show it are as they are on the other
side, names do not turn the few that could be either way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from treealign.align.knowledge.weights import MARGIN
from treealign.align.matching.assignment import Assignment
from treealign.align.matching.certainty import Doubt
from treealign.align.matching.orientation import inputs_first, stored_alike
from treealign.align.matching.scoring import Floats, Side
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason

OPPOSED = Reason("names", "their biases say that one has its inputs first and the other its outputs")
TURNED = Reason("names", "names speak for a partner of another layout")
Path = tuple[str, ...]


def turned(left: Side, right: Side, assignment: Assignment, total: Floats) -> dict[int, Doubt]:
    """Matched pairs of which either member has more in common with a pattern of another layout: a transposed matrix.

    And pairs of equal shapes that the two sides store the other way round, whatever the names.
    """
    free = assignment.given.free
    tables = _layouts(left.first(free[0])), _layouts(right.first(free[1]))
    ways = inputs_first(left.patterns), inputs_first(right.patterns)
    found = {}
    for i, j in assignment.pairs.items():
        if i in assignment.given.pairs:
            continue
        mine = left.patterns[i]
        there = [q for q in tables[1].get(_layout(mine), ()) if right.patterns[q].signature != mine.signature]
        theirs = _layout(right.patterns[j])
        here = [p for p in tables[0].get(theirs, ()) if left.patterns[p].signature != mine.signature]
        opposed = i in ways[0] and j in ways[1] and not stored_alike(ways, i, j)
        enough = float("-inf") if opposed else total[i, j] + MARGIN
        # of two that have their inputs on the same side, neither is the transpose of the other, whatever the names
        there = [q for q in there if total[i, q] > enough and not stored_alike(ways, i, q)]
        here = [p for p in here if total[p, j] > enough and not stored_alike(ways, p, j)]
        if there or here or opposed:
            reason = OPPOSED if opposed else TURNED
            found[i] = Doubt((i, j), tuple(sorted({i, *here})), tuple(sorted({j, *there})), reason)
    return found


def turned_blocks(right: Side, assignment: Assignment, found: Mapping[int, Doubt]) -> set[int]:
    """Those of the turned pairs that stand in a block whose other matrices do not say that nothing is transposed."""
    steady: Counter[Path] = Counter()
    for i, j in assignment.pairs.items():
        p = right.patterns[j]
        if is_matrix(p) and not is_square(p):
            steady[block(p)] += -1 if i in found else 1
    return {i for i, doubt in found.items() if steady[block(right.patterns[doubt.pair[1]])] <= 0}


def block(p: Pattern) -> Path:
    """The repeat in which a pattern stands: its path up to the last index, be it one that only occurs once."""
    last = max((at for at, s in enumerate(p.segments) if "{}" in s or s.isdigit()), default=-1)
    return p.segments[: last + 1]


def is_matrix(p: Pattern) -> bool:
    """Whether its leaves have two dimensions."""
    shape = next(iter(p.shapes.values()))
    return shape is not None and len(shape) == 2


def is_square(p: Pattern) -> bool:
    """Whether its leaves are square matrices."""
    shape = next(iter(p.shapes.values()))
    return shape is not None and len(shape) == 2 and shape[0] == shape[1]


def _layouts(side: Side) -> dict[object, list[int]]:
    found: dict[object, list[int]] = defaultdict(list)
    for at, p in enumerate(side.patterns):
        found[_layout(p)].append(at)
    return found


def _layout(p: Pattern) -> object:
    """Cells and their sizes, whatever the order of the dimensions and whichever have size 1; unique below two."""
    sizes = {shape: tuple(sorted(d for d in shape or () if d != 1)) for shape in set(p.shapes.values())}
    if any(len(s) < 2 for s in sizes.values()):
        return p
    if len(sizes) == 1:
        return p.nature, p.indices, next(iter(sizes.values()))
    return p.nature, p.indices, hash(frozenset((k, sizes[shape]) for k, shape in p.shapes.items()))
