"""Operations that need new memory: elements copied between views of what goes in and what comes out, and weight norms.

A move and its inverse are one list of pairs of views, read in either direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from treealign.errors import MappingError
from treealign.mapping.execution.transposing import copy_strided
from treealign.mapping.operations import (
    BlockDiagonal,
    Deinterleave,
    DiagonalBlocks,
    FoldWeightNorm,
    Interleave,
    Join,
    MinusOne,
    NegativeExp,
    NegativeLog,
    Once,
    Operation,
    Pad,
    PlusOne,
    Repeat,
    RotaryPermute,
    RotaryUnpermute,
    Select,
    UnfoldWeightNorm,
    filled_blocks,
    head_layout,
    offsets,
)

# a weight norm is folded in slices of about this many numbers, held in float32 or float64 for a moment
SLICE_NUMBERS = 1 << 22

# what computes new numbers, which only a floating dtype holds
COMPUTING = (FoldWeightNorm, UnfoldWeightNorm, PlusOne, MinusOne, NegativeExp, NegativeLog)
_COMPUTED: Mapping[type[Operation], Callable[[Tensor], Tensor]] = {
    PlusOne: lambda numbers: numbers + 1,
    MinusOne: lambda numbers: numbers - 1,
    NegativeExp: lambda numbers: -numbers.exp(),
    NegativeLog: lambda numbers: _negative(numbers).neg().log(),
}
Pairs: TypeAlias = Iterator[tuple[Tensor, Tensor]]


def moved(operation: Operation, run: Sequence[Tensor]) -> list[Tensor]:
    """What one run of an operation gives, in new memory. The shapes must fit: nothing is checked here."""
    if isinstance(operation, FoldWeightNorm):
        return [_folded(operation.dim, *run)]
    if isinstance(operation, UnfoldWeightNorm):
        return [_unfolded(operation.dim, run[0]), run[0]]
    if type(operation) in _COMPUTED:
        return [_COMPUTED[type(operation)](run[0].double()).to(run[0].dtype)]
    shapes = operation.output_shapes([tuple(tensor.shape) for tensor in run])
    results = [torch.empty(shape, dtype=run[0].dtype, device=run[0].device) for shape in shapes]
    for place, tensor in _MOVES[type(operation)](operation, results, run):
        copy_bytes(place, tensor)
    return results


def _negative(numbers: Tensor) -> Tensor:
    count = 0 if numbers.is_meta else int((numbers >= 0).sum())
    if count:
        facts = [f"{count:,} of {numbers.numel():,} are not"]
        hint = "is it a decay, -exp of what the model holds? The mapping may be of another checkpoint"
        raise MappingError("only negative numbers have a logarithm of their opposite", facts=facts, hint=hint)
    return numbers


def copy_bytes(place: Tensor, tensor: Tensor) -> None:
    """Fill a tensor from one of the same shape; byte for byte, unless it has another dtype and is cast."""
    if tensor.dtype == place.dtype and tensor.element_size() == 1:
        # torch would make 1 of a bool that is 2, and cannot copy every float of one byte everywhere
        place, tensor = place.view(torch.uint8), tensor.view(torch.uint8)
    copy_strided(place, tensor)


def _select(operation: Any, parts: Sequence[Tensor], whole: Sequence[Tensor]) -> Pairs:
    for part, indices in zip(parts, operation.indices, strict=True):
        for at, index in enumerate(indices):
            yield part.select(operation.dim, at), whole[0].select(operation.dim, index)


def _deinterleave(operation: Any, parted: Sequence[Tensor], mixed: Sequence[Tensor]) -> Pairs:
    dim, blocks = operation.dim, operation.blocks
    turns = mixed[0].shape[dim] // sum(blocks)
    in_turns = _divided(mixed[0], dim, (turns, sum(blocks)))
    for block, start in zip(blocks, offsets(blocks), strict=True):
        part = parted[0].narrow(dim, start * turns, block * turns)
        yield _divided(part, dim, (turns, block)), in_turns.narrow(dim + 1, start, block)


def _rotary(operation: Any, halves: Sequence[Tensor], pairs: Sequence[Tensor]) -> Pairs:
    heads, rows, start, end = head_layout(operation)
    split, paired = (_divided(tensors[0], 0, (heads, rows)) for tensors in (halves, pairs))
    half = (end - start) // 2
    yield split[:, :start], paired[:, :start]
    yield split[:, start : start + half], paired[:, start:end:2]
    yield split[:, start + half : end], paired[:, start + 1 : end : 2]
    yield split[:, end:], paired[:, end:]


def _pad(operation: Any, padded: Sequence[Tensor], bare: Sequence[Tensor]) -> Pairs:
    padded[0].zero_()
    yield padded[0].narrow(operation.dim, 0, operation.before), bare[0]


def _blocks(operation: Any, whole: Sequence[Tensor], parts: Sequence[Tensor]) -> Pairs:
    yield from zip(_on_diagonal(operation, whole[0]), parts, strict=True)


def _block_diagonal(operation: Any, whole: Sequence[Tensor], parts: Sequence[Tensor]) -> Pairs:
    whole[0].zero_()
    yield from _blocks(operation, whole, parts)


def _on_diagonal(operation: Any, whole: Tensor) -> Iterator[Tensor]:
    for row, column, height, width in filled_blocks(operation.rows, operation.columns):
        yield whole.narrow(0, row, height).narrow(1, column, width)


def _repeat(_: Any, copies: Sequence[Tensor], one: Sequence[Tensor]) -> Pairs:
    return ((copy, one[0]) for copy in copies)


def _once(operation: Any, one: Sequence[Tensor], copies: Sequence[Tensor]) -> Pairs:
    first = copies[0].contiguous().view(-1).view(torch.uint8)
    for at, other in enumerate(copies):
        if not torch.equal(first, other.contiguous().view(-1).view(torch.uint8)):
            raise MappingError(f"{operation!r} takes equal tensors", facts=[f"tensor {at} differs from the first"])
    yield one[0], copies[0]


def _divided(tensor: Tensor, dim: int, sizes: tuple[int, int]) -> Tensor:
    """One dimension seen as two, which strides always allow."""
    return tensor.view((*tensor.shape[:dim], *sizes, *tensor.shape[dim + 1 :]))


Move: TypeAlias = Callable[[Any, Sequence[Tensor], Sequence[Tensor]], Pairs]


def _backwards(move: Move) -> Move:
    return lambda operation, results, run: ((tensor, place) for place, tensor in move(operation, run, results))


_MOVES: dict[type[Operation], Move] = {
    Select: _select,
    Join: _backwards(_select),
    Deinterleave: _deinterleave,
    Interleave: _backwards(_deinterleave),
    RotaryPermute: _rotary,
    RotaryUnpermute: _backwards(_rotary),
    Pad: _pad,
    BlockDiagonal: _block_diagonal,
    DiagonalBlocks: _backwards(_blocks),
    Repeat: _repeat,
    Once: _once,
}


def _folded(dim: int, g: Tensor, v: Tensor) -> Tensor:
    weight = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    for at, rows in _slices(dim, v):
        part = _exact_enough(v.narrow(dim, at, rows))
        scale = g.narrow(dim, at, rows).to(part.dtype) / _norms(dim, part)
        weight.narrow(dim, at, rows).copy_(part * scale)
    return weight


def _unfolded(dim: int, weight: Tensor) -> Tensor:
    shape = [size if at == dim else 1 for at, size in enumerate(weight.shape)]
    g = torch.empty(shape, dtype=weight.dtype, device=weight.device)
    for at, rows in _slices(dim, weight):
        g.narrow(dim, at, rows).copy_(_norms(dim, _exact_enough(weight.narrow(dim, at, rows))))
    return g


def _norms(dim: int, v: Tensor) -> Tensor:
    others = [at for at in range(v.ndim) if at != dim]
    return torch.linalg.vector_norm(v, dim=others, keepdim=True) if others else v.abs()


def _exact_enough(part: Tensor) -> Tensor:
    return part if part.dtype == torch.float64 else part.to(torch.float32)


def _slices(dim: int, v: Tensor) -> Iterator[tuple[int, int]]:
    size = v.shape[dim]
    step = max(1, SLICE_NUMBERS * size // max(1, v.numel()))
    for at in range(0, size, step):
        yield at, min(step, size - at)
