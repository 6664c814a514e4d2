"""What is to be converted: where each tensor of a checkpoint lies, and how the checkpoint lies in its files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from treealign.checkpoint.conversion.tensors import Distributed, Pickled, SourceTensor, Stored
from treealign.checkpoint.layouts import layout_of, safetensors_name
from treealign.errors import FormatError
from treealign.formats.addresses import split_address
from treealign.formats.checkpoints import Checkpoint, File, open_checkpoint
from treealign.formats.collector import collector_paused
from treealign.formats.distributed import DistributedFolder, DistributedTensor
from treealign.formats.dtypes import safetensors_dtype, safetensors_shape
from treealign.formats.legible import legible
from treealign.formats.safetensors_header import Header
from treealign.formats.torch_files import TorchFile
from treealign.mapping.layout import SINGLE, Layout

_LARGE, _MOST_REPEATS = 1 << 30, 1000


class Stamp(NamedTuple):
    """By what a file is known again: another one, or a changed one, has another stamp.

    The inode is that of one machine's view: a network file system may number the same file otherwise on another one.
    None says nothing of it.
    """

    inode: int | None
    size: int
    modified: int

    @property
    def anywhere(self) -> Stamp:
        """What every machine can compare."""
        return self._replace(inode=None)

    def fits(self, found: Stamp) -> bool:
        """Whether a file with the stamp `found` can be this one."""
        return found == self or (self.inode is None and found.anywhere == self)


@dataclass(frozen=True)
class Source:
    """A checkpoint to convert.

    Attributes
    ----------
    path : str
        What was asked for.
    folder : Path or None
        The folder whose other files belong to the checkpoint; None where a single file was asked for.
    tensors : mapping of str to SourceTensor
        Every key, in the order of the files.
    layout : Layout
        How they lie in files; torch files count as the safetensors files that replace them.
    stamps : mapping of str to Stamp
        The files, as they were when they were read.
    modes : mapping of str to int
        Permissions of each file of the layout, and of its index.
    read : tuple of str
        The files that were read: weights and index.
    """

    path: str
    folder: Path | None
    tensors: Mapping[str, SourceTensor]
    layout: Layout
    stamps: Mapping[str, Stamp]
    modes: Mapping[str, int] = field(default_factory=dict)
    read: tuple[str, ...] = ()


def read_source(checkpoint: str | os.PathLike[str]) -> Source:
    """Read where a checkpoint's tensors lie.

    Raises
    ------
    FormatError
        It cannot be read, has no weights, or holds what safetensors cannot.
    """
    name, _ = split_address(checkpoint)
    before = _stamps_around(name)
    with collector_paused():
        found = open_checkpoint(checkpoint)
        if found.names_only:
            raise FormatError("shards are absent", where=name, hint="fetch the rest of the checkpoint")
        tensors = {key: tensor for file in found.files for key, tensor in _tensors(file)}
    stamps = {path: stamp_of(path) for file in found.files for path in _paths(file)}
    _refuse_changed(path for path, stamp in stamps.items() if before.get(os.path.realpath(path), stamp) != stamp)
    path = Path(name)
    asked_for_file = found.index is None and not path.is_dir()
    return Source(
        path=name,
        folder=None if asked_for_file else path if path.is_dir() else path.parent,
        tensors=tensors,
        layout=layout_of(found, renamed=False),
        stamps=stamps,
        modes=_modes(found),
        read=(*stamps, *((found.index.path,) if found.index else ())),
    )


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """The stamp of a file.

    Raises
    ------
    FormatError
        There is no such file any more.
    """
    try:
        found = Path(path).stat()
    except OSError as error:
        raise FormatError(f"cannot read the file: {error.strerror}", where=os.fspath(path)) from error
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


def refuse_changed(stamps: Mapping[str, Stamp]) -> None:
    """Refuse files that are not what they were.

    Raises
    ------
    FormatError
        Naming them.
    """
    _refuse_changed(path for path, stamp in stamps.items() if not stamp.fits(stamp_of(path)))


def _refuse_changed(paths: Iterable[str]) -> None:
    changed = list(paths)
    if changed:
        raise FormatError(
            "the checkpoint has changed while it was read",
            facts=changed,
            hint="wait until it is written, and try again",
        )


def _stamps_around(name: str) -> dict[str, Stamp]:
    """The stamps of all files that may belong to a checkpoint, by their real paths, before one is opened."""
    path = Path(name)
    folder = path if path.is_dir() else path.parent
    try:
        inside = [entry for entry in folder.iterdir() if entry.is_file()]
    except OSError:
        return {}
    return {os.path.realpath(entry): stamp_of(entry) for entry in inside}


def _paths(file: File) -> Iterable[str]:
    return file.paths if isinstance(file, DistributedFolder) else (file.path,)


def _tensors(file: File) -> Iterable[tuple[str, SourceTensor]]:
    if isinstance(file, Header):
        start, path = file.data_start, file.path
        return ((e.key, Stored(path, start + e.begin, e.dtype, e.shape)) for e in file.tensors)
    return _pickled(file)


def _pickled(file: TorchFile | DistributedFolder) -> list[tuple[str, SourceTensor]]:
    """The tensors of a torch file; those that safetensors has no form for are refused together."""
    found: list[tuple[str, SourceTensor]] = []
    faults = []
    for key, tensor in file.tensors.items():
        dtype = safetensors_dtype(str(tensor.dtype).removeprefix("torch."))
        if dtype is None or not _is_dense(tensor):
            faults.append(f"{legible(key)}: {tensor.dtype}, {getattr(tensor, 'layout', 'in parts')}")
            continue
        if held := _repeated(tensor):
            faults.append(f"{legible(key)}: {tuple(tensor.shape)} that repeats {held} bytes")
            continue
        shape = safetensors_shape(dtype, tuple(tensor.shape))
        if isinstance(tensor, DistributedTensor):
            found.append((key, Distributed(tensor, dtype, shape)))
        else:
            found.append((key, Pickled(file.path, key, dtype, shape, file.taken)))
    if faults:
        raise FormatError("these tensors cannot be written as safetensors", where=file.path, facts=faults)
    return found


def _repeated(tensor: Any) -> int:
    """The bytes that a tensor of gigabytes repeats over and over, which would fill the disk; none for any other."""
    if isinstance(tensor, DistributedTensor) or tensor.nbytes <= _LARGE:
        return 0
    held = int(tensor.untyped_storage().nbytes())
    return held if held * _MOST_REPEATS < tensor.nbytes else 0


def _is_dense(tensor: Any) -> bool:
    stored = isinstance(tensor, DistributedTensor)
    return stored or (str(tensor.layout) == "torch.strided" and not tensor.is_quantized)


def _modes(found: Checkpoint) -> dict[str, int]:
    modes = {safetensors_name(Path(path).name): _mode(path) for path in (file.path for file in found.files)}
    if any(isinstance(file, DistributedFolder) for file in found.files):
        # a folder can be entered; that does not say that a file is to be run
        return dict.fromkeys((SINGLE,), min(modes.values()) & 0o666)
    return modes | ({safetensors_name(Path(found.index.path).name): _mode(found.index.path)} if found.index else {})


def _mode(path: str) -> int:
    return Path(path).stat().st_mode & 0o777
