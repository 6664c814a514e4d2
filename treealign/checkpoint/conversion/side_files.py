"""The other files of a model's folder: config and tokenizer go along, weights under other names do not."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from treealign.checkpoint.conversion.moving import Mover
from treealign.checkpoint.conversion.tasks import Span
from treealign.checkpoint.conversion.undoing import ORIGINALS
from treealign.checkpoint.conversion.writing import written
from treealign.checkpoint.sources import Source
from treealign.formats.folders import NOT_WEIGHTS

_WEIGHTS = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".gguf",
    ".onnx",
    ".ot",
    ".npz",
    ".distcp",
)
_RECORDS = "treealign_"
_BEFORE = ".before"


class Other(NamedTuple):
    """A file to carry along: its name below the folder, and where it is."""

    name: str
    path: Path


@dataclass(frozen=True)
class SideFiles:
    """What is carried along, and the names of what is left out."""

    carried: tuple[Other, ...] = ()
    left_out: tuple[str, ...] = ()


def side_files_of(
    source: Source, rewritten: Collection[str] = (), *, recalled: bool = False, same: bool = False
) -> SideFiles:
    """The other files of the folder of a checkpoint, but for those that are `rewritten`.

    Left out are weights that are not the ones converted (they hold the names of before, or are another model's),
    hidden files, links to folders, and whatever is no file. Originals that an earlier conversion kept step back, and
    come forward again where the later conversion is undone (`recalled`); where nothing changes (`same`), they stay.
    """
    if source.folder is None:
        return SideFiles()
    weights = {os.path.realpath(path) for path in source.files}
    carried, left_out = [], []
    for path in _walk(source.folder):
        name = path.relative_to(source.folder).as_posix()
        if os.path.realpath(path) in weights or name in rewritten:
            continue
        if name.startswith(ORIGINALS):
            carried += [Other(moved, path) for moved in ([name] if same else turned(name, recalled=recalled))]
        elif name.startswith(_RECORDS):
            continue
        elif _belongs(name, path):
            carried.append(Other(name, path))
        else:
            left_out.append(name)
    return SideFiles(tuple(carried), tuple(left_out))


def turned(name: str, *, recalled: bool) -> list[str]:
    """What a file of originals is called in the result; nothing where it has served."""
    if not recalled:
        return [name + _BEFORE]
    return [name.removesuffix(_BEFORE)] if name.endswith(_BEFORE) else []


def _walk(folder: Path) -> Iterator[Path]:
    """Files, and what is neither file nor folder, in the order of their names; links to folders are not followed."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
            yield from _walk(entry)
        else:
            yield entry


def _belongs(name: str, path: Path) -> bool:
    if path.name.startswith(".") or not path.is_file():
        return False
    # below the folder stand other modules of a pipeline, with weights of their own; a part of a distributed checkpoint
    # is nothing without its metadata, which is a hidden file
    return (
        ("/" in name and not name.endswith(".distcp"))
        or path.name.startswith(NOT_WEIGHTS)
        or not _is_weights(path.name)
    )


def _is_weights(name: str) -> bool:
    return name.removesuffix(".index.json").endswith(_WEIGHTS)


def carry_along(other: Other, folder: Path) -> int:
    """Copy a file, as `cp` would; the bytes that it has."""
    target = folder / other.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with other.path.open("rb") as file, written(target, other.path.stat().st_mode & 0o777) as descriptor:
        size = os.fstat(file.fileno()).st_size
        Mover(descriptor).move(file.fileno(), Span(str(other.path), 0, size, 0))
    return size
