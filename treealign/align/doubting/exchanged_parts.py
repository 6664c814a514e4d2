"""Parts of a whole that could be exchanged with a lone leaf beside them, or would be complete with it.

Which leaves a fused one is made of, shapes say only where no other leaf of the module has the shape of a part: four
squares of an attention are q, k, v and its output, in whatever way the names divide them. So a match of one leaf is
told from the parts of a whole beside it only by a name that belongs to it, or to them, alone. And where a whole is left
over that would be complete with a leaf that is matched by itself, nothing but its own name says that it is no part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass

from treealign.align.converting.part_order import own_name
from treealign.align.doubting.nearby_names import near_roles, near_words
from treealign.align.links import Link
from treealign.align.matching.agreement import composed_roles
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import Alternative, Alternatives, rivals_of

PART = Reason("names", "a part of what is fused beside it has its shape, and no name tells which of them it is")
COMPLETES = Reason(
    "names", "what is left over beside it would be complete with it, and no name says that it is no part"
)
Path = tuple[str, ...]
Beside = tuple[Path, str]  # what holds the modules, and which leaf of them it is
Shape = tuple[int, ...]
Size = tuple[int, Shape]  # repeats, and the shape of each


@dataclass(frozen=True)
class _Lone:
    """A match of one leaf: the link, its end where a whole has its parts, and where it has the whole itself."""

    link: Link
    part: Pattern
    whole: Pattern


def judge_exchanged_parts(state: State) -> Alternatives:
    """Matches that could change places with a part of a whole beside them, with that whole.

    Linear in the leaves, and under one module in what is fused times what is lone.
    """
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
    other = _shared(lone.part, whole) | _shared(part, lone.whole)
    return not (_shared(lone.part, lone.whole) - other or _shared(part, whole) - other)


def _completing(state: State, side: int, beside: dict[Beside, list[_Lone]]) -> Iterator[tuple[Link, Alternative]]:
    used = {p for link in (*state.known, *state.resized) for p in (*link.left, *link.right)}
    left_over: dict[Beside, list[Pattern]] = defaultdict(list)
    for p in state.patterns[1 - side]:
        if p not in used:
            for depth in range(1, len(p.segments)):  # a level may be between what holds the modules and one of them
                left_over[p.segments[:depth], p.parameter].append(p)
    wholes: dict[Beside, dict[Size, list[Pattern]]] = defaultdict(lambda: defaultdict(list))
    for p in state.patterns[side] if left_over else ():
        if p not in used and _beside(p) in beside:
            wholes[_beside(p)][_size_of(p)].append(p)
    for place, sizes in wholes.items():
        fits: dict[tuple[Beside, Size], list[Pattern]] = {}  # wholes by what holds a part, and its size
        for lone in beside[place]:
            key = _beside(lone.part), _size_of(lone.part)
            if key not in fits:
                rest = Counter(map(_size_of, left_over.get(key[0], ())))
                fits[key] = [p for size, some in sizes.items() if _completes(key[1], rest, size) for p in some]
            if any(not _shared(lone.part, lone.whole) - _shared(lone.part, whole) for whole in fits[key]):
                yield lone.link, Alternative(COMPLETES, rivals_of([lone.link]))


def _completes(leaf: Size, rest: Counter[Size], whole: Size) -> bool:
    """Whether a whole has the sizes of a leaf and of some of the rest, put together along one dimension."""
    (repeats, mine), (cells, shape) = leaf, whole
    for axis in range(len(shape)) if repeats == cells else ():
        size = _along(mine, shape, axis)
        missing = shape[axis] - size
        sums = {0}  # of the rest, no more than are missing
        for (_, other), count in rest.items() if size and missing > 0 else ():
            length = _along(other, shape, axis)
            for _ in range(min(count, missing // length) if length else 0):
                sums |= {length + one for one in sums if length + one <= missing}
        if missing in sums - {0}:
            return True
    return False


def _along(mine: Shape, shape: Shape, axis: int) -> int:
    """How much of a dimension of the whole a leaf would be, turned or not; 0 where the others differ."""
    rest = shape[:axis] + shape[axis + 1 :]
    for own in {mine, mine[::-1]} if len(mine) == 2 else {mine}:
        if len(own) == len(shape) and own[:axis] + own[axis + 1 :] == rest:
            return own[axis]
    return 0


def _alike(p: Pattern, other: Pattern) -> bool:
    """Whether two leaves have one shape in as many repeats, be one of them turned."""
    (cells, shape), theirs = _size_of(p), _size_of(other)
    return theirs in ((cells, shape), (cells, shape[::-1]))


def _size_of(p: Pattern) -> Size:
    """In how many repeats a leaf is, and its shape in the first."""
    return len(p.cells), next(iter(p.shapes.values())) or ()


def _beside(p: Pattern) -> Beside:
    return p.holder, p.parameter


def _shared(p: Pattern, other: Pattern) -> Set[str]:
    """What the names of two leaves have in common: roles, those of the parts of fused ones, words, and a whole name."""
    mine, theirs = ({role[1:] for role in near_roles(r.named)} for r in (p, other))
    roles = (composed_roles(mine) & theirs) | (mine & composed_roles(theirs))
    return roles | (near_words(p.named) & near_words(other.named)) | ({own_name(p)} & {own_name(other)})
