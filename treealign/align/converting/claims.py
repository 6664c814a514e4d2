"""A fused group before a lone key: what is q, k and v in one claims their three places before anything else takes one.

Where an attention's output has the shape of each of the three, and names do not say that it is none of them, it fits
any of the four places; the fused tensor fits only if none of its three is taken.
"""

from __future__ import annotations

from collections import defaultdict

from treealign.align.matching.agreement import composed_roles
from treealign.align.matching.assignment import Assignment
from treealign.align.matching.scoring import Side
from treealign.align.patterns import Pattern

Path = tuple[str, ...]


def claimed(left: Side, right: Side, assignment: Assignment) -> set[int]:
    """Matches of a lone key to a part of what a fused key beside it is left over for: left patterns."""
    fused: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for at, p in enumerate(left.patterns):
        whole = _roles(left, at)
        parts = composed_roles(whole) - whole
        if parts and at not in assignment.pairs:
            fused[_container(p), p.segments[-1]] |= parts
    found = set()
    for i, j in assignment.pairs.items():
        p = left.patterns[i]
        parts = fused.get((_container(p), p.segments[-1]), set())
        if parts & _roles(right, j) and not parts & _roles(left, i):
            found.add(i)
    return found


def _container(p: Pattern) -> Path:
    return p.segments[:-2]


def _roles(side: Side, at: int) -> set[str]:
    return {t.text[1:] for t in side.tokens[at] if t.text[0] == "@" and t.depth <= 1}
