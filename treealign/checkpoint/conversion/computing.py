"""Computations as bytes: the tensors of one transform at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from treealign.checkpoint.conversion.tasks import Computation, Output
from treealign.checkpoint.conversion.tensors import Reader
from treealign.formats.dtypes import torch_dtype


def computed(computation: Computation, reader: Reader) -> Iterator[tuple[Output, memoryview]]:
    """What a computation gives, as bytes, tensor by tensor."""
    from treealign.checkpoint.execute import run

    made: list[Any] = run(computation.operations, [source.read(reader) for source in computation.sources])
    for output in computation.outputs:
        yield output, tensor_bytes(made[output.number], output.dtype)


def tensor_bytes(tensor: Any, dtype: str) -> memoryview:
    """A tensor as safetensors writes it, cast where it has another dtype."""
    import torch

    plain = tensor.to(getattr(torch, torch_dtype(dtype))).contiguous()
    found: memoryview = plain.reshape(-1).view(torch.uint8).numpy().data
    return found
