"""From shared lines to operations: how one whole is made of its parts.

A line of a part is a line of the whole, so the places of the lines tell the rest: which dimension they run along on
either side gives a transpose; one index of the whole that is constant in each part, a stack; the order of the rows, a
concatenation, rows that take turns, heads in another rotary order. The plainest operations that fit are proposed, and
whoever asks compares contents in full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from math import prod
from typing import NamedTuple

import numpy as np

from treealign.align.contents.fingerprints import Fingerprint, Ints, Sizes
from treealign.align.contents.row_orders import RowOrder, row_order
from treealign.mapping.operations import (
    Concat,
    Deinterleave,
    Interleave,
    Join,
    Keep,
    Operation,
    Parallel,
    Permute,
    Reshape,
    Select,
    Stack,
)

MOST_DIMENSIONS = 5


class Lines(NamedTuple):
    """A part: its tensor, the dimensions along which shared lines run, and which of its lines are which of the whole.

    Dimensions below 0 are those of vectors whose elements are the lines.
    """

    tensor: Fingerprint
    axis: int
    whole_axis: int
    mine: Ints
    theirs: Ints


class Made(NamedTuple):
    """The parts in order, by number, and the operations that make the whole of them."""

    order: tuple[int, ...]
    operations: tuple[Operation, ...]


class _Frame(NamedTuple):
    """One reading of the dimensions.

    Attributes
    ----------
    whole : tuple of int
        Sizes of the whole, without dimensions of size 1.
    axis : int or None
        Its dimension along the lines.
    stack : int or None
        Its dimension that numbers the parts.
    dims : tuple of int
        The dimensions of a part in the order of those of the whole.
    """

    whole: Sizes
    axis: int | None
    stack: int | None
    dims: tuple[int, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """Dimensions of the whole that number its lines."""
        return tuple(d for d in range(len(self.whole)) if d != self.axis)

    @property
    def rows(self) -> tuple[int, ...]:
        """Those that a part has too."""
        return tuple(d for d in self.grid if d != self.stack)

    def in_part(self, dim: int) -> int:
        """A dimension of the whole among those of one part brought in its order."""
        return dim - (self.stack is not None and dim > self.stack)


def made(whole: Fingerprint, parts: Sequence[Lines]) -> Made | None:
    """Operations that explain all shared lines, or None."""
    bare, sizes = _bare(whole.shape), [_bare(p.tensor.shape) for p in parts]
    extra = {len(bare) - len(s) for s in sizes}
    if len({max(p.whole_axis, -1) for p in parts}) != 1 or len({max(p.axis, -1) for p in parts}) != 1:
        return None
    if len(bare) > MOST_DIMENSIONS:
        return None
    places = [_places(p, s) for p, s in zip(parts, sizes, strict=True)]
    if len(parts) == 1 and extra != {0}:
        return _merged(whole, parts[0], places[0])
    if extra not in ({0}, {1}):
        return None
    for frame in _frames(bare, len(sizes[0]), _core_axis(whole.shape, parts[0].whole_axis), _axis_of(parts[0])):
        found = _fitted(frame, sizes, places)
        if found is not None:
            return Made(found.order, _with_ones(found.operations, whole, [parts[n].tensor for n in found.order]))
    return None


def _bare(shape: Sizes) -> Sizes:
    return tuple(n for n in shape if n != 1)


def _core_axis(shape: Sizes, axis: int) -> int | None:
    """A dimension counted without those of size 1; None for the elements of a vector."""
    return None if axis < 0 else sum(n != 1 for n in shape[:axis])


def _axis_of(part: Lines) -> int | None:
    return _core_axis(part.tensor.shape, part.axis)


def _places(part: Lines, sizes: Sizes) -> Ints:
    """For each line of a part its number in the whole, -1 where it is not known; shaped as the part without lines."""
    axis = _axis_of(part)
    grid = tuple(n for d, n in enumerate(sizes) if d != axis)
    places = np.full(int(np.prod(grid, dtype=np.int64)), -1, np.int64)
    places[part.mine] = part.theirs
    return places.reshape(grid)


def _frames(whole: Sizes, rank: int, axis: int | None, part_axis: int | None) -> Iterator[_Frame]:
    for stack in [None] if rank == len(whole) else [d for d in range(len(whole)) if d != axis]:
        here = axis if axis is None or stack is None or axis < stack else axis - 1
        for dims in permutations(range(rank)):
            if (here is None) == (part_axis is None) and (here is None or dims[here] == part_axis):
                yield _Frame(whole, axis, stack, dims)


def _fitted(frame: _Frame, sizes: Sequence[Sizes], places: Sequence[Ints]) -> Made | None:
    turned = [tuple(s[d] for d in frame.dims) for s in sizes]
    lines = [_turned(frame, p) for p in places]
    at = [_coordinates(frame, p) for p in lines]
    slots = [_slot(frame, c, p) for c, p in zip(at, lines, strict=True)]
    if None in slots:
        return None
    for dim in frame.rows or (None,):
        maps = [_along(frame, dim, c, p) for c, p in zip(at, lines, strict=True)]
        known = [m for m in maps if m is not None]
        if len(known) == len(maps) and all(_same_elsewhere(frame, dim, s) for s in turned):
            found = _assembled(frame, dim, [s or 0 for s in slots], known)
            if found is not None:
                return found
    return None


def _merged(whole: Fingerprint, part: Lines, places: Ints) -> Made | None:
    """One tensor to one of another rank: dimensions permuted, then merged or divided."""
    bare, sizes = _bare(whole.shape), _bare(part.tensor.shape)
    axis, mine = _core_axis(whole.shape, part.whole_axis), _axis_of(part)
    if axis is None or mine is None or len(sizes) > len(bare):
        return None
    for dims in permutations(range(len(sizes))):
        at = dims.index(mine)
        turned = tuple(sizes[d] for d in dims)
        rest = [d - (d > mine) for d in dims if d != mine]
        found = places.transpose(rest).reshape(-1)
        known = found >= 0
        if prod(turned[:at]) == prod(bare[:axis]) and (found == np.arange(len(found)))[known].all():
            first = () if part.tensor.shape == sizes else (Reshape(part.tensor.shape, sizes),)
            return Made((0,), (*first, *_permute(dims), Reshape(turned, whole.shape)))
    return None


def _permute(dims: tuple[int, ...]) -> tuple[Operation, ...]:
    return (Permute(dims),) if dims != tuple(range(len(dims))) else ()


def _turned(frame: _Frame, places: Ints) -> Ints:
    """The places of a part's lines, its dimensions in the order of those of the whole."""
    axis = None if frame.axis is None else frame.dims[frame.in_part(frame.axis)]
    left = [d for d in frame.dims if d != axis]
    return places.transpose([d - (axis is not None and d > axis) for d in left])


def _coordinates(frame: _Frame, places: Ints) -> dict[int, Ints]:
    """For each dimension of the whole where the lines are along it; meaningless for unknown ones."""
    grid = tuple(frame.whole[d] for d in frame.grid)
    if not grid:
        return {}
    found = np.unravel_index(np.maximum(places, 0), grid)
    return {d: np.asarray(c, np.int64) for d, c in zip(frame.grid, found, strict=True)}


def _slot(frame: _Frame, at: dict[int, Ints], places: Ints) -> int | None:
    """The one place of a part along the stacked dimension."""
    if frame.stack is None:
        return 0
    values = np.unique(at[frame.stack][places >= 0])
    return int(values[0]) if len(values) == 1 else None


def _along(frame: _Frame, dim: int | None, at: dict[int, Ints], places: Ints) -> Ints | None:
    """Where each row along `dim` is in the whole, if the lines lie straight along all other dimensions."""
    if dim is None:
        return np.zeros(1, np.int64)
    known = places >= 0
    for n, d in enumerate(frame.rows):
        straight = np.arange(places.shape[n]).reshape([-1 if m == n else 1 for m in range(places.ndim)])
        if d != dim and not (at[d] == straight)[known].all():
            return None
    own = frame.rows.index(dim)
    others = tuple(n for n in range(places.ndim) if n != own)
    values = np.where(known, at[dim], -1)
    rows: Ints = values.max(axis=others) if others else values
    spread = rows.reshape([-1 if n == own else 1 for n in range(places.ndim)])
    return rows if (values == np.where(known, spread, -1)).all() else None


def _same_elsewhere(frame: _Frame, dim: int | None, sizes: Sizes) -> bool:
    here = {d: frame.in_part(d) for d in range(len(frame.whole)) if d not in (frame.stack, dim)}
    return all(frame.whole[d] == sizes[n] for d, n in here.items())


def _assembled(frame: _Frame, dim: int | None, slots: Sequence[int], maps: Sequence[Ints]) -> Made | None:
    groups: dict[int, list[int]] = defaultdict(list)
    for n, slot in enumerate(slots):
        groups[slot].append(n)
    count = 1 if frame.stack is None else frame.whole[frame.stack]
    if sorted(groups) != list(range(count)):
        return None
    early = dim is not None and frame.in_part(dim) != 0 and frame.dims[frame.in_part(dim)] == 0
    dims = (0 if early or dim is None else frame.in_part(dim), dim or 0)
    orders = [_row_order([maps[n] for n in groups[e]], frame, dim, dims) for e in range(count)]
    known = [o for o in orders if o is not None]
    if len(known) < count or len({(len(o.order), o.joint) for o in known}) != 1:
        return None
    roles = range(len(known[0].order))
    order = tuple(groups[e][known[e].order[r]] for r in roles for e in range(count))
    single = _singly([known[e].single[r] for r in roles for e in range(count)])
    stack: tuple[Operation, ...] = () if frame.stack is None else (Stack(frame.stack, count),)
    turn = _permute(frame.dims)
    steps = (*single, *turn) if early else (*turn, *single)
    return Made(order, (*steps, *stack, *known[0].joint))


def _row_order(maps: Sequence[Ints], frame: _Frame, dim: int | None, dims: tuple[int, int]) -> RowOrder | None:
    if dim is None:
        return RowOrder((0,), (Keep(),), ()) if len(maps) == 1 else None
    return row_order(maps, frame.whole[dim], dims)


def _singly(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """What is done to each part, as one operation if anything is."""
    if all(o == Keep() for o in operations):
        return ()
    return (operations[0],) if len(set(operations)) == 1 else (Parallel(tuple(operations)),)


def _with_ones(
    operations: tuple[Operation, ...], whole: Fingerprint, parts: Sequence[Fingerprint]
) -> tuple[Operation, ...]:
    """The same operations on tensors that have dimensions of size 1 besides."""
    lifted = _lifted(operations, {_ones(p.shape) for p in (whole, *parts)})
    if lifted is not None:
        return lifted
    bare = [_bare(p.shape) for p in parts]
    before: list[Operation] = [
        Keep() if p.shape == b else Reshape(p.shape, b) for p, b in zip(parts, bare, strict=True)
    ]
    goal = _bare(whole.shape)
    after: tuple[Operation, ...] = () if whole.shape == goal else (Reshape(goal, whole.shape),)
    return (*_singly(before), *operations, *after)


def _ones(shape: Sizes) -> tuple[int, ...]:
    """The dimensions that are not of size 1."""
    return tuple(d for d, n in enumerate(shape) if n != 1) if 1 in shape else ()


def _lifted(operations: tuple[Operation, ...], kept: set[tuple[int, ...]]) -> tuple[Operation, ...] | None:
    """Operations on rows alone, their dimension counted with those of size 1, where all tensors have these alike."""
    if kept == {()}:
        return operations
    if len(kept) != 1:
        return None
    (dims,) = kept
    if dims and all(isinstance(o, Concat | Interleave | Deinterleave | Join | Select) for o in operations):
        return tuple(replace(o, dim=dims[o.dim]) for o in operations)  # type: ignore[attr-defined, call-arg]
    return None
