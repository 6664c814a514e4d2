"""How rows stand in a tensor, as a statement says it: the operations of a match that joins, cuts or copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from treealign.align.asking.folded import is_refold, refolded
from treealign.align.doubting.rotary import roles
from treealign.align.hints import Said
from treealign.align.links import Group, Link, joining, rejoined
from treealign.align.patterns import Pattern
from treealign.mapping.operations import (
    Concat,
    Deinterleave,
    Interleave,
    Keep,
    Operation,
    Parallel,
    Permute,
    Reorder,
    RotaryPermute,
    RotaryUnpermute,
    Split,
    Stack,
    invert,
)
from treealign.mapping.operations.base import as_ints

Order = tuple[int, ...]
HIDDEN = (RotaryPermute, RotaryUnpermute, Interleave, Deinterleave)  # what changes rows and no shape
ROTARY = ("to half split", "to interleaved")
MATRIX = 2
EXPERTS = 3  # dimensions of the matrices of all experts
DEFAULT = {"checkpoint": True, "model": False}


class HeadLayout(NamedTuple):
    """How many rows of a projection are a head, and how many of these rotate; 0 for all."""

    head_dim: int
    rotary_dim: int = 0


def is_join(link: Link) -> bool:
    """Parts that become one tensor by one concat."""
    joins = [o for o in link.operations if isinstance(o, Concat)]
    return len(link.left) > 1 and len(link.right) == 1 and len(joins) == 1 and len(joins[0].sizes) == len(link.left)


def is_list(joined: Link) -> bool:
    """Parts that become one tensor by one concat, or by one stack: in some order."""
    counts = [o.count for o in joined.operations if isinstance(o, Stack)]
    return is_join(joined) or (len(joined.right) == 1 < len(joined.left) and counts == [len(joined.left)])


def in_order(link: Link, order: Order) -> Link:
    """A link that joins or cuts, with its parts in another order in the whole, rows as they were."""
    joined = joining(link)
    at = next(n for n, o in enumerate(joined.operations) if isinstance(o, Concat | Stack))
    join = joined.operations[at]
    if isinstance(join, Concat):
        join = Concat(join.dim, tuple(join.sizes[n] for n in order))
    before = tuple(_reordered(o, order) for o in joined.operations[:at])
    after = tuple(_turns_of(o, order) for o in joined.operations[at + 1 :])
    groups = tuple(Group(_in_order(g.left, order), g.right) for g in joined.groups)
    operations = (*before, join, *after)
    left = tuple(joined.left[n] for n in order)
    return rejoined(link, replace(joined, left=left, operations=operations, groups=groups))


def _reordered(o: Operation, order: Order) -> Operation:
    if isinstance(o, Parallel) and len(o.operations) == len(order):
        return Parallel(tuple(o.operations[n] for n in order))
    return o


def _turns_of(o: Operation, order: Order) -> Operation:
    if isinstance(o, Interleave | Deinterleave) and len(o.blocks) == len(order):
        return type(o)(o.dim, tuple(o.blocks[n] for n in order))
    return o


def _in_order(positions: tuple[int, ...], order: Order) -> tuple[int, ...]:
    run = len(positions) // len(order)
    return tuple(at for n in order for at in positions[n * run : (n + 1) * run])


def order_of(joined: Link, parts: Sequence[str]) -> Order | None:
    """The order in which the parts of a whole stand, each named by its role; None where these are others."""
    if not is_join(joined) or len(parts) != len(joined.left):
        return None
    places = [next((n for n, p in enumerate(joined.left) if part in roles(p)), -1) for part in parts]
    return tuple(places) if sorted(places) == list(range(len(parts))) else None


def with_rows(link: Link, said: Said, fold: int | None = None) -> Link | None:
    """A link whose rows stand as a statement says; None where they cannot. Folds are along the dimension `fold`."""
    if said.parts:
        order = order_of(joining(link), said.parts)
        return None if order is None else with_rows(in_order(link, order), replace(said, parts=()), fold)
    joined = joining(link)
    if is_join(joined):
        made = _joined_rows(joined, said, whole_left=len(link.left) == 1)
        return None if made is None else rejoined(link, made)
    if len(link.left) != 1 or len(link.right) != 1:
        return link if said.kind == "as stored" else None
    base = without_rows(link)
    if said.kind in ("as stored", "by part"):
        return base
    extra = _folded_rows(base, said, fold) if said.kind == "folded" else _single_rows(base, said)
    if extra is None:
        return None
    first, last = extra
    return with_operations(base, (*first, *base.operations, *last))


def without_rows(link: Link) -> Link:
    """A link of one leaf to one without the operations that change rows and no shape."""
    operations = _without_swap([o for o in link.operations if not isinstance(o, HIDDEN)])
    return with_operations(link, tuple(operations))


def _without_swap(operations: list[Operation]) -> list[Operation]:
    for at in range(len(operations) - 2):
        a, b, c = operations[at : at + 3]
        if (isinstance(a, Split) and isinstance(b, Reorder) and isinstance(c, Concat)) or is_refold((a, b, c)):
            return operations[:at] + operations[at + 3 :]
    return operations


def with_operations(link: Link, operations: tuple[Operation, ...]) -> Link:
    """A link of one leaf to one with these operations instead."""
    groups = tuple(link.expand()) if operations else link.groups
    return replace(link, operations=operations, groups=groups)


def _joined_rows(joined: Link, said: Said, *, whole_left: bool) -> Link | None:
    """Parts on the left, the whole on the right; statements speak of the side on which the whole is."""
    at = next(n for n, o in enumerate(joined.operations) if isinstance(o, Concat))
    concat = joined.operations[at]
    before = tuple(o for o in joined.operations[:at] if not _turns_parts(o))
    after = tuple(o for o in joined.operations[at + 1 :] if not isinstance(o, HIDDEN))
    sizes = as_ints(concat.sizes)
    turns: tuple[Operation, ...] = ()
    if said.kind in ("by head", "in turns"):
        if (said.end == "checkpoint") != whole_left:
            return None
        blocks = head_blocks(sizes, said.size) if said.kind == "by head" else _even(sizes)
        if blocks is None:
            return None
        turns = (Interleave(concat.dim, blocks),)
    elif said.kind not in ("as stored", "by part", *ROTARY):
        return None
    rotary = said.kind if said.kind in ROTARY else said.rotary
    if rotary:
        # a split is read backwards here
        forward = (rotary == "to half split") != whole_left
        parts = [_rotary(p, sizes[n], forward, said) for n, p in enumerate(joined.left)]
        if None in parts or all(isinstance(o, Keep) for o in parts):
            return None
        before = (*before, Parallel(tuple(o for o in parts if o is not None)))
    return replace(joined, operations=(*before, Concat(concat.dim, concat.sizes), *turns, *after))


def _turns_parts(o: Operation) -> bool:
    return isinstance(o, Parallel) and any(isinstance(one, HIDDEN) for one in o.operations)


def _rotary(p: Pattern, rows: int, forward: bool, said: Said) -> Operation | None:
    return _turned(rows, forward, said) if {"q", "k"} & roles(p) else Keep()


def _turned(rows: int, forward: bool, said: Said) -> Operation | None:
    """The rows of heads in another rotary order; None where they are no whole number of heads."""
    size, rotated = said.size, said.rotated or said.size
    if rows % size or rotated % 2 or rotated > size:
        return None
    return (RotaryPermute if forward else RotaryUnpermute)(rows // size, size, None if rotated == size else rotated)


def _even(sizes: Sequence[int]) -> Order | None:
    return (1,) * len(sizes) if len(set(sizes)) == 1 else None


def head_blocks(rows: Sequence[int], head_dim: int) -> Order | None:
    """The rows of each part in one turn: as many heads as there are to each of the part that has fewest."""
    if not rows or any(not size or size % head_dim for size in rows):
        return None
    turns = min(rows) // head_dim
    return None if turns < 2 or any(size % turns for size in rows) else tuple(size // turns for size in rows)


def _single_rows(link: Link, said: Said) -> tuple[tuple[Operation, ...], tuple[Operation, ...]] | None:
    """Operations that come first, and those that come last: on the side of which the statement speaks."""
    left = DEFAULT.get(said.end, True)
    p = link.left[0] if left else link.right[0]
    shapes = {shape for shape in p.shapes.values() if shape}
    if len(shapes) != 1:
        return None
    shape = next(iter(shapes))
    dim = _fused_dim(link, shape, left)
    made: tuple[Operation, ...] | None = None
    if said.rotary:
        return None  # which of the rows are those of q and k, no shape of a whole on both sides shows
    if said.kind in ROTARY:
        return _rotary_rows(link, said)
    if said.kind == "by head" and (blocks := _blocks_of_whole(shape, dim, said.size)):
        made = (Interleave(dim, blocks),)
    elif said.kind == "in turns" and shape[dim] % 2 == 0:
        made = (Interleave(dim, (1, 1)),)
    elif said.kind == "swapped" and shape[dim] % 2 == 0:
        half = (shape[dim] // 2,) * 2
        return (Split(dim, half), Reorder((1, 0)), Concat(dim, half)), ()
    if made is None:
        return None
    return (invert(made), ()) if left else ((), made)


def _rotary_rows(link: Link, said: Said) -> tuple[tuple[Operation, ...], tuple[Operation, ...]] | None:
    """Heads are rows of a linear layer: of the checkpoint's, and of the model's where that one is turned."""
    p = link.right[0] if _is_turned(link) else link.left[0]
    rows = {shape[0] for shape in p.shapes.values() if shape}
    turned = _turned(min(rows), said.kind == "to half split", said) if len(rows) == 1 else None
    if turned is None:
        return None
    return ((), (turned,)) if _is_turned(link) else ((turned,), ())


def _blocks_of_whole(shape: Sequence[int], dim: int, head_dim: int) -> Order | None:
    """The rows of q, k and v in one turn of a whole: as many queries as there are inputs, else three equal parts."""
    rows, inputs = shape[dim], shape[-1 if dim < len(shape) - 1 else -2] if len(shape) > 1 else 0
    keys, odd = divmod(rows - inputs, 2)
    if inputs and not odd and 0 < keys <= inputs and (blocks := head_blocks((inputs, keys, keys), head_dim)):
        return blocks
    return head_blocks((rows // 3,) * 3, head_dim) if rows % 3 == 0 else None


def _folded_rows(link: Link, said: Said, dim: int | None) -> tuple[tuple[Operation, ...], tuple[Operation, ...]] | None:
    shapes = {shape for shape in link.left[0].shapes.values() if shape}
    if dim is None or len(shapes) != 1 or link.operations:
        return None
    made = refolded(shapes.pop(), dim, said)
    return None if made is None else (made, ())


def _fused_dim(link: Link, shape: Sequence[int], left: bool) -> int:
    """Along which dimension a fused tensor is fused: its rows.

    Of one that is turned they are its outputs, of which it has several times as many as of inputs; where it has not,
    they are what the model's rows are.
    """
    if not _is_turned(link):
        return 1 if len(shape) == EXPERTS and _role_of(link, "gate up") else 0
    rows, columns = len(shape) - 2, len(shape) - 1
    if shape[rows] == shape[columns]:
        return columns if left else rows
    return rows if shape[rows] > shape[columns] else columns


def _is_turned(link: Link) -> bool:
    return any(isinstance(o, Permute) for o in link.operations)


def _role_of(link: Link, role: str) -> bool:
    return any(role in roles(p) for p in (*link.left, *link.right))
