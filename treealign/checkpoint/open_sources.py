"""The tensors of a checkpoint, read one by one when their turn comes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import torch
from torch import nn

from treealign.checkpoint.distributed_parts import joined
from treealign.checkpoint.layouts import layout_of
from treealign.errors import FormatError, TreealignError
from treealign.formats.cached import cached_property
from treealign.formats.checkpoints import Checkpoint, open_checkpoint
from treealign.formats.distributed import DistributedTensor
from treealign.formats.safetensors_header import Header, TensorEntry
from treealign.formats.transaction.journal import Known, known
from treealign.mapping.layout import FORMAT_METADATA, SINGLE, FileLayout, Layout
from treealign.tree.keytree import KeyTree, Leaf
from treealign.tree.module_tree import state_dict_tree, tensors_tree

# where a tensor is: in a file, in parts of several, or in memory
Held: TypeAlias = tuple[Header, TensorEntry] | DistributedTensor | torch.Tensor


@dataclass(frozen=True)
class OpenSource:
    """A checkpoint open for reading.

    Attributes
    ----------
    tree : KeyTree
        What it holds.
    layout : Layout
        How it lies in its files; torch files count as the safetensors files that would replace them.
    folder : Path or None
        Where its files are; None for tensors in memory.
    """

    tree: KeyTree
    layout: Layout
    folder: Path | None
    _where: Mapping[str, Held]
    _open: dict[str, BufferedReader]
    _stack: ExitStack
    _mapped: dict[str, Any] = field(default_factory=dict)
    _known: Mapping[str, Known] = field(default_factory=dict)

    def read(self, key: str) -> torch.Tensor:
        """A tensor, on the CPU for one from a file, in memory of its own.

        Raises
        ------
        FormatError
            The file cannot be read, or is not as long as it was.
        """
        held = self._where[key]
        if isinstance(held, torch.Tensor):
            return held.detach().clone()
        if isinstance(held, DistributedTensor):
            return joined(held)
        header, entry = held
        raw = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
        self._fill(header, entry, raw)
        return raw.view(getattr(torch, entry.torch_dtype)).view(entry.torch_shape)

    def shared(self, key: str) -> torch.Tensor | None:
        """A tensor as it lies: mapped from its file into memory that is written to by copies, or the one in memory.

        None where it lies in parts, at an address that its dtype does not allow, or in memory with others.

        Raises
        ------
        FormatError
            The file cannot be read, or is not as long as it was.
        """
        held = self._where[key]
        if isinstance(held, torch.Tensor):
            return (
                held.detach() if held.is_contiguous() and self._storages[held.untyped_storage()._cdata] == 1 else None
            )
        if isinstance(held, DistributedTensor):
            return None
        header, entry = held
        dtype: torch.dtype = getattr(torch, entry.torch_dtype)
        at, size = header.data_start + entry.begin, entry.end - entry.begin
        if at % dtype.itemsize or not size:
            return None
        # a storage of its own, so that what copies or saves it takes this tensor and not the whole file
        run = torch.frombuffer(self._map(header), dtype=dtype, count=size // dtype.itemsize, offset=at)
        # a view would do as well, and remember for ever what it is a view of
        return run.resize_(entry.torch_shape)

    @cached_property
    def _storages(self) -> Counter[int]:
        """How many of the tensors in memory lie in each storage."""
        held = (tensor for tensor in self._where.values() if isinstance(tensor, torch.Tensor))
        return Counter(tensor.untyped_storage()._cdata for tensor in held)

    def _map(self, header: Header) -> Any:
        """The bytes of a file, mapped; as a numpy array, of which torch takes parts without copying."""
        if header.path not in self._mapped:
            try:
                self._refuse_another(header)
                storage: Any = torch.UntypedStorage.from_file(header.path, shared=False, nbytes=header.size)
            except (OSError, RuntimeError) as error:
                raise FormatError(f"cannot map the file into memory: {error}", where=header.path) from error
            self._mapped[header.path] = torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage).numpy()
        return self._mapped[header.path]

    def in_memory(self, key: str) -> torch.Tensor | None:
        """A tensor as it is held, or None for one that lies in a file."""
        held = self._where[key]
        return held if isinstance(held, torch.Tensor) else None

    def nbytes(self, key: str) -> int:
        """How many bytes a tensor has."""
        held = self._where[key]
        return held[1].end - held[1].begin if isinstance(held, tuple) else held.nbytes

    def is_whole(self, key: str) -> bool:
        """Whether a tensor lies in one piece in one file."""
        return isinstance(self._where[key], tuple)

    def in_order(self, keys: Iterable[str]) -> list[str]:
        """The keys in the order in which their tensors lie in the files; others as they come."""
        return sorted(keys, key=lambda key: _place(self._where[key]))

    def read_part(self, key: str, begin: int, into: Any) -> None:
        """Fill a numpy array of bytes with those of a tensor in one piece in a file, from `begin` on.

        Raises
        ------
        FormatError
            As `read` does.
        """
        held = self._where[key]
        if not isinstance(held, tuple):
            raise FormatError(f"{key} does not lie in one piece in a file")
        header, entry = held
        part = entry._replace(begin=entry.begin + begin, end=entry.begin + begin + len(into))
        self._fill(header, part, torch.from_numpy(into))

    def _fill(self, header: Header, entry: TensorEntry, raw: torch.Tensor) -> None:
        if not raw.numel():
            return
        try:
            file = self._file(header)
            file.seek(header.data_start + entry.begin)
            got = file.readinto(raw.numpy().data)
        except OSError as error:
            raise FormatError(f"cannot read {entry.key}: {error.strerror}", where=header.path) from error
        if got != raw.numel():
            raise FormatError(f"{entry.key} ends early: the file has changed", where=header.path)

    def _file(self, header: Header) -> BufferedReader:
        if header.path not in self._open:
            self._refuse_another(header)
            file = Path(header.path).open("rb")  # noqa: SIM115  closed with the source
            self._open[header.path] = self._stack.enter_context(file)
        return self._open[header.path]

    def _refuse_another(self, header: Header) -> None:
        """Refuse a file that has taken the place of the one whose header was read."""
        if known(Path(os.path.realpath(header.path))) != self._known[header.path]:
            raise FormatError("the file has changed since its header was read", where=header.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()


def open_source(checkpoint: Any) -> OpenSource:
    """Open whatever holds tensors: a path, a state dict, a module.

    Raises
    ------
    FormatError
        A file is not what it claims to be, or an index has no shards.
    TreealignError
        It holds no tensors.
    """
    if isinstance(checkpoint, str | os.PathLike):
        found = open_checkpoint(checkpoint)
        if found.names_only:
            raise FormatError("shards are absent", where=found.path, hint="fetch the rest of the checkpoint")
        return _from_files(found)
    if isinstance(checkpoint, nn.Module):
        return _from_memory(checkpoint.state_dict())
    if isinstance(checkpoint, Mapping):
        return _from_memory(checkpoint)
    raise TreealignError(
        f"no tensors can be read from {type(checkpoint).__name__}", hint="pass a path, a state dict or a module"
    )


def _from_memory(tensors: Mapping[str, Any]) -> OpenSource:
    tree = state_dict_tree(tensors)
    held = {key: torch.as_tensor(tensors[key]) for key in tree.keys}
    nbytes = sum(tensor.nbytes for tensor in held.values())
    layout = Layout((FileLayout(SINGLE, tuple(held), sorted=False, metadata=FORMAT_METADATA),), nbytes=nbytes)
    return OpenSource(tree, layout, None, held, {}, ExitStack())


def _from_files(found: Checkpoint) -> OpenSource:
    leaves: list[Leaf] = []
    tied: dict[str, str] = {}
    where: dict[str, Held] = {}
    ordered = False
    for file in found.files:
        if isinstance(file, Header):
            leaves += [Leaf(entry.key, entry.torch_shape, entry.torch_dtype) for entry in file.tensors]
            where |= {entry.key: (file, entry) for entry in file.tensors}
        else:
            ordered = len(found.files) == 1 and file.ordered
            part = tensors_tree(file.tensors, ordered, file.path)
            leaves += part.leaves
            tied |= part.tied
            where.update(file.tensors)
    tree = KeyTree.from_leaves(leaves, tied=tied, ordered=ordered, source=found.path)
    path = Path(found.path)
    stamps = {file.path: known(Path(os.path.realpath(file.path))) for file in found.files if isinstance(file, Header)}
    folder = path if path.is_dir() else path.parent
    return OpenSource(tree, layout_of(found, renamed=True), folder, where, {}, ExitStack(), _known=stamps)


def _place(held: Held) -> tuple[str, int]:
    return (held[0].path, held[1].begin) if isinstance(held, tuple) else ("", 0)


def same_bytes(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether tensors of one dtype and shape hold the same bytes, NaN payloads included."""
    first = tensors[0].contiguous().view(-1).view(torch.uint8)
    return all(torch.equal(first, other.contiguous().view(-1).view(torch.uint8)) for other in tensors[1:])
