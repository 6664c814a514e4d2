"""Tensors copied into another order of their dimensions, at the speed of memory.

An element at a time, in the order of either side, a transposition touches a cache line for each element: a fortieth of
the speed of a copy. torch goes block by block where a whole contiguous matrix is filled from the transpose of another
(`copy_transpose_valid` in ATen/native/Copy.cpp). So every copy between strided tensors is brought to that form: the
dimensions that both sides walk together are joined, the matrix of the two innermost dimensions is found, one of each
side, and what is not contiguous goes through a piece of memory that stays in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

PIECE = 1 << 20  # bytes that go through memory of their own at once
NARROW = 16  # rows or columns; a matrix of fewer is not worth its call
_PLAIN = (Tensor, torch.nn.Parameter)  # what other classes make of strides is theirs
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Dimension(NamedTuple):
    """One dimension of both sides: its size, and its stride in the target and in the source."""

    size: int
    target: int
    source: int


def copy_strided(target: Tensor, source: Tensor) -> None:
    """Fill a tensor from one of the same shape; byte for byte where the dtypes are the same, else as torch casts.

    Parameters
    ----------
    target, source : Tensor
        Of one shape, strided as they may be; the elements of the target do not overlap each other.

    Notes
    -----
    Memory: a few megabytes; that of the tensor where dtypes differ, or where more than two dimensions change places
    and the innermost ones are narrow.
    """
    width = source.element_size()
    if not _on_cpu(target, source) or width not in _WORDS:
        target.copy_(source)
    elif target.dtype == source.dtype:
        # words of the same width: torch cannot copy every float of one byte, and would make 1 of a bool that is 2
        _copy(target.view(_WORDS[width]), source.view(_WORDS[width]))
    elif _turned(_dimensions(target, source)):
        target.copy_(contiguous(source))
    else:
        target.copy_(source)


def contiguous(tensor: Tensor) -> Tensor:
    """The tensor, or a contiguous copy of it."""
    if tensor.is_contiguous():
        return tensor
    made = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    copy_strided(made, tensor)
    return made


def same_bytes(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors of one dtype and shape hold the same bytes, NaN payloads included."""
    first = tensors[0].contiguous().view(-1).view(torch.uint8)
    return all(torch.equal(first, other.contiguous().view(-1).view(torch.uint8)) for other in tensors[1:])


def _on_cpu(*tensors: Tensor) -> bool:
    """Whether these are plain numbers in memory that the processor reaches."""
    return all(
        type(t) in _PLAIN and t.device.type == "cpu" and t.layout == torch.strided and not (t.is_conj() or t.is_neg())
        for t in tensors
    )


def _copy(target: Tensor, source: Tensor) -> None:
    dimensions = _dimensions(target, source)
    matrix = _turned(dimensions)
    if not matrix:
        target.copy_(source)
        return
    rows, columns = matrix
    if min(rows.size, columns.size) >= NARROW:
        _copy_matrices(target, source, rows, columns, [d for d in dimensions if d not in matrix])
    elif _in_source_order(dimensions, columns) != dimensions:
        _copy_twice(target, source, _in_source_order(dimensions, columns))
    else:
        target.copy_(source)


def _dimensions(target: Tensor, source: Tensor) -> list[_Dimension]:
    """The dimensions, outermost of the target first; those that both sides walk as one are joined."""
    every = [_Dimension(*d) for d in zip(target.shape, target.stride(), source.stride(), strict=True) if d[0] != 1]
    joined: list[_Dimension] = []
    for inner in sorted(every, key=lambda d: -d.target):
        outer = joined[-1] if joined else None
        if outer and outer.target == inner.size * inner.target and outer.source == inner.size * inner.source:
            joined[-1] = inner._replace(size=outer.size * inner.size)
        else:
            joined.append(inner)
    return joined


def _turned(dimensions: Sequence[_Dimension]) -> tuple[_Dimension, _Dimension] | None:
    """The innermost dimensions of the source and of the target, where they are two; None where rows stay rows."""
    if not dimensions or dimensions[-1].target != 1 or dimensions[-1].source == 1:
        return None
    rows = next((d for d in dimensions if d.source == 1), None)
    return (rows, dimensions[-1]) if rows else None


def _in_source_order(dimensions: Sequence[_Dimension], columns: _Dimension) -> list[_Dimension]:
    """As the source has them, but for the innermost of the target, which goes last."""
    return [*sorted((d for d in dimensions if d is not columns), key=lambda d: -d.source), columns]


def _copy_twice(target: Tensor, source: Tensor, order: Sequence[_Dimension]) -> None:
    """First the innermost dimension of the target to the end, then runs of it to their places."""
    shape = [d.size for d in order]
    between = torch.empty(shape, dtype=source.dtype)
    _copy(between, _view(source, shape, [d.source for d in order]))
    _view(target, shape, [d.target for d in order]).copy_(between)


def _copy_matrices(
    target: Tensor, source: Tensor, rows: _Dimension, columns: _Dimension, outer: Sequence[_Dimension]
) -> None:
    shape = (rows.size, columns.size)
    for at in product(*(range(d.size) for d in outer)):
        offsets = [sum(n * d[side] for n, d in zip(at, outer, strict=True)) for side in (1, 2)]
        place = _view(target, shape, (rows.target, 1), offsets[0])
        _transpose(place, _view(source, shape, (1, columns.source), offsets[1]))


def _view(tensor: Tensor, shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> Tensor:
    return tensor.as_strided(shape, strides, int(tensor.storage_offset()) + offset)


def _transpose(target: Tensor, source: Tensor) -> None:
    """Fill a matrix whose rows lie one after the other from one whose columns do."""
    if target.is_contiguous() and source.t().is_contiguous():
        target.copy_(source)
        return
    for begin, end in _pieces(target):
        part, place = source[:, begin:end], target[:, begin:end]
        dense = part if part.t().is_contiguous() else part.t().contiguous().t()
        place.copy_(dense if place.is_contiguous() else torch.empty(place.shape, dtype=place.dtype).copy_(dense))


def _pieces(target: Tensor) -> Iterator[tuple[int, int]]:
    """Runs of columns that fill a piece of memory."""
    rows, columns = target.shape
    step = max(NARROW, PIECE // (rows * target.element_size()))
    return ((at, min(at + step, columns)) for at in range(0, columns, step))
