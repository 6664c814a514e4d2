"""Square matrices that become one, which shapes let be joined as they are though they may have to be turned.

Projections of one input are joined along their outputs: q, k and v, gate and up. So the axis along which a whole is
cut tells which way round it stands, and nothing tells it of its square parts but what is around them. Where that says
nothing, or the contrary, whether the parts are turned is a question; and so it is for the squares that are stacked
beside it, as the down projections of the same experts are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from treealign.align.converting.shape_algebra import joined_as_they_are, joined_then_turned
from treealign.align.converting.turned_joins import join_shapes
from treealign.align.doubting.layouts import kind
from treealign.align.doubting.squares import ENOUGH, Surroundings
from treealign.align.doubting.transposition import block
from treealign.align.links import Link, joining, rejoined
from treealign.align.matching.orientation import inputs_first
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import doubted
from treealign.mapping.operations import Concat, Deinterleave, Interleave, Operation, Permute, Stack

JOINED = Reason(
    "axes",
    "square projections are joined along what would be their inputs: they, and the squares beside, may be turned",
)
STEPS = (Stack, Concat, Permute, Interleave, Deinterleave)
Path = tuple[str, ...]
Ways = tuple[tuple[Operation, ...], tuple[Operation, ...]]


@dataclass(frozen=True)
class _Verdict:
    """Whether the parts are turned, and whether that is certain."""

    turned: bool
    certain: bool


def turn_joined_squares(state: State) -> State:
    """Turn or open matches that join square parts along their inputs, with what is stacked beside them."""
    if not state.shapes:
        return state
    proved = set(state.anchors.links)
    found = zip(state.links, _with_turned(state.links, *state.patterns), strict=True)
    return replace(state, links=tuple(before if before in proved else after for before, after in found))


def _with_turned(links: Sequence[Link], checkpoint: Sequence[Pattern], model: Sequence[Pattern]) -> list[Link]:
    joined = [(n, link) for n, link in enumerate(links) if _is_along_inputs(joining(link))]
    if not joined:
        return list(links)
    around = Surroundings(links, checkpoint, model)
    ways = _Sides.of(checkpoint, model)
    found = list(links)
    beside: dict[tuple[bool, Path], _Verdict] = {}
    for n, link in joined:
        verdict = _around_it(link, around, ways)
        found[n] = _as_judged(link, verdict)
        beside[_is_cut(link), joining(link).right[0].holder] = verdict
    taken = {n for n, _ in joined}
    for n, link in enumerate(found):
        holders = (True, link.left[0].holder), (False, link.right[0].holder)
        near = next((beside[h] for h in holders if h in beside), None)
        if near is not None and n not in taken and _is_of_squares(link):
            found[n] = _as_judged(link, near)
    return found


def join_ways(link: Link) -> Ways | None:
    """Square parts, or a square alone, as they are, and turned; None where there is another way, or nothing to turn."""
    joined = joining(link)
    parts, whole = [_shape(p) for p in joined.left], _shape(joined.right[0])
    if len(joined.right) != 1 or not all(isinstance(o, STEPS) for o in joined.operations):
        return None
    if any(len(p) < 2 or p[-1] != p[-2] for p in parts):
        return None
    if len(parts) == 1 and parts[0] == whole and len(joined.left[0]) == len(joined.right[0]):
        rank = len(whole)
        return (), (Permute((*range(rank - 2), rank - 1, rank - 2)),)
    shapes = join_shapes(link)
    plain = joined_as_they_are(*shapes)
    turned = [way for way in joined_then_turned(*shapes) if _swaps_last(way[-1])]
    return (plain, turned[0]) if plain and turned else None


def in_way(link: Link, turned: bool) -> Link | None:
    """The link with its square parts as they are, or turned; None where it joins or cuts none."""
    ways = join_ways(link)
    if ways is None:
        return None
    joined = joining(link)
    made: list[Operation] = []
    rows = [o for o in joined.operations if isinstance(o, Interleave | Deinterleave)]
    for o in ways[turned]:
        made.append(o)
        made += [replace(row, dim=o.dim) for row in rows if isinstance(o, Concat)]
    return rejoined(link, replace(joined, operations=tuple(made), groups=tuple(joined.expand())))


@dataclass(frozen=True, eq=False)
class _Sides:
    """Which matrices of either side have their inputs first, as their biases tell, by the block in which they stand."""

    left: dict[Path, list[bool]]
    right: dict[Path, list[bool]]

    @classmethod
    def of(cls, left: Sequence[Pattern], right: Sequence[Pattern]) -> _Sides:
        found: list[dict[Path, list[bool]]] = []
        for side in (left, right):
            told: dict[Path, list[bool]] = {}
            for n, first in inputs_first(side).items():
                told.setdefault(block(side[n]), []).append(first)
            found.append(told)
        return cls(found[0], found[1])


def _around_it(link: Link, around: Surroundings, ways: _Sides) -> _Verdict:
    """What the matrices around a join of squares say: others that are turned, or biases; else its names suggest it."""
    near = next((s for s in around.near(link) if s.alike or s.turned), None)
    if near is not None and near.turned >= ENOUGH and not near.alike:
        return _Verdict(turned=True, certain=True)
    sides = (ways.left, ways.right) if _is_cut(link) else (ways.right, ways.left)
    joined = joining(link)
    whole, parts = sides[0].get(block(joined.right[0]), []), sides[1].get(block(joined.left[0]), [])
    if near is not None and near.alike >= ENOUGH and not near.turned and whole and all(whole):
        return _Verdict(turned=False, certain=True)
    names = {kind(p) for p in joined.left}
    if len(parts) >= ENOUGH and not any(parts) and names == {"weight"}:
        return _Verdict(turned=True, certain=True)
    return _Verdict(turned="kernel" not in names, certain=False)


def _as_judged(link: Link, verdict: _Verdict) -> Link:
    made = in_way(link, verdict.turned)
    if made is None:
        return link
    if verdict.certain:
        return made
    if link.certain:
        return doubted(made, JOINED, (link.left, link.right))
    return doubted(made, made.reason, beneath=(*made.beneath, JOINED))


def _is_along_inputs(joined: Link) -> bool:
    """Whether several square parts are joined along their last axis, and nothing is turned."""
    joins = [o for o in joined.operations if isinstance(o, Concat)]
    if len(joined.left) < 2 or len(joined.right) != 1 or len(joins) != 1:
        return False
    ways = join_ways(joined)
    return ways is not None and joins[0].dim == len(_shape(joined.right[0])) - 1 and joined.operations == ways[0]


def _is_of_squares(link: Link) -> bool:
    """Whether it is a square, or a stack of such, and turns none."""
    joined = joining(link)
    ways = join_ways(joined)
    return ways is not None and joined.operations == ways[0] and not any(isinstance(o, Concat) for o in ways[0])


def _is_cut(link: Link) -> bool:
    """Whether the whole is the checkpoint's."""
    return joining(link) is not link


def _swaps_last(o: Operation) -> bool:
    """Whether a permutation exchanges the last two axes and no other."""
    if not isinstance(o, Permute):
        return False
    rank = len(o.dims)
    return tuple(o.dims) == (*range(rank - 2), rank - 1, rank - 2)


def _shape(p: Pattern) -> tuple[int, ...]:
    return next(iter(p.shapes.values())) or ()
