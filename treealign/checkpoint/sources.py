"""A checkpoint or a state dict: where each of its tensors lies, how it lies in files, and a reader for all of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from treealign.checkpoint.layouts import FORMAT_METADATA, SINGLE, FileLayout, Layout, layout_of, safetensors_name
from treealign.checkpoint.readers import Reader
from treealign.checkpoint.tensors import Distributed, InMemory, Pickled, SourceTensor, Stored, in_memory, spelled
from treealign.errors import FormatError, TreealignError
from treealign.formats.addresses import split_address
from treealign.formats.cached import cached_property
from treealign.formats.checkpoints import Checkpoint, File, open_checkpoint
from treealign.formats.collector import collector_paused
from treealign.formats.distributed import DistributedFolder, DistributedTensor
from treealign.formats.exports.listed import ListedFile
from treealign.formats.safetensors_header import Header
from treealign.formats.stamps import Stamp
from treealign.formats.torch_files import TorchFile
from treealign.tree.keytree import KeyTree, Leaf
from treealign.tree.module_tree import state_dict_tree, tensors_tree

_MOST_HELD = 512  # files; a process may have some more open
_ATTEMPTS = 5  # to open what others go on replacing


@dataclass(frozen=True)
class Source:
    """Tensors to load, to convert or to save, wherever they lie; a context manager that closes what was opened.

    Attributes
    ----------
    path : str
        What was asked for.
    folder : Path or None
        The folder whose other files belong to the checkpoint; None for a single file, or memory.
    tensors : mapping of str to SourceTensor
        Every key, in the order of the files.
    layout : Layout
        How they lie in files; torch files count as the safetensors files that replace them.
    stamps : mapping of str to Stamp
        The files, as they were when they were read.
    modes : mapping of str to int
        Permissions of each file of the layout, and of its index.
    files : tuple of str
        The files that were read: weights and index.
    beside : Path or None
        The folder in which the files stand; None for memory.
    taken : str
        Where in what was saved the tensors stood, as Python spells it; nothing where they were all.
    """

    path: str
    folder: Path | None
    tensors: Mapping[str, SourceTensor]
    layout: Layout
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    beside: Path | None = None
    taken: str = ""
    _tree: Callable[[], KeyTree] = lambda: KeyTree.from_leaves(())
    _reader: Reader = field(default_factory=Reader)

    @cached_property
    def tree(self) -> KeyTree:
        """What it holds."""
        return self._tree()

    def read(self, key: str) -> Any:
        """A tensor in memory of its own, on the CPU for one from a file.

        Raises
        ------
        FormatError
            The file cannot be read, or is not as long as it was.
        """
        return self.tensors[key].copy(self._reader)

    def read_part(self, key: str, begin: int, into: Any) -> None:
        """Fill a numpy array of bytes with those of a tensor in one piece in a file, from `begin` on; see `read`."""
        tensor = self.tensors[key]
        if not isinstance(tensor, Stored):
            raise FormatError(f"{key} does not lie in one piece in a file")
        tensor.fill(into, self._reader, begin)

    def shared(self, key: str) -> Any:
        """A tensor as it lies: mapped from its file into memory that is written to by copies, or the one in memory.

        None where it lies in parts, at an address that its dtype does not allow, or in memory with others.

        Raises
        ------
        FormatError
            The file cannot be read, or is not as long as it was.
        """
        held, tensor = self.in_memory(key), self.tensors[key]
        if held is not None:
            alone = held.is_contiguous() and self._storages[held.untyped_storage()._cdata] == 1
            return held.detach() if alone else None
        return tensor.shared(self._reader) if isinstance(tensor, Stored) else None

    @cached_property
    def _storages(self) -> Counter[int]:
        """How many of the tensors in memory lie in each storage."""
        held = (self.in_memory(key) for key in self.tensors)
        return Counter(tensor.untyped_storage()._cdata for tensor in held if tensor is not None)

    def in_memory(self, key: str) -> Any:
        """A tensor as it is held, or None for one that lies in a file."""
        tensor = self.tensors[key]
        return tensor.held(self._reader) if isinstance(tensor, Pickled | InMemory) else None

    def nbytes(self, key: str) -> int:
        """How many bytes a tensor has."""
        tensor = self.tensors[key]
        if isinstance(tensor, Distributed):
            return tensor.tensor.nbytes
        return tensor.nbytes if isinstance(tensor, Stored) else int(self.in_memory(key).nbytes)

    def is_whole(self, key: str) -> bool:
        """Whether a tensor lies in one piece in one file."""
        return isinstance(self.tensors[key], Stored)

    def in_order(self, keys: Iterable[str]) -> list[str]:
        """The keys in the order in which their tensors lie in the files; others as they come."""
        return sorted(keys, key=lambda key: _place(self.tensors[key]))

    def hold(self) -> Self:
        """Open its files, a reasonable number of them: what takes their names from now on is not read.

        Raises
        ------
        FormatError
            One of them has changed since its header was read.
        """
        paths = dict.fromkeys(tensor.path for tensor in self.tensors.values() if isinstance(tensor, Stored))
        for path in list(paths)[:_MOST_HELD]:
            self._reader.file(path)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()


def open_source(checkpoint: Any) -> Source:
    """Whatever holds tensors: a path, a state dict, a module. Only names, shapes and places are read.

    Raises
    ------
    FormatError
        A file is not what it claims to be, or an index has no shards.
    TreealignError
        It holds no tensors.
    """
    if isinstance(checkpoint, str | os.PathLike):
        return _from_files(checkpoint)
    from torch import nn

    if isinstance(checkpoint, nn.Module | Mapping):
        return _from_memory(checkpoint.state_dict() if isinstance(checkpoint, nn.Module) else checkpoint)
    raise TreealignError(
        f"no tensors can be read from {type(checkpoint).__name__}", hint="pass a path, a state dict or a module"
    )


def hold_source(checkpoint: Any) -> Source:
    """As `open_source`, with its files held open; again where others replace them meanwhile."""
    for _ in range(_ATTEMPTS - 1):
        source = open_source(checkpoint)
        try:
            return source.hold()
        except FormatError:
            source.__exit__()
    return open_source(checkpoint).hold()


def _from_memory(state: Mapping[str, Any]) -> Source:
    import torch

    tree = state_dict_tree(state)
    held = {key: in_memory(torch.as_tensor(state[key]), key) for key in tree.keys}
    nbytes = sum(one.tensor.nbytes for one in held.values())
    layout = Layout((FileLayout(SINGLE, tuple(held), sorted=False, metadata=FORMAT_METADATA),), nbytes=nbytes)
    return Source(tree.source, None, held, layout, _tree=lambda: tree)


def _from_files(checkpoint: str | os.PathLike[str]) -> Source:
    name, _ = split_address(checkpoint)
    with collector_paused():
        found = open_checkpoint(checkpoint)
        if found.names_only:
            raise FormatError("shards are absent", where=name, hint="fetch the rest of the checkpoint")
        tensors = {key: tensor for file in found.files for key, tensor in _tensors(file)}
    path = Path(name)
    folder = path if path.is_dir() else path.parent
    reader = Reader(found.stamps)
    for file in found.files:
        if isinstance(file, TorchFile):
            reader.keep(("torch", file.path, file.taken), file)
        elif isinstance(file, DistributedFolder) and any(tensor.copies for tensor in file.tensors.values()):
            from treealign.checkpoint.distributed_parts import refuse_unequal_copies

            refuse_unequal_copies(file.tensors, reader)
    return Source(
        path=name,
        folder=None if found.index is None and not path.is_dir() else folder,
        tensors=tensors,
        layout=layout_of(found),
        stamps=found.stamps,
        modes=_modes(found),
        files=(*found.stamps, *((found.index.path,) if found.index else ())),
        beside=folder,
        taken=next((file.taken for file in found.files if isinstance(file, TorchFile | DistributedFolder)), ""),
        _tree=lambda: _tree_of(found),
        _reader=reader,
    )


def _tree_of(found: Checkpoint) -> KeyTree:
    leaves: list[Leaf] = []
    tied: dict[str, str] = {}
    ordered = False
    says = next((file.architecture for file in found.files if isinstance(file, ListedFile)), "")
    for file in found.files:
        if isinstance(file, Header):
            leaves += [Leaf(entry.key, entry.torch_shape, entry.torch_dtype) for entry in file.tensors]
        else:
            ordered = len(found.files) == 1 and file.ordered
            part = tensors_tree(file.tensors, ordered, file.path)
            leaves += part.leaves
            tied |= part.tied
    return KeyTree.from_leaves(leaves, tied=tied, ordered=ordered, source=found.path, architecture=says)


def _tensors(file: File) -> Iterator[tuple[str, SourceTensor]]:
    if isinstance(file, Header):
        start, path = file.data_start, file.path
        return ((e.key, Stored(path, start + e.begin, e.dtype, e.shape, e.key)) for e in file.tensors)
    if isinstance(file, ListedFile):
        return ((key, Stored(file.path, file.plain(key), *spelled(one), key)) for key, one in file.tensors.items())
    return ((key, _pickled(file, key, tensor)) for key, tensor in file.tensors.items())


def _pickled(file: TorchFile | DistributedFolder, key: str, tensor: Any) -> SourceTensor:
    dtype, shape = spelled(tensor)
    if isinstance(tensor, DistributedTensor):
        return Distributed(tensor, dtype, shape)
    return Pickled(file.path, key, dtype, shape, file.taken)


def _modes(found: Checkpoint) -> dict[str, int]:
    modes = {safetensors_name(Path(path).name): _mode(path) for path in (file.path for file in found.files)}
    if any(isinstance(file, DistributedFolder) for file in found.files):
        # a folder can be entered; that does not say that a file is to be run
        return dict.fromkeys((SINGLE,), min(modes.values()) & 0o666)
    return modes | ({safetensors_name(Path(found.index.path).name): _mode(found.index.path)} if found.index else {})


def _mode(path: str) -> int:
    return Path(path).stat().st_mode & 0o777


def _place(tensor: SourceTensor) -> tuple[str, int]:
    return (tensor.path, tensor.begin) if isinstance(tensor, Stored) else ("", 0)
