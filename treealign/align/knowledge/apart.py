"""Heads in a dimension of their own: what a known layout says that the other side's rows are."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from treealign.align.asking.rows import head_blocks
from treealign.align.knowledge.entries import Fused, Run
from treealign.align.links import Link
from treealign.align.patterns import Shape
from treealign.mapping.operations import Concat, Interleave, Operation, Parallel, Permute, Reshape, invert

HEADS = ("head", "row")  # heads stand one after the other, whoever writes them


def flat(dimensions: Run, first: str) -> Run | None:
    """The dimensions in the order in which the other side has them, heads and their rows side by side.

    A bias has nothing but these. `first` is which dimension of the other side's matrix is first.

    >>> flat(("head", "in", "row"), "outputs"), flat(("head", "row", "out"), "outputs")
    (('head', 'row', 'in'), ('out', 'head', 'row'))
    """
    if set(dimensions) == set(HEADS):
        return HEADS
    if first not in ("inputs", "outputs") or len(dimensions) != len(HEADS) + 1:
        return None
    (other,) = set(dimensions) - set(HEADS)
    return (other, *HEADS) if (first == "inputs") == (other == "in") else (*HEADS, other)


def taken_apart(before: Shape, after: Shape, dimensions: Run, first: str) -> tuple[Operation, ...] | None:
    """From a matrix or a bias to a leaf with these dimensions; None where the shapes are no such two.

    >>> taken_apart((32, 16), (4, 16, 8), ("head", "in", "row"), "outputs")
    (Reshape((32, 16), (4, 8, 16)), Permute((0, 2, 1)))
    """
    order = flat(dimensions, first)
    if order is None or before is None or after is None or len(after) != len(dimensions):
        return None
    size = dict(zip(dimensions, after, strict=True))
    cut = tuple(size[name] for name in order)
    if before != _together(order, cut):
        return None
    turn = tuple(order.index(name) for name in dimensions)
    cuts = (Reshape(before, cut),)
    return cuts if turn == tuple(range(len(turn))) else (*cuts, Permute(turn))


def joined_apart(joined: Link, dimensions: Sequence[Run], first: str, made: Fused) -> tuple[Operation, ...] | None:
    """From parts with these dimensions, in the order in which they stand in it, to the whole; None where none does."""
    shapes = {tuple(p.shapes[key] for p in joined.left) for key in joined.left[0].cells}
    if len(shapes) != 1 or any(p.cells.keys() != joined.left[0].cells.keys() for p in joined.left):
        return None
    found, rows = [], []
    for dims, shape in zip(dimensions, next(iter(shapes)), strict=True):
        order = flat(dims, first) if dims and shape is not None and len(shape) == len(dims) else None
        if order is None or shape is None:
            return None
        size = dict(zip(dims, shape, strict=True))
        whole = _together(order, tuple(size[name] for name in order))
        found.append(taken_apart(whole, shape, dims, first))
        rows.append((order.index("head"), whole[order.index("head")], size["row"]))
    dim, sizes = rows[0][0], tuple(n for _, n, _ in rows)
    blocks = (1,) if made.stand == "by part" else head_blocks(sizes, rows[0][2])
    if None in found or blocks is None or made.stand == "in turns" or len({size for _, _, size in rows}) > 1:
        return None
    steps = zip(*(invert(one) for one in found if one is not None), strict=True)
    each = (one[0] if len(set(one)) == 1 else Parallel(one) for one in steps)
    turns = () if made.stand == "by part" else (Interleave(dim, blocks),)
    return (*each, Concat(dim, sizes), *turns)


def _together(order: Run, sizes: Sequence[int]) -> tuple[int, ...]:
    """The shape with heads and their rows in one dimension."""
    at = order.index("head")
    return (*sizes[:at], prod(sizes[at : at + 2]), *sizes[at + 2 :])
