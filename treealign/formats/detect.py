"""What a file is, told from its contents; the name decides only where it promises something the contents must keep."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from treealign.errors import FormatError
from treealign.formats.archives import opened_archive
from treealign.formats.bounds import MAX_TEXT
from treealign.formats.distributed_metadata import METADATA

ZIP = b"PK\x03\x04"
HEAD = 1024
# protocol, then the magic number of torch's first serialisation
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_TREE_JSON = re.compile(rb'"format"\s*:\s*"treealign\.tree"')
_MAPPING = re.compile(rb'"format"\s*:\s*"treealign\.mapping"')


class Kind(Enum):
    """What a file or folder is."""

    SAFETENSORS = "a safetensors file"
    TORCH_ZIP = "a torch file"
    TORCH_LEGACY = "a torch file of before torch 1.6"
    INDEX = "an index of shards"
    TREE_JSON = "a tree JSON"
    MAPPING = "a conversion mapping"
    JSON = "a JSON file that is neither a tree nor an index of shards"
    DISTRIBUTED = "the metadata of a distributed checkpoint"
    DISTRIBUTED_PART = "a part of a distributed checkpoint"
    FOLDER = "a folder"
    LFS_POINTER = "a Git LFS pointer, not the file it points to"
    HTML = "an HTML page"
    GGUF = "a GGUF file"
    ONNX = "an ONNX file"
    MSGPACK = "a msgpack of Flax"
    HDF5 = "an HDF5 file"
    NPZ = "an archive of numpy's arrays"
    NEMO = "an archive of NeMo"
    ZIP = "a zip archive that torch did not write"
    GZIP = "a file that gzip has compressed"
    EMPTY = "an empty file"
    UNKNOWN = "a file of no known kind"


_MAGIC = {
    _LEGACY: Kind.TORCH_LEGACY,
    b"GGUF": Kind.GGUF,
    b"\x89HDF\r\n\x1a\n": Kind.HDF5,
    b"\x1f\x8b": Kind.GZIP,
}
# formats that begin with nothing that only they begin with
_ENDINGS = {".onnx": Kind.ONNX, ".msgpack": Kind.MSGPACK}
TORCH = (Kind.TORCH_ZIP, Kind.TORCH_LEGACY)
HINTS = {
    Kind.TREE_JSON: "it has names and shapes only: pass the file or the folder with the weights",
    Kind.MAPPING: "the mapping stands behind both sides: treealign check CHECKPOINT MODEL MAPPING",
    Kind.JSON: "pass the weights, their index (*.index.json), or what `treealign snapshot` wrote",
    Kind.DISTRIBUTED_PART: "pass the folder it is in",
    Kind.LFS_POINTER: "fetch the real file with `git lfs pull`",
    Kind.HTML: "a download was answered by a web page: a login or an error; open the file to see which",
    Kind.ZIP: "unpack it, or fetch the checkpoint that torch.save wrote",
    Kind.GZIP: "unpack it: gunzip, or tar -xzf",
    Kind.EMPTY: "the file was cut short: fetch or write it again",
    Kind.UNKNOWN: "pass the file or the folder with the weights: safetensors, torch, GGUF, ONNX, HDF5, msgpack or npz",
}


def detect(path: str | os.PathLike[str]) -> Kind:
    """What `path` is.

    A file named ``.safetensors`` is taken at its word, so that whoever reads it says what it is instead.

    Raises
    ------
    FormatError
        If there is nothing, or it cannot be read.
    """
    name = os.fspath(path)
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116  asked once for each file of a checkpoint
        if stat.S_ISDIR(mode):
            return Kind.FOLDER
        if not stat.S_ISREG(mode):
            raise FormatError("not a regular file", where=name)
        if named := kind_by_name(name):
            return named
        with Path(name).open("rb") as file:
            return kind_of(file, name)
    except FileNotFoundError:
        hint = "check the spelling; a model on the hub is spelled hf://org/name"
        if name.startswith("transformers:"):
            hint = "it is the command line that builds models: in Python, build it and pass it"
        raise FormatError("there is no such file or folder", where=name, hint=hint) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FormatError(f"cannot read the file: {reason}", where=name) from error


def kind_by_name(name: str) -> Kind | None:
    """What a file must be by its name alone, or None where its contents are to be asked."""
    if name.endswith(".safetensors"):
        return Kind.SAFETENSORS
    if name.endswith(".distcp"):
        return Kind.DISTRIBUTED_PART
    if ending := next((end for end in _ENDINGS if name.endswith(end)), None):
        return _ENDINGS[ending]
    return Kind.DISTRIBUTED if Path(name).name == METADATA else None


def impostor(head: bytes) -> Kind | None:
    """What the first bytes show that is no weights file at all, or None.

    >>> impostor(b"version https://git-lfs.github.com/spec/v1").value
    'a Git LFS pointer, not the file it points to'
    """
    if head.startswith(b"version https://git-lfs"):
        return Kind.LFS_POINTER
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].lower()
    return Kind.HTML if start.startswith((b"<!doctype html", b"<html", b"<?xml")) else None


def kind_of(file: BinaryIO, name: str) -> Kind:
    """What an open file is, told from its contents alone; of a long file, the first bytes are read, and the last."""
    head = file.read(HEAD)
    if not head:
        return Kind.EMPTY
    if head[8:9] == b"{" and head[4:8] == bytes(4):
        return Kind.SAFETENSORS
    if head.startswith(ZIP):
        return _kind_of_zip(file, head, name)
    if kind := next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None):
        return kind
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _kind_of_json(file, head)
    return impostor(head) or (Kind.NEMO if head[257:262] == b"ustar" else Kind.UNKNOWN)


def _kind_of_zip(file: BinaryIO, head: bytes, name: str) -> Kind:
    try:
        with opened_archive(file, name) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        # cut short: the names stand at the end of the file; torch writes this one first
        return Kind.TORCH_ZIP if b"/data.pkl" in head else Kind.ZIP
    if any(member.rpartition("/")[2] == "data.pkl" for member in names):
        return Kind.TORCH_ZIP
    return Kind.NPZ if names and all(member.endswith(".npy") for member in names) else Kind.ZIP


def _kind_of_json(file: BinaryIO, head: bytes) -> Kind:
    if _TREE_JSON.search(head):
        return Kind.TREE_JSON
    raw = head + file.read(MAX_TEXT)
    if _TREE_JSON.search(raw):
        return Kind.TREE_JSON
    if b'"weight_map"' in raw:
        return Kind.INDEX
    return Kind.MAPPING if _MAPPING.search(raw) else Kind.JSON
