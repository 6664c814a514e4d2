"""The orders of dimensions in which joined parts can stand in their whole, as its shape allows them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from treealign.align.converting.shape_algebra import Sizes, joined_as_they_are, joined_then_turned
from treealign.align.links import Link, joining, rejoined
from treealign.align.patterns import Pattern
from treealign.mapping.operations import Concat, Permute, Split, Stack, Unstack

JOINS = (Stack, Concat, Split, Unstack)


class JoinShapes(NamedTuple):
    """Shapes of one tensor of each part and of the whole, and how many of each part are stacked or joined first."""

    parts: tuple[Sizes, ...]
    whole: Sizes
    stacked: int


def is_joined(link: Link) -> bool:
    """Whether parts become a whole, or come of one."""
    return any(isinstance(o, JOINS) for o in link.operations)


def join_shapes(link: Link) -> JoinShapes:
    """The shapes of a join; of a cut, as the join that undoes it."""
    joined = joining(link)
    more = joined.left[0].captures > joined.right[0].captures
    count = len(next(iter(joined.expand())).left) // len(joined.left)
    return JoinShapes(tuple(_shape(p) for p in joined.left), _shape(joined.right[0]), count if more else 0)


def join_orders(link: Link) -> dict[Sizes, Link]:
    """The ways to join and turn, or to turn and cut, by the order of dimensions, the one that turns least first.

    The order is that of `Permute`, from the checkpoint to the model. Empty where it is no join or cut, and where
    something else is done to it than to join, to cut and to turn.
    """
    joined = joining(link)
    if not is_joined(link) or not all(isinstance(o, Stack | Concat | Permute) for o in joined.operations):
        return {}
    shapes = join_shapes(link)
    plain = joined_as_they_are(*shapes)
    ways = {tuple(range(len(shapes.whole))): plain} if plain else {}
    for *steps, turn in joined_then_turned(*shapes):
        if isinstance(turn, Permute):
            there = tuple(turn.dims)
            back = tuple(sorted(range(len(there)), key=there.__getitem__))
            ways[there if joined is link else back] = (*steps, turn)
    groups = tuple(joined.expand())
    return {dims: rejoined(link, replace(joined, operations=way, groups=groups)) for dims, way in ways.items()}


def _shape(p: Pattern) -> Sizes:
    return next(iter(p.shapes.values())) or ()
