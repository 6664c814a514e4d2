"""Tensors where they lie: enough to plan with, and read when their turn comes.

Whatever has the attributes and the `read` of `SourceTensor`, and can be pickled, can be converted: one more kind of
source needs no more than that.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from treealign.errors import FormatError
from treealign.formats.distributed import DistributedTensor
from treealign.formats.dtypes import BITS, torch_dtype, torch_shape

T = TypeVar("T")


class Reader:
    """What is open while a file is being written: each source once, all closed at the end."""

    def __init__(self) -> None:
        self._open: dict[object, Any] = {}
        self._stack = ExitStack()

    def once(self, what: object, make: Callable[[], T]) -> T:
        """What `make` gave the first time this was asked for."""
        if what not in self._open:
            self._open[what] = make()
        found: T = self._open[what]
        return found

    def descriptor(self, path: str) -> int:
        """A file, open for reading."""
        return self.once(("file", path), lambda: self._opened(path))

    def _opened(self, path: str) -> int:
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise FormatError(f"cannot read the file: {error.strerror}", where=path) from error
        self._stack.callback(os.close, descriptor)
        return descriptor

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.clear()
        self._stack.close()


class SourceTensor(Protocol):
    """A tensor of a checkpoint; dtype and shape as safetensors spells and counts them."""

    @property
    def path(self) -> str:
        """The file it is read from."""

    @property
    def dtype(self) -> str:
        """As safetensors spells it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As safetensors counts it."""

    def read(self, reader: Reader) -> Any:
        """The tensor, on the CPU; not to be written to."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor whose bytes stand in a file as safetensors has them, from byte `begin` of the file."""

    path: str
    begin: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * BITS[self.dtype] // 8

    def read(self, reader: Reader) -> Any:
        """The tensor, mapped into memory for as long as it is used."""
        import torch

        dtype = getattr(torch, torch_dtype(self.dtype))
        shape = torch_shape(self.dtype, self.shape)
        if not self.nbytes:
            return torch.empty(shape, dtype=dtype)
        before = self.begin % mmap.ALLOCATIONGRANULARITY
        # a mapping of its own: the memory is given back with the tensor, not at the end of the file
        memory = _mapped(reader.descriptor(self.path), self.begin - before, before + self.nbytes, self.path)
        raw = torch.frombuffer(memory, dtype=torch.uint8, count=self.nbytes, offset=before)
        return raw.view(dtype).view(shape) if before % dtype.itemsize == 0 else raw.clone().view(dtype).view(shape)


def _mapped(descriptor: int, offset: int, length: int, path: str) -> mmap.mmap:
    if os.fstat(descriptor).st_size < offset + length:
        raise FormatError("the file is shorter than it was", where=path)
    # writable to us alone: torch warns of memory that it could not write to
    return mmap.mmap(descriptor, length, access=mmap.ACCESS_COPY, offset=offset)


@dataclass(frozen=True, slots=True)
class Pickled:
    """A tensor of a torch file; `part` says in which of its state dicts."""

    path: str
    key: str
    dtype: str
    shape: tuple[int, ...]
    part: str = ""

    def read(self, reader: Reader) -> Any:
        """The tensor, mapped into memory where the file allows it."""
        from treealign.formats.torch_files import read_torch_file

        file = reader.once(("torch", self.path, self.part), lambda: read_torch_file(self.path, self.part))
        return file.tensors[self.key].detach().resolve_conj().resolve_neg()


@dataclass(frozen=True, slots=True)
class Distributed:
    """A tensor of a distributed checkpoint."""

    tensor: DistributedTensor
    dtype: str
    shape: tuple[int, ...]

    @property
    def path(self) -> str:
        """The first of the files it is read from."""
        return self.tensor.chunks[0].file

    def read(self, reader: Reader) -> Any:
        """The tensor, put together from its parts."""
        from treealign.checkpoint.distributed_parts import joined

        return joined(self.tensor)
