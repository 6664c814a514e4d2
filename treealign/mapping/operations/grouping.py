"""Operations that join tensors or take them apart, each with its inverse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from treealign.mapping.operations.base import Operation, Shape, as_ints, check_dim, with_size
from treealign.mapping.operations.sizes import Size


@dataclass(frozen=True, repr=False)
class Concat(Operation):
    """Join a run of tensors along a dimension; the sizes along it are kept, so that the inverse cuts where they met.

    >>> Concat(0, (8, 2, 2)).output_shapes([(8, 4), (2, 4), (2, 4)])
    ((12, 4),)
    >>> Concat(0, (8, 2, 2)).inverse
    Split(0, (8, 2, 2))
    """

    dim: int
    sizes: tuple[Size, ...]

    def _arity(self) -> tuple[int, int]:
        return len(self.sizes), 1

    def _inverse(self) -> Split:
        return Split(self.dim, self.sizes)

    def _reason(self) -> str | None:
        return None if self.sizes else "there are no parts"

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return [_joined(self, self.dim, as_ints(self.sizes), shapes)]


@dataclass(frozen=True, repr=False)
class Split(Operation):
    """Cut a tensor along a dimension into parts of the given sizes; they need not be equal.

    >>> Split(0, (8, 2, 2)).output_shapes([(12, 4)])
    ((8, 4), (2, 4), (2, 4))
    """

    dim: int
    sizes: tuple[Size, ...]

    def _arity(self) -> tuple[int, int]:
        return 1, len(self.sizes)

    def _inverse(self) -> Concat:
        return Concat(self.dim, self.sizes)

    def _reason(self) -> str | None:
        return None if self.sizes else "there are no parts"

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return _parted(self, self.dim, as_ints(self.sizes), shapes[0])


@dataclass(frozen=True, repr=False)
class Stack(Operation):
    """Stack runs of `count` tensors of one shape along a new dimension.

    >>> Stack(0, 2).output_shapes([(4, 3)] * 4)
    ((2, 4, 3), (2, 4, 3))
    """

    dim: int
    count: Size

    def _arity(self) -> tuple[int, int]:
        return as_ints((self.count,))[0], 1

    def _inverse(self) -> Unstack:
        return Unstack(self.dim, self.count)

    def _reason(self) -> str | None:
        return "nothing to stack" if self.count == 0 else None

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        first = shapes[0]
        for shape in shapes:
            if shape != first:
                raise self._misfit(shape, f"the first tensor of the run has shape {first}")
        if self.dim > len(first):
            raise self._misfit(first, f"it has no place for a new dimension {self.dim}")
        return [(*first[: self.dim], len(shapes), *first[self.dim :])]


@dataclass(frozen=True, repr=False)
class Unstack(Operation):
    """Take a tensor apart along a dimension of size `count`, which goes.

    >>> Unstack(0, 2).output_shapes([(2, 4, 3)])
    ((4, 3), (4, 3))
    """

    dim: int
    count: Size

    def _arity(self) -> tuple[int, int]:
        return 1, as_ints((self.count,))[0]

    def _inverse(self) -> Stack:
        return Stack(self.dim, self.count)

    def _reason(self) -> str | None:
        return "nothing to unstack" if self.count == 0 else None

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        (shape,) = shapes
        count = self.arity[1]
        check_dim(self, self.dim, count, shape)
        return [(*shape[: self.dim], *shape[self.dim + 1 :])] * count


@dataclass(frozen=True, repr=False)
class Select(Operation):
    """Deal the slices of a tensor along a dimension out to parts, by index: experts to two towers.

    Every index occurs exactly once, so that `Join` can put them back.

    >>> Select(0, ((0, 2), (1, 3))).output_shapes([(4, 3)])
    ((2, 3), (2, 3))
    """

    dim: int
    indices: tuple[tuple[int, ...], ...]

    def _arity(self) -> tuple[int, int]:
        return 1, len(self.indices)

    def _inverse(self) -> Join:
        return Join(self.dim, self.indices)

    def _reason(self) -> str | None:
        return _not_once_each(self.indices)

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return _parted(self, self.dim, tuple(map(len, self.indices)), shapes[0])


@dataclass(frozen=True, repr=False)
class Join(Operation):
    """Put the slices that `Select` dealt out back in their places.

    >>> Join(0, ((0, 2), (1, 3))).output_shapes([(2, 3), (2, 3)])
    ((4, 3),)
    """

    dim: int
    indices: tuple[tuple[int, ...], ...]

    def _arity(self) -> tuple[int, int]:
        return len(self.indices), 1

    def _inverse(self) -> Select:
        return Select(self.dim, self.indices)

    def _reason(self) -> str | None:
        return _not_once_each(self.indices)

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return [_joined(self, self.dim, tuple(map(len, self.indices)), shapes)]


def offsets(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Where each part begins.

    >>> offsets((8, 2, 2))
    (0, 8, 10)
    """
    return tuple(accumulate(sizes, initial=0))[:-1]


def _not_once_each(indices: tuple[tuple[int, ...], ...]) -> str | None:
    if not all(indices) or not indices:
        return "a part is empty" if indices else "there are no parts"
    flat = sorted(index for part in indices for index in part)
    return None if flat == list(range(len(flat))) else f"each of 0 … {len(flat) - 1} must occur exactly once"


def _joined(operation: Operation, dim: int, sizes: tuple[int, ...], shapes: tuple[Shape, ...]) -> Shape:
    for size, shape in zip(sizes, shapes, strict=True):
        check_dim(operation, dim, size, shape)
        if with_size(shape, dim, 0) != with_size(shapes[0], dim, 0):
            raise operation._misfit(shape, f"the first tensor of the run has shape {shapes[0]}")
    return with_size(shapes[0], dim, sum(sizes))


def _parted(operation: Operation, dim: int, sizes: tuple[int, ...], shape: Shape) -> list[Shape]:
    check_dim(operation, dim, sum(sizes), shape)
    return [with_size(shape, dim, size) for size in sizes]
