"""Where transactions are staged: hidden folders, whose names say what they are for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from treealign.errors import FormatError
from treealign.formats.legible import legible

SUFFIX = ".treealign-partial"
_LONGEST = 200  # bytes of a name, so that the hidden one is none too long for any file system


@dataclass(frozen=True)
class Stage:
    """A hidden folder, and what the files in it are for.

    Attributes
    ----------
    path : Path
        The folder.
    folder : Path
        Where its files go.
    lock : Path
        The folder whose lock a run holds that writes into it.
    """

    path: Path
    folder: Path
    lock: Path


def inside(folder: Path) -> Stage:
    """The stage of what is written into a folder that is there."""
    return Stage(folder / SUFFIX, folder, folder)


def beside(path: Path) -> Stage:
    """The stage of a file, or of a folder that is not there yet."""
    name = os.fsencode(path.name)
    if len(name) > _LONGEST:
        digest = hashlib.sha256(name).hexdigest()[:16]
        name = name[: _LONGEST - 20] + digest.encode()
    stage = path.with_name(f".{os.fsdecode(name)}{SUFFIX}")
    return Stage(stage, path.parent, stage)


def refuse_unnamable(path: Path) -> None:
    """Refuse a path that the system takes for no name of anything.

    Raises
    ------
    FormatError
        It is too long, holds a NUL, or leads from link to link in a circle.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FormatError(f"no path of this system: {reason}", where=legible(os.fspath(path))) from error


def stages_around(path: Path) -> Iterator[Stage]:
    """The stages that are there and concern what is at a path, or is to be there."""
    found: list[Stage] = []
    if path.is_dir():
        found = [inside(path), *_files_of(path)]
        if path.name not in ("", ".."):
            found.append(beside(path))
    elif path.name:
        found = [inside(path.parent), beside(path)]
    return (stage for stage in found if stage.path.is_dir() and not stage.path.is_symlink())


def _files_of(folder: Path) -> list[Stage]:
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.endswith(SUFFIX) and entry.name != SUFFIX]
        return [Stage(folder / name, folder, folder / name) for name in sorted(names)]
    return []
