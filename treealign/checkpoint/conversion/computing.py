"""Computations as bytes, a few megabytes at a time, in memory that is used again for the next.

Where each tensor that goes in fills a run of the file, it is read, brought into its order and written before the next
one is read; where the results are views of what goes in, they are written row by row. Only what is neither (parts that
take turns within a row, norms that are folded) is computed as a whole.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from treealign.checkpoint.conversion.tasks import Computation
from treealign.checkpoint.readers import Reader
from treealign.checkpoint.tensors import SourceTensor
from treealign.formats.dtypes import torch_dtype, torch_shape
from treealign.formats.forking import ForkedLock

PIECE = 1 << 23  # bytes of a result that are made at once, where that can be chosen
_ALIGNMENT = 64
# one transform at a time: memory is that of the largest, however many files are being written
_WHOLE = ForkedLock()


class Piece(NamedTuple):
    """Bytes of a file: where they stand, and what they are."""

    at: int
    data: memoryview


def computed(computation: Computation, reader: Reader) -> Iterator[Piece]:
    """What a computation gives, as bytes; they are valid until the next piece is asked for."""
    if not computation.operations:
        yield from _as_they_are(computation, reader)
        return
    from treealign.mapping.execution.execute import dense_places, expected, run_views

    given = [_like(source) for source in computation.sources]
    outputs = _with_dtypes(expected(computation.operations, given), computation)
    places = dense_places(computation.operations, outputs)
    if places is not None:
        yield from _source_by_source(computation, outputs, places, reader)
        return
    made = run_views(computation.operations, [source.read(reader) for source in computation.sources])
    if made is None:
        yield from _as_a_whole(computation, outputs, reader)
        return
    for output in computation.outputs:
        yield from _pieces(output.at, made[output.number], outputs[output.number].dtype, reader)


def _as_they_are(computation: Computation, reader: Reader) -> Iterator[Piece]:
    """Tensors that at most get another dtype."""
    import torch

    for output in computation.outputs:
        dtype = getattr(torch, torch_dtype(output.dtype))
        yield from _pieces(output.at, computation.sources[output.number].read(reader), dtype, reader)


def tensor_bytes(tensor: Any) -> memoryview:
    """The bytes of a contiguous tensor, as safetensors writes them."""
    import torch

    found: memoryview = tensor.reshape(-1).view(torch.uint8).numpy().data
    return found


def _like(source: SourceTensor) -> Any:
    """A tensor of the dtype and shape of a source, on the meta device."""
    import torch

    shape = torch_shape(source.dtype, source.shape)
    return torch.empty(shape, dtype=getattr(torch, torch_dtype(source.dtype)), device="meta")


def _with_dtypes(outputs: Sequence[Any], computation: Computation) -> list[Any]:
    """The outputs in the dtypes in which they are to be written."""
    import torch

    dtypes = {output.number: getattr(torch, torch_dtype(output.dtype)) for output in computation.outputs}
    return [torch.empty_like(output, dtype=dtypes.get(at, output.dtype)) for at, output in enumerate(outputs)]


def _source_by_source(
    computation: Computation, outputs: Sequence[Any], places: Sequence[Any], reader: Reader
) -> Iterator[Piece]:
    number = {output.untyped_storage()._cdata: at for at, output in enumerate(outputs)}
    starts = {output.number: output.at for output in computation.outputs}
    for source, place in zip(computation.sources, places, strict=True):
        start = starts.get(number[place.untyped_storage()._cdata])
        if start is not None:
            # as the bytes follow one another in the file
            order = sorted(range(place.ndim), key=lambda dim: -place.stride(dim))
            tensor = source.read(reader).permute(order)
            yield from _pieces(start + place.storage_offset() * place.element_size(), tensor, place.dtype, reader)


def _pieces(at: int, tensor: Any, dtype: Any, reader: Reader) -> Iterator[Piece]:
    """The bytes of a tensor in a dtype, some of its rows at a time."""
    from treealign.mapping.execution.moves import copy_bytes

    size = tensor.numel() * dtype.itemsize
    if size > PIECE and tensor.ndim > 1:
        row = size // len(tensor)
        step = max(1, PIECE // row)
        for begin in range(0, len(tensor), step):
            part = tensor[begin] if row > PIECE else tensor[begin : begin + step]
            yield from _pieces(at + begin * row, part, dtype, reader)
    elif tensor.dtype == dtype and tensor.is_contiguous():
        yield Piece(at, tensor_bytes(tensor))
    else:
        (room,) = _rooms(reader, [(tensor.shape, dtype)])
        copy_bytes(room, tensor)
        yield Piece(at, tensor_bytes(room))


def _as_a_whole(computation: Computation, outputs: Sequence[Any], reader: Reader) -> Iterator[Piece]:
    from treealign.mapping.execution import speaking_of
    from treealign.mapping.execution.execute import run_into

    with _WHOLE:
        made = _rooms(reader, [(output.shape, output.dtype) for output in outputs])
        with speaking_of(computation.keys):
            run_into(computation.operations, (source.read(reader) for source in computation.sources), made, cast=True)
        for output in computation.outputs:
            yield Piece(output.at, tensor_bytes(made[output.number]))


def _rooms(reader: Reader, wanted: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Tensors to fill, of these shapes and dtypes."""
    sizes = [shape.numel() * dtype.itemsize for shape, dtype in wanted]
    memory = reader.once("room", _Memory).of(sum(size + _ALIGNMENT for size in sizes))
    found, at = [], 0
    for (shape, dtype), size in zip(wanted, sizes, strict=True):
        found.append(memory[at : at + size].view(dtype).view(shape))
        at += size + -size % _ALIGNMENT
    return found


class _Memory:
    """Memory that grows to the largest that was asked for: to take it anew each time costs as much as to fill it."""

    def __init__(self) -> None:
        self._held: Any = None

    def of(self, size: int) -> Any:
        import torch

        if self._held is None or self._held.numel() < size:
            self._held = None
            memory = mmap.mmap(-1, size)
            with suppress(AttributeError, OSError):
                memory.madvise(mmap.MADV_HUGEPAGE)
            self._held = torch.frombuffer(memory, dtype=torch.uint8)
        return self._held
