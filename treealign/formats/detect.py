"""What a file is, from its first bytes rather than from its name."""

from __future__ import annotations

from enum import Enum

ZIP = b"PK\x03\x04"
HEAD = 1024


class Kind(Enum):
    """What a file or folder is."""

    SAFETENSORS = "a safetensors file"
    TORCH_ZIP = "a torch file"
    TORCH_LEGACY = "a torch file of before torch 1.6"
    INDEX = "an index of shards"
    TREE_JSON = "a tree JSON"
    JSON = "a JSON file"
    FOLDER = "a folder"
    LFS_POINTER = "a Git LFS pointer, not the file it points to"
    HTML = "an HTML page"
    ZIP = "a zip archive"
    EMPTY = "an empty file"
    UNKNOWN = "a file of no known kind"


HINTS = {
    Kind.LFS_POINTER: "fetch the real file with `git lfs pull`",
    Kind.HTML: "a download was answered by a web page: a login or an error; open the file to see which",
}


def impostor(head: bytes) -> Kind | None:
    """What the first bytes show that is no weights file at all, or None.

    >>> impostor(b"version https://git-lfs.github.com/spec/v1").value
    'a Git LFS pointer, not the file it points to'
    """
    if head.startswith(b"version https://git-lfs"):
        return Kind.LFS_POINTER
    start = head.lstrip()[:15].lower()
    return Kind.HTML if start.startswith((b"<!doctype html", b"<html", b"<?xml")) else None
