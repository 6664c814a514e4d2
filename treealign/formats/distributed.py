"""Folders that `torch.distributed.checkpoint` wrote: ``.metadata`` beside ``*.distcp`` files, parts of tensors in each.

The metadata is a pickle of a few plain classes. They are read into stand-ins: no class of another module is looked up,
and no code is run. Classes: torch/distributed/checkpoint/metadata.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from treealign.errors import FormatError
from treealign.formats.bounds import MAX_PICKLE
from treealign.formats.distributed_metadata import METADATA, Entry, Metadata, Part, read_metadata
from treealign.formats.dtypes import bits_of
from treealign.formats.indexes import is_plain_name
from treealign.formats.legible import legible
from treealign.formats.state_dicts import single_state_dict
from treealign.formats.texts import read_bounded

_MAX_FACTS = 50
_DAMAGED = "the folder is incomplete or damaged: fetch or write it again"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a tensor: `sizes` numbers from `offsets` on, torch-saved in `length` bytes of a file.

    Or it is what a whole file of weights has under a `key`.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    begin: int
    length: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class DistributedTensor:
    """A tensor in parts that cover it without overlap; `dtype` as torch spells it, `copies` are to equal it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[Chunk, ...]
    copies: tuple[Chunk, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return prod(self.shape) * bits_of(self.dtype) // 8


@dataclass(frozen=True)
class DistributedFolder:
    """The state dict in a folder.

    Attributes
    ----------
    path : str
        The folder.
    taken : str
        Where in what was saved the state dict stood: ``['model']``, or nothing where it was all.
    tensors : dict of str to DistributedTensor
        By key.
    ignored : tuple of str
        Entries beside the tensors that are none.
    described_by : str
        The file in the folder that says how the parts belong together, if one does.
    """

    path: str
    taken: str
    tensors: Mapping[str, DistributedTensor]
    ignored: tuple[str, ...]
    described_by: str = METADATA

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that it is read from, what describes them first."""
        parts = {chunk.file for tensor in self.tensors.values() for chunk in (*tensor.chunks, *tensor.copies)}
        return (*([f"{self.path}/{self.described_by}"] if self.described_by else []), *sorted(parts))

    @property
    def ordered(self) -> bool:
        """False: the order is that in which the processes were heard."""
        return False


def read_distributed(folder: str | os.PathLike[str], part: str = "") -> DistributedFolder:
    """The state dict in a folder, without the data; of several, the one that `part` names.

    Raises
    ------
    FormatError
        If the metadata cannot be read or refers to anything but tensors, files are absent or short, the parts of a
        tensor do not tile it, or there is no state dict or more than one.
    """
    base = Path(folder)
    try:
        raw = read_bounded(base / METADATA, MAX_PICKLE, "pickle")
    except OSError as error:
        raise FormatError(f"cannot read the metadata: {error.strerror}", where=str(base / METADATA)) from error
    return distributed_folder(str(base), raw, lambda name: _size(base / name), part)


def distributed_folder(
    where: str, raw: bytes, size_of: Callable[[str], int | None], part: str = ""
) -> DistributedFolder:
    """As `read_distributed`, from the bytes of the metadata.

    `where` is the folder; `size_of` gives the length of a file in it by its plain name, or None if it is not there.
    """
    metadata = read_metadata(raw, f"{where}/{METADATA}")
    faults = _faults(metadata, size_of)
    if faults:
        facts = faults[:_MAX_FACTS] + ([f"… and {len(faults) - _MAX_FACTS} more"] if len(faults) > _MAX_FACTS else [])
        raise FormatError("not a whole distributed checkpoint", where=where, facts=facts, hint=_DAMAGED)
    try:
        nested = _nested(metadata, where)
    except (AttributeError, TypeError) as error:
        raise FormatError("its names contradict one another", where=where, hint=_DAMAGED) from error
    taken, state = single_state_dict(where, nested, part)
    tensors = {key: value for key, value in state.items() if isinstance(value, DistributedTensor)}
    return DistributedFolder(where, taken, tensors, tuple(key for key in state if key not in tensors))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _nested(metadata: Metadata, where: str) -> Any:
    """What was saved, as it was nested; tensors and, for anything else, None."""
    root: dict[Any, Any] = {}
    for name, entry in metadata.entries.items():
        *way, last = metadata.paths.get(name) or (name,)
        node = root
        for step in way:
            node = node.setdefault(step, {})
        node[last] = None if entry is None else _tensor(name, entry, where)
    return _with_lists(root)


def _with_lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    inner = {key: _with_lists(value) for key, value in node.items()}
    return list(inner.values()) if inner and all(isinstance(key, int) for key in inner) else inner


def _tensor(name: str, entry: Entry, where: str) -> DistributedTensor:
    chunks = [Chunk(part.offsets, part.sizes, f"{where}/{part.file}", part.begin, part.length) for part in entry.parts]
    return DistributedTensor(name, entry.shape, entry.dtype, tuple(chunks))


def _faults(metadata: Metadata, size_of: Callable[[str], int | None]) -> list[str]:
    entries = {name: entry for name, entry in metadata.entries.items() if entry is not None}
    faults = [f"{legible(name)}: {fault}" for name, entry in entries.items() for fault in _tiling_faults(entry)]
    ends: dict[str, int] = {}
    for name, entry in entries.items():
        for part in entry.parts:
            if part.transformed:
                faults.append(
                    f"{legible(name)}: stored through {', '.join(part.transformed)}, which is not undone here"
                )
            if part.begin < 0 or part.length < 0 or not is_plain_name(part.file):
                faults.append(
                    f"{legible(name)}: stored in {legible(part.file)}, bytes {part.begin} and {part.length} on"
                )
            else:
                ends[part.file] = max(ends.get(part.file, 0), part.begin + part.length)
    return faults + [fault for file, end in ends.items() for fault in _file_faults(file, end, size_of(file))]


def _file_faults(file: str, end: int, size: int | None) -> list[str]:
    if size is None:
        return [f"{legible(file)}: absent"]
    return [f"{legible(file)}: {size} bytes, {end} are needed"] if size < end else []


def _tiling_faults(entry: Entry) -> Iterator[str]:
    """What keeps the parts from tiling the tensor: as many numbers as it has, within it, none of them twice."""
    if not entry.parts:
        yield "it has no parts"
        return
    inside = [part for part in entry.parts if _is_inside(part, entry.shape)]
    if len(inside) < len(entry.parts):
        yield f"a part lies outside of its shape {list(entry.shape)}"
    held, needed = sum(prod(part.sizes) for part in inside), prod(entry.shape)
    if held != needed:
        yield f"its parts hold {held} numbers, its shape {list(entry.shape)} has {needed}"
    elif _overlap([part for part in inside if prod(part.sizes)]):
        yield "its parts overlap"


def _is_inside(part: Part, shape: Sequence[int]) -> bool:
    if not len(part.offsets) == len(part.sizes) == len(shape):
        return False
    extents = zip(part.offsets, part.sizes, shape, strict=True)
    return all(offset >= 0 and size >= 0 and offset + size <= extent for offset, size, extent in extents)


def _overlap(parts: Sequence[Part]) -> bool:
    """Whether two parts share a number; each is compared with those that begin before it ends in the first dimension.

    Notes
    -----
    Linear, after a sort, for parts that are cut along the first dimension only.
    """
    if not parts or not parts[0].sizes:
        return len(parts) > 1
    ordered = sorted(parts, key=lambda part: part.offsets)
    for at, one in enumerate(ordered):
        for other in ordered[at + 1 :]:
            if other.offsets[0] >= one.offsets[0] + one.sizes[0]:
                break
            if all(map(_meets, one.offsets, one.sizes, other.offsets, other.sizes)):
                return True
    return False


def _meets(begin: int, size: int, other: int, its_size: int) -> bool:
    return begin < other + its_size and other < begin + size
