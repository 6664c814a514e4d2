"""A fused group before a lone key: what is q, k and v in one claims their three places before anything else takes one.

Where an attention's output has the shape of each of the three, and names do not say that it is none of them, it fits
any of the four places; the fused tensor fits only if none of its three is taken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from treealign.align.matching.agreement import composed_roles
from treealign.align.matching.assignment import Assignment
from treealign.align.matching.scoring import Side
from treealign.align.patterns import Pattern

Place = tuple[tuple[str, ...], str]


def claimed(left: Side, right: Side, assignment: Assignment) -> set[int]:
    """Matches of a part of what a fused key is left over for to a lone key beside that: left patterns."""
    pairs = assignment.pairs
    found = {i for i, _ in _taken(left, right, list(pairs.items()))}
    return found | {i for _, i in _taken(right, left, [(j, i) for i, j in pairs.items()])}


def _taken(wholes: Side, parts: Side, pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The pairs of a lone key of the one side and a part of the other that a fused key beside the first could have."""
    matched = {at for at, _ in pairs}
    fused: dict[Place, set[str]] = defaultdict(set)
    for at, p in enumerate(wholes.patterns):
        whole = roles_of(wholes, at)
        if at not in matched:
            fused[_place(p)] |= composed_roles(whole) - whole
    for own, other in pairs:
        wanted = fused.get(_place(wholes.patterns[own]), set())
        if wanted & roles_of(parts, other) and not wanted & roles_of(wholes, own):
            yield own, other


def _place(p: Pattern) -> Place:
    """What holds its module, and which leaf of it that is; what holds a parameter that has none of its own."""
    return p.holder, p.parameter


def roles_of(side: Side, at: int) -> set[str]:
    """What a leaf stands for by its own name and its module's."""
    return {t.text[1:] for t in side.tokens[at] if t.text[0] == "@" and t.depth <= 1}
