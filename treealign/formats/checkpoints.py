"""Checkpoints on disk, whatever they are made of: one file, shards with an index, a folder with either."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from treealign.errors import FormatError
from treealign.formats.addresses import split_address
from treealign.formats.detect import HINTS, TORCH, Kind, detect
from treealign.formats.distributed import DistributedFolder, read_distributed
from treealign.formats.exports.listed import ListedFile
from treealign.formats.exports.orbax import METADATA, read_orbax
from treealign.formats.exports.reading import LISTERS, read_listed
from treealign.formats.folders import SeveralError, choose_weights, named_in
from treealign.formats.indexes import Index, check_shards, read_index, refuse_absent
from treealign.formats.parallel import Piece, join_shards
from treealign.formats.remote.urls import is_url
from treealign.formats.safetensors_header import Header, read_header
from treealign.formats.several import why_several
from treealign.formats.stamps import Stamp, refuse_others, stamp_of, stamps_around
from treealign.formats.torch_files import TorchFile, read_torch_file
from treealign.formats.transaction.recovering import is_changing, recover

_PLAIN = (Kind.SAFETENSORS, Kind.INDEX, Kind.TREE_JSON, *LISTERS)
File: TypeAlias = Header | TorchFile | DistributedFolder | ListedFile
_MAX_FACTS = 50
_ATTEMPTS = 5  # to read what others go on changing


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's files, each read as far as its names, shapes and dtypes.

    Attributes
    ----------
    path : str
        What was asked for.
    index : Index or None
        The index that names the shards.
    files : tuple of Header, TorchFile, DistributedFolder or ListedFile
        One a file, in the order of their names; none where only the index is there.
    stamps : mapping of str to Stamp
        By what the files are known again, by their paths.
    """

    path: str
    index: Index | None
    files: tuple[File, ...]
    stamps: Mapping[str, Stamp] = field(default_factory=dict)

    @property
    def names_only(self) -> bool:
        """Whether nothing is known but the keys: an index without its shards."""
        return self.index is not None and not self.files and bool(self.index.weight_map)


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint at a path: a safetensors or torch file, an index of shards, or a folder with one of these.

    ``path#name`` is one of several state dicts that were saved together (`addresses`). An index whose shards are all
    absent is read for its names, if it is what `path` names. What a run that was killed has left there is ended first
    (`transaction.recovering`); what another run replaces meanwhile is read again.

    Raises
    ------
    FormatError
        If there is none, more than one, or its files are absent, damaged, or contradict their index; with the findings
        of all its files.
    """
    name, part = split_address(path)
    if is_url(name):
        hint = "fetch it first (from the hub: `hf download org/name --local-dir FOLDER`) and pass its folder"
        raise FormatError("of a checkpoint elsewhere only names and shapes are read", where=name, hint=hint)
    for attempt in range(_ATTEMPTS):
        recover(name)
        before = stamps_around(name)
        try:
            found = _open(name, part)
            stamps = {one: stamp_of(one) for file in found.files for one in _paths(file)}
            refuse_others(one for one, stamp in stamps.items() if before.get(os.path.realpath(one), stamp) != stamp)
        except FormatError:
            if attempt == _ATTEMPTS - 1 or (stamps_around(name) == before and not is_changing(name)):
                raise
        else:
            if not is_changing(name):
                return replace(found, stamps=stamps)
    raise FormatError("others go on changing what is here", where=name, hint="wait until it is written, and try again")


def _paths(file: File) -> Iterable[str]:
    return file.paths if isinstance(file, DistributedFolder) else (file.path,)


def _open(name: str, part: str) -> Checkpoint:
    kind = detect(name)
    if part and kind in _PLAIN:
        raise _no_parts(name, part)
    if kind is Kind.INDEX:
        return _open_index(name, read_index(name), names_suffice=True)
    if kind is not Kind.FOLDER:
        return Checkpoint(name, None, (_read(name, kind, part),))
    if part and (meant := named_in(name, part)):
        return _open(meant, "")
    return _open_folder(name, part)


def _no_parts(name: str, part: str) -> FormatError:
    hint = "several state dicts stand together in torch files, in distributed checkpoints, and as files of a folder"
    return FormatError(f"there is one state dict here, and none named {part!r}", where=name, hint=hint)


def _open_folder(name: str, part: str) -> Checkpoint:
    if (Path(name) / METADATA).is_file():
        return Checkpoint(name, None, (read_orbax(Path(name)),))
    try:
        choice = choose_weights(name)
    except SeveralError as error:
        joined = join_shards(Path(name), error.facts, lambda one: _pieces(str(Path(name) / one)))
        if joined is None or part:
            raise why_several(name, error.facts, _shapes) from None
        return Checkpoint(name, None, (joined,))
    if part and (choice.index is not None or detect(choice.files[0]) in _PLAIN):
        raise _no_parts(name, part)
    if choice.index is not None:
        return _open_index(name, read_index(choice.index), names_suffice=False)
    files = _read_all(choice.files, name, part)
    check_shards(name, None, keys_by_shard(files))
    return Checkpoint(name, None, files)


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    file = _read(name, detect(name))
    if isinstance(file, Header):
        return {entry.key: entry.shape for entry in file.tensors}
    return {key: tuple(tensor.shape or ()) for key, tensor in file.tensors.items()}


def _pieces(name: str) -> dict[str, Piece]:
    file = _read(name, detect(name))
    if isinstance(file, Header):
        return {entry.key: Piece(entry.torch_shape, entry.torch_dtype) for entry in file.tensors}
    return {
        key: Piece(tuple(one.shape or ()), str(one.dtype).removeprefix("torch.")) for key, one in file.tensors.items()
    }


def _open_index(name: str, index: Index, names_suffice: bool) -> Checkpoint:
    absent = index.absent()
    if names_suffice and len(absent) == len(index.shards):
        return Checkpoint(name, index, ())
    refuse_absent(index, absent)
    files = _read_all(index.files, index.path)
    check_shards(index.path, index.weight_map, keys_by_shard(files))
    return Checkpoint(name, index, files)


def _read_all(names: Sequence[str], where: str, part: str = "") -> tuple[File, ...]:
    return all_or_errors((_attempt(name, part) for name in names), where)


def _attempt(name: str, part: str) -> File | FormatError:
    try:
        return _read(name, detect(name), part)
    except FormatError as error:
        return error


def all_or_errors(attempts: Iterable[File | FormatError], where: str) -> tuple[File, ...]:
    """The files, if none could not be read.

    Raises
    ------
    FormatError
        With what is wrong with each of those that could not.
    """
    files, errors = [], []
    for one in attempts:
        if isinstance(one, FormatError):
            errors.append(one)
        else:
            files.append(one)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        facts = [line for error in errors for line in _lines_of(error)]
        hints = dict.fromkeys(error.hint for error in errors if error.hint)
        raise FormatError("shards cannot be read", where=where, facts=facts[:_MAX_FACTS], hint="; ".join(hints))
    return tuple(files)


def _lines_of(error: FormatError) -> list[str]:
    return [f"{error.where}: {error.what}", *(f"  {fact}" for fact in error.facts)]


def _read(name: str, kind: Kind, part: str = "") -> File:
    if kind is Kind.SAFETENSORS:
        return read_header(name)
    if kind in TORCH:
        return read_torch_file(name, part)
    if kind is Kind.DISTRIBUTED:
        return read_distributed(Path(name).parent, part)
    if kind in LISTERS:
        return read_listed(name, kind)
    raise FormatError(f"not a checkpoint but {kind.value}", where=name, hint=HINTS.get(kind, ""))


def keys_by_shard(files: Sequence[File]) -> dict[str, list[str]]:
    """The keys in each file, by its name."""
    return {
        Path(file.path).name: [entry.key for entry in file.tensors] if isinstance(file, Header) else list(file.tensors)
        for file in files
    }
