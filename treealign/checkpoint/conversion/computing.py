"""Computations as bytes: the tensors of one transform at a time, in memory that is used again for the next."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from treealign.checkpoint.conversion.tasks import Computation, Output
from treealign.checkpoint.conversion.tensors import Reader
from treealign.formats.dtypes import torch_dtype

_ALIGNMENT = 64


def computed(computation: Computation, reader: Reader) -> Iterator[tuple[Output, memoryview]]:
    """What a computation gives, as bytes, tensor by tensor; they are valid until the next one is asked for."""
    given = [source.read(reader) for source in computation.sources]
    if not computation.operations and str(given[0].dtype) == f"torch.{torch_dtype(computation.outputs[0].dtype)}":
        yield computation.outputs[0], tensor_bytes(given[0].contiguous())
        return
    from treealign.checkpoint.execute import expected, run_into

    like = expected(computation.operations, given)
    dtypes = {output.number: torch_dtype(output.dtype) for output in computation.outputs}
    made = _room(reader, like, dtypes)
    run_into(computation.operations, given, made, cast=True)
    for output in computation.outputs:
        yield output, tensor_bytes(made[output.number])


def tensor_bytes(tensor: Any) -> memoryview:
    """The bytes of a contiguous tensor, as safetensors writes them."""
    import torch

    found: memoryview = tensor.reshape(-1).view(torch.uint8).numpy().data
    return found


def _room(reader: Reader, like: Sequence[Any], dtypes: dict[int, str]) -> list[Any]:
    """Tensors to fill, of these shapes; of these dtypes where one is given."""
    import torch

    kinds = [getattr(torch, dtypes[at]) if at in dtypes else tensor.dtype for at, tensor in enumerate(like)]
    sizes = [tensor.numel() * kind.itemsize for tensor, kind in zip(like, kinds, strict=True)]
    memory = reader.once("room", _Memory).of(sum(size + _ALIGNMENT for size in sizes))
    found, at = [], 0
    for tensor, kind, size in zip(like, kinds, sizes, strict=True):
        found.append(memory[at : at + size].view(kind).view(tensor.shape))
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
