"""A checkpoint at a URL: which files it is made of, and their headers, several at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from treealign.errors import FormatError
from treealign.formats.checkpoints import Checkpoint, File, all_or_errors, keys_by_shard
from treealign.formats.detect import HINTS, Kind, kind_by_name, kind_of
from treealign.formats.distributed import distributed_folder
from treealign.formats.distributed_metadata import METADATA
from treealign.formats.exports.reading import LISTERS
from treealign.formats.folders import choose_among
from treealign.formats.indexes import Index, check_shards, parse_index, refuse_absent
from treealign.formats.remote.ranged import AbsentError, RangedFile, RemoteFolder
from treealign.formats.remote.torch_ranges import read_torch_ranges
from treealign.formats.safetensors_header import header_of
from treealign.formats.tree_json import TreeFile, parse_tree_json

_AT_ONCE = 8  # headers in transfer: what a server bears, and enough to hide the way there and back


def open_remote(url: str) -> Checkpoint | TreeFile:
    """The checkpoint or tree JSON at a URL, read as far as its names, shapes and dtypes.

    Of safetensors files the headers are fetched, of torch files the pickle without the data. Headers and indexes are
    held to the same checks as those of files on the disk.

    Raises
    ------
    FormatError
        If there is none, more than one, or its files are absent, damaged, or contradict their index; or if they cannot
        be fetched in ranges.
    """
    folder = _folder(url)
    if not folder.file:
        return _open_folder(folder)
    with folder.open(folder.file) as file:
        kind = _kind(folder.file, file)
        if kind is Kind.TREE_JSON:
            return parse_tree_json(file.read(), file.url)
        if kind is Kind.INDEX:
            return _open_index(folder, parse_index(file.read(), file.url), names_suffice=True)
        if kind is Kind.DISTRIBUTED:
            return _open_distributed(folder)
        return Checkpoint(url, None, (_read(file, kind),))


def fetch_file(url: str, name: str) -> bytes:
    """A small file that belongs to the checkpoint at a URL: its config, say.

    Raises
    ------
    FormatError
        If it is not there, or cannot be fetched.
    """
    with _folder(url).open(name) as file:
        return file.read()


def _folder(url: str) -> RemoteFolder:
    # imported here, for each brings its library
    if url.lower().startswith("hf:"):
        from treealign.formats.remote.hub import hub_folder

        return hub_folder(url)
    from treealign.formats.remote.fsspec_files import fsspec_folder

    return fsspec_folder(url)


def _kind(name: str, file: RangedFile) -> Kind:
    """As `detect`: some names are taken at their word."""
    if named := kind_by_name(name):
        return named
    kind = kind_of(file, name)  # type: ignore[arg-type]  # a RawIOBase reads as a BinaryIO does
    file.seek(0)
    return kind


def _open_folder(folder: RemoteFolder) -> Checkpoint:
    found = folder.names()
    names = sorted(name for name in found if not name.startswith("."))
    choice = choose_among(names, folder.url, partial(_read_index, folder))
    if choice is None and METADATA in found:
        return _open_distributed(folder)
    if choice is None:
        facts = [f"it shows {', '.join(names[:10])}{', …' if len(names) > 10 else ''}" if names else "it shows no file"]
        hint = "add the name of the file or folder that holds the weights to the URL"
        raise FormatError("no weights in this folder", where=folder.url, facts=facts, hint=hint)
    if choice.index is not None:
        return _open_index(folder, _read_index(folder, choice.index), names_suffice=False)
    files = all_or_errors(_read_many(folder, choice.files), folder.url)
    check_shards(folder.url, None, keys_by_shard(files))
    return Checkpoint(folder.url, None, files)


def _open_distributed(folder: RemoteFolder) -> Checkpoint:
    def size_of(name: str) -> int | None:
        try:
            with folder.open(name) as file:
                return file.size
        except AbsentError:
            return None

    with folder.open(METADATA) as file:
        return Checkpoint(folder.url, None, (distributed_folder(folder.url, file.read(), size_of),))


def _read_index(folder: RemoteFolder, name: str) -> Index:
    with folder.open(name) as file:
        return parse_index(file.read(), file.url)


def _open_index(folder: RemoteFolder, index: Index, *, names_suffice: bool) -> Checkpoint:
    attempts = _read_many(folder, index.shards)
    absent = [name for name, one in zip(index.shards, attempts, strict=True) if isinstance(one, AbsentError)]
    if names_suffice and len(absent) == len(index.shards):
        return Checkpoint(index.path, index, ())
    refuse_absent(index, absent)
    files = all_or_errors(attempts, index.path)
    check_shards(index.path, index.weight_map, keys_by_shard(files))
    return Checkpoint(index.path, index, files)


def _read_many(folder: RemoteFolder, names: Sequence[str]) -> list[File | FormatError]:
    with ThreadPoolExecutor(_AT_ONCE, "treealign-headers") as pool:
        return list(pool.map(partial(_attempt, folder), names))


def _attempt(folder: RemoteFolder, name: str) -> File | FormatError:
    try:
        with folder.open(name) as file:
            return _read(file, _kind(name, file))
    except FormatError as error:
        return error


def _read(file: RangedFile, kind: Kind) -> File:
    if kind is Kind.SAFETENSORS:
        return header_of(file, file.url, file.size)  # type: ignore[arg-type]  # a RawIOBase reads as a BinaryIO does
    if kind is Kind.TORCH_ZIP:
        return read_torch_ranges(file)
    if kind is Kind.TORCH_LEGACY:
        hint = "download it and pass the file"
        raise FormatError(
            "its names stand among its data: this format is older than torch 1.6", where=file.url, hint=hint
        )
    if kind in LISTERS:
        return LISTERS[kind](file, file.url, file.size)  # type: ignore[arg-type]  # a RawIOBase reads as a BinaryIO does
    raise FormatError(f"not a checkpoint but {kind.value}", where=file.url, hint=HINTS.get(kind, ""))
