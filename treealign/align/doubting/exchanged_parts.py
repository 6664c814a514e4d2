"""Parts of a whole that could be exchanged with a lone leaf beside them, or would be complete with it.

Which leaves a fused one is made of, shapes say only where no other leaf of the module has the shape of a part: four
squares of an attention are q, k, v and its output, in whatever way the names divide them. So a match of one leaf is
told from the parts of a whole beside it only by a name that belongs to it, or to them, alone. And where a whole is left
over that would be complete with a leaf that is matched by itself, nothing but its own name says that it is no part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from treealign.align.converting.part_order import own_name
from treealign.align.links import Link
from treealign.align.matching.agreement import composed_roles
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import Alternative, Alternatives, rivals_of
from treealign.align.words import CONTAINERS, tokens

PART = Reason("names", "a part of what is fused beside it has its shape, and no name tells which of them it is")
COMPLETES = Reason(
    "names", "what is left over beside it would be complete with it, and no name says that it is no part"
)
AROUND = frozenset(f"@{role}" for role in CONTAINERS)
NEAR = 3  # levels up to the names of which it is one
Path = tuple[str, ...]
Beside = tuple[Path, str]  # what holds the modules, and which leaf of them it is
Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Lone:
    """A match of one leaf: the link, its end where a whole has its parts, and where it has the whole itself."""

    link: Link
    part: Pattern
    whole: Pattern


def judge_exchanged_parts(state: State) -> Alternatives:
    """Matches that could change places with a part of a whole beside them, with that whole; linear in the links."""
    lone = [link for link in state.known if len(link.left) == len(link.right) == 1]
    found: dict[Link, Alternative] = {}
    for side in (0, 1):
        beside: dict[Beside, list[_Lone]] = defaultdict(list)
        for link in lone:
            ends = link.left[0], link.right[0]
            beside[_beside(ends[side])].append(_Lone(link, ends[1 - side], ends[side]))
        for fused in state.known:
            whole, parts = (fused.left, fused.right)[side], (fused.left, fused.right)[1 - side]
            if len(whole) != 1 or len(parts) < 2:
                continue
            for other in beside.get(_beside(whole[0]), ()):
                if any(_may_change(other, part, whole[0]) for part in parts):
                    both = rivals_of([other.link, fused])
                    found |= {other.link: Alternative(PART, both), fused: Alternative(PART, both)}
        found |= _completing(state, side, beside)
    return found


def _may_change(lone: _Lone, part: Pattern, whole: Pattern) -> bool:
    """Whether the lone leaf may as well be the part, and the part stand alone."""
    if _beside(lone.part) != _beside(part) or not _alike(lone.part, part):
        return False
    other = shared(lone.part, whole) | shared(part, lone.whole)
    return not (shared(lone.part, lone.whole) - other or shared(part, whole) - other)


def _completing(state: State, side: int, beside: dict[Beside, list[_Lone]]) -> Iterator[tuple[Link, Alternative]]:
    used = {p for link in (*state.known, *state.resized) for p in (*link.left, *link.right)}
    left_over: dict[Beside, list[Pattern]] = defaultdict(list)
    for p in state.patterns[1 - side]:
        if p not in used:
            for depth in range(1, len(p.segments)):  # a level may be between what holds the modules and one of them
                left_over[p.segments[:depth], p.parameter].append(p)
    for whole in state.patterns[side]:
        if whole in used or not left_over:
            continue
        for lone in beside.get(_beside(whole), ()):
            rest = left_over.get(_beside(lone.part), [])
            named = shared(lone.part, lone.whole) - shared(lone.part, whole)
            if not named and _completes(lone.part, rest, whole):
                yield lone.link, Alternative(COMPLETES, rivals_of([lone.link]))


def _completes(leaf: Pattern, rest: Sequence[Pattern], whole: Pattern) -> bool:
    """Whether a whole has the sizes of the leaf and some of the rest, put together along one dimension."""
    shape = _shape(whole)
    for axis in range(len(shape)):
        size = _size(leaf, shape, axis)
        missing = shape[axis] - size
        sums = {0}  # of the rest, no more than are missing
        for length in filter(None, (_size(p, shape, axis) for p in rest)) if size and missing > 0 else ():
            sums |= {length + one for one in sums if length + one <= missing}
            if missing in sums:
                return _repeats(leaf) == _repeats(whole)
    return False


def _size(p: Pattern, shape: Shape, axis: int) -> int:
    """How much of a dimension of the whole a leaf would be, turned or not; 0 where the others differ."""
    mine, rest = _shape(p), shape[:axis] + shape[axis + 1 :]
    for own in {mine, mine[::-1]} if len(mine) == 2 else {mine}:
        if len(own) == len(shape) and own[:axis] + own[axis + 1 :] == rest:
            return own[axis]
    return 0


def _alike(p: Pattern, other: Pattern) -> bool:
    """Whether two leaves have one shape in as many repeats, be one of them turned."""
    return _repeats(p) == _repeats(other) and _shape(other) in (_shape(p), _shape(p)[::-1])


def _repeats(p: Pattern) -> int:
    return len(p.cells)


def _shape(p: Pattern) -> Shape:
    return next(iter(p.shapes.values())) or ()


def _beside(p: Pattern) -> Beside:
    return p.holder, p.parameter


def shared(p: Pattern, other: Pattern) -> Set[str]:
    """What the names of two leaves have in common: roles, those of the parts of fused ones, words, and a whole name."""
    mine, theirs = _roles(p), _roles(other)
    names = frozenset({own_name(p)} & {own_name(other)})
    return (composed_roles(mine) & theirs) | (mine & composed_roles(theirs)) | (_words(p) & _words(other)) | names


def _roles(p: Pattern) -> frozenset[str]:
    return frozenset(t.text[1:] for t in tokens(p.named) if t.text[0] == "@" and t.depth <= 1 and t.text not in AROUND)


def _words(p: Pattern) -> frozenset[str]:
    near = (t for t in tokens(p.named) if t.qualified and 1 <= t.depth <= NEAR)
    return frozenset(t.text for t in near if t.text[0] not in "@=")
