"""Tensors where they lie: enough to plan with, and read when their turn comes.

Whatever has the attributes and methods of `SourceTensor` can be converted, loaded and saved, and what can be pickled
also on other machines: one more kind of source needs no more than that.
"""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass
from typing import Any, Protocol

from treealign.checkpoint.readers import Reader
from treealign.errors import FormatError, LoadError
from treealign.formats.distributed import DistributedTensor
from treealign.formats.dtypes import BITS, safetensors_dtype, safetensors_shape, torch_dtype, torch_shape


class SourceTensor(Protocol):
    """A tensor of a checkpoint or a model.

    dtype and shape are as safetensors spells and counts them; a dtype that the format has not, as torch spells it.
    """

    @property
    def path(self) -> str:
        """The file it is read from; empty for one in memory."""

    @property
    def dtype(self) -> str:
        """As safetensors spells it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As safetensors counts it."""

    def read(self, reader: Reader) -> Any:
        """The tensor, dense and on the CPU; not to be written to."""

    def copy(self, reader: Reader) -> Any:
        """The tensor, in memory of its own."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor whose bytes stand in a file as safetensors has them, from byte `begin` of the file."""

    path: str
    begin: int
    dtype: str
    shape: tuple[int, ...]
    key: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * BITS[self.dtype] // 8

    def read(self, reader: Reader) -> Any:
        """The tensor, mapped into memory for as long as it is used."""
        import torch

        dtype, shape = self._kind
        if not self.nbytes:
            return torch.empty(shape, dtype=dtype)
        before = self.begin % mmap.ALLOCATIONGRANULARITY
        # a mapping of its own: the memory is given back with the tensor, not at the end of the file
        memory = _mapped(reader.descriptor(self.path), self.begin - before, before + self.nbytes, self.path)
        raw = torch.frombuffer(memory, dtype=torch.uint8, count=self.nbytes, offset=before)
        return raw.view(dtype).view(shape) if before % dtype.itemsize == 0 else raw.clone().view(dtype).view(shape)

    def copy(self, reader: Reader) -> Any:
        """The tensor, read into memory of its own."""
        import torch

        dtype, shape = self._kind
        raw = torch.empty(self.nbytes, dtype=torch.uint8)
        self.fill(raw.numpy(), reader)
        return raw.view(dtype).view(shape)

    def fill(self, into: Any, reader: Reader, begin: int = 0) -> None:
        """Fill a numpy array of bytes with those of the tensor from `begin` on.

        Raises
        ------
        FormatError
            The file cannot be read, or is not as long as it was.
        """
        if not len(into):
            return
        file = reader.file(self.path)
        try:
            file.seek(self.begin + begin)
            got = file.readinto(into.data)
        except OSError as error:
            raise FormatError(f"cannot read {self.key}: {error.strerror}", where=self.path) from error
        if got != len(into):
            raise FormatError(f"{self.key} ends early: the file has changed", where=self.path)

    def shared(self, reader: Reader) -> Any:
        """The tensor as it lies in the mapped file, written to by copies; None at an address that its dtype forbids."""
        import torch

        dtype, shape = self._kind
        if self.begin % dtype.itemsize or not self.nbytes:
            return None
        # a storage of its own, so that what copies or saves it takes this tensor and not the whole file
        count = self.nbytes // dtype.itemsize
        run = torch.frombuffer(reader.mapped(self.path), dtype=dtype, count=count, offset=self.begin)
        # a view would do as well, and remember for ever what it is a view of
        return run.resize_(shape)

    @property
    def _kind(self) -> tuple[Any, tuple[int, ...]]:
        import torch

        return getattr(torch, torch_dtype(self.dtype)), torch_shape(self.dtype, self.shape)


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

    def held(self, reader: Reader) -> Any:
        """The tensor as torch loads it: mapped into memory where the file allows it."""
        from treealign.formats.torch_files import read_torch_file

        file = reader.once(("torch", self.path, self.part), lambda: read_torch_file(self.path, self.part))
        return file.tensors[self.key]

    def read(self, reader: Reader) -> Any:
        """The tensor, mapped into memory where the file allows it."""
        return self.held(reader).detach().resolve_conj().resolve_neg()

    def copy(self, reader: Reader) -> Any:
        """The tensor, in memory of its own."""
        return self.held(reader).detach().clone()


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

    @property
    def paths(self) -> tuple[str, ...]:
        """The files it is read from."""
        return tuple(dict.fromkeys(chunk.file for chunk in self.tensor.chunks))

    def read(self, reader: Reader) -> Any:
        """The tensor, put together from its parts."""
        from treealign.checkpoint.distributed_parts import joined

        return joined(self.tensor, reader)

    copy = read


@dataclass(frozen=True, slots=True, eq=False)
class InMemory:
    """A tensor of a model or a state dict, on any device, sharded over processes or not."""

    tensor: Any
    dtype: str
    shape: tuple[int, ...]
    key: str = ""
    path: str = ""

    def held(self, _: Reader) -> Any:
        """The tensor itself."""
        return self.tensor

    def read(self, _: Reader) -> Any:
        """The tensor, as plain numbers on the CPU; of one that is sharded, what all processes hold together.

        Raises
        ------
        LoadError
            It is sparse.
        """
        tensor = self.tensor.detach()
        if hasattr(tensor, "full_tensor"):
            tensor = tensor.full_tensor()
        if str(tensor.layout) != "torch.strided":
            what = "a sparse tensor cannot be saved as safetensors"
            raise LoadError(what, where=self.key, hint="make it dense first")
        return tensor.resolve_conj().resolve_neg().cpu()

    def copy(self, _: Reader) -> Any:
        """A copy, on the same device."""
        return self.tensor.detach().clone()


def paths_of(tensor: SourceTensor) -> tuple[str, ...]:
    """The files that a tensor is read from; none for one in memory."""
    return tensor.paths if isinstance(tensor, Distributed) else (tensor.path,) if tensor.path else ()


def in_memory(tensor: Any, key: str = "") -> InMemory:
    """A tensor of torch as one to convert; `key` names it in errors."""
    return InMemory(tensor, *spelled(tensor), key)


def spelled(tensor: Any) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of a tensor as safetensors spells and counts them; a dtype that it has not, as torch does."""
    name = str(tensor.dtype).removeprefix("torch.")
    dtype = safetensors_dtype(name) or name
    return dtype, safetensors_shape(dtype, tuple(tensor.shape))
