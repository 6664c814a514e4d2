"""The tensors of a distributed checkpoint, put together from their parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from treealign.checkpoint.readers import Reader
from treealign.checkpoint.tensors import Stored
from treealign.errors import FormatError
from treealign.formats.checkpoints import open_checkpoint
from treealign.formats.distributed import Chunk, DistributedTensor
from treealign.formats.legible import legible
from treealign.formats.positioned import PositionedStream
from treealign.formats.safetensors_header import Header
from treealign.mapping.execution.transposing import same_bytes

_HINT = "the folder was damaged, or written again while it was read"


def joined(tensor: DistributedTensor, reader: Reader) -> Tensor:
    """A tensor of a distributed checkpoint, on the CPU, in memory of its own.

    Raises
    ------
    FormatError
        A part cannot be read, or is not what the metadata says.

    Notes
    -----
    Memory: the tensor and its largest part; the tensor alone where it has one part.
    """
    dtype = getattr(torch, tensor.dtype)
    if len(tensor.chunks) == 1:
        return _read(tensor, tensor.chunks[0], dtype, reader).contiguous()
    whole = torch.empty(tensor.shape, dtype=dtype)
    for chunk in tensor.chunks:
        place = tuple(slice(at, at + size) for at, size in zip(chunk.offsets, chunk.sizes, strict=True))
        whole[place] = _read(tensor, chunk, dtype, reader)
    return whole


def refuse_unequal_copies(tensors: Mapping[str, DistributedTensor], reader: Reader) -> None:
    """Refuse tensors of which several files are to have a copy, and have not.

    Raises
    ------
    FormatError
        Naming them.
    """
    unequal = [
        legible(key)
        for key, tensor in tensors.items()
        if tensor.copies and not same_bytes([_keyed(chunk, reader) for chunk in (*tensor.chunks, *tensor.copies)])
    ]
    if unequal:
        what = "each file is to have a copy of these tensors, but they differ"
        raise FormatError(what, where=tensors[unequal[0]].chunks[0].file, facts=unequal[:20])


def _keyed(chunk: Chunk, reader: Reader) -> Tensor:
    """What a file has under a key."""
    file = reader.once(("shard", chunk.file), lambda: open_checkpoint(chunk.file).files[0])
    reader.check(chunk.file)
    if not isinstance(file, Header):
        held: Any = file.tensors[chunk.key]
        return held.detach()  # type: ignore[no-any-return]  # of torch
    entry = file.entries[chunk.key]
    stored: Tensor = Stored(file.path, file.data_start + entry.begin, entry.dtype, entry.shape, entry.key).read(reader)
    return stored


def _read(tensor: DistributedTensor, chunk: Chunk, dtype: torch.dtype, reader: Reader) -> Tensor:
    if chunk.key:
        return _keyed(chunk, reader)
    try:
        with Path(chunk.file).open("rb") as file:
            reader.check(chunk.file, file.fileno())
            section: Any = Section(file, chunk.begin, chunk.length)
            part = torch.load(section, map_location="cpu", weights_only=True)
    except FormatError:
        raise
    except Exception as error:  # torch.load raises whatever a pickle or an archive may make it raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FormatError(f"cannot read {tensor.name}", where=chunk.file, facts=[reason], hint=_HINT) from error
    if not isinstance(part, Tensor) or part.dtype != dtype or tuple(part.shape) != chunk.sizes:
        found = f"{part.dtype} {list(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
        facts = [f"the metadata says {dtype} {list(chunk.sizes)}", f"the file has {found}"]
        raise FormatError(
            f"a part of {tensor.name} is not what it should be", where=chunk.file, facts=facts, hint=_HINT
        )
    return part.detach()


class Section(PositionedStream):
    """A run of bytes of an open file, as a file of its own."""

    def __init__(self, file: BinaryIO, begin: int, length: int) -> None:
        super().__init__(length)
        self._file, self._begin = file, begin

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed asks for a Buffer
        """Fill the buffer as far as the run goes."""
        wanted = min(len(buffer), max(0, self._length - self._position))
        self._file.seek(self._begin + self._position)
        # what `read` passes is a bytearray, of which a slice would be a copy
        got = self._file.readinto(memoryview(buffer)[:wanted])  # type: ignore[attr-defined]  # open files have it
        self._position += got
        return int(got)
