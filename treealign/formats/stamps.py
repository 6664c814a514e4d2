"""By what files are known again while they are read: another one, or a changed one, is refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from treealign.errors import FormatError


class Stamp(NamedTuple):
    """By what a file is known again: another one, or a changed one, has another stamp.

    The inode is that of one machine's view: a network file system may number the same file otherwise on another one.
    None says nothing of it.
    """

    inode: int | None
    size: int
    modified: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """The stamp of a file, or of a link that was not followed, by what the system says of it."""
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)

    @property
    def anywhere(self) -> Stamp:
        """What every machine can compare."""
        return self._replace(inode=None)

    def fits(self, found: Stamp) -> bool:
        """Whether a file with the stamp `found` can be this one."""
        return found == self or (self.inode is None and found.anywhere == self)


def stamp_of(path: str | os.PathLike[str] | int) -> Stamp:
    """The stamp of a file, by its path or by an open descriptor.

    Raises
    ------
    FormatError
        There is no such file any more.
    """
    try:
        return Stamp.of(os.fstat(path) if isinstance(path, int) else Path(path).stat())
    except OSError as error:
        raise FormatError(f"cannot read the file: {error.strerror}", where=str(path)) from error


def stamps_around(name: str) -> dict[str, Stamp]:
    """The stamps of all files that may belong to a checkpoint, by their real paths, before one is opened."""
    path = Path(name)
    found: dict[str, Stamp] = {}
    with suppress(OSError):
        # an index, or a folder, has files around it; any other file stands for itself
        alone = path.is_file() and path.suffix != ".json"
        for entry in [path] if alone else (path if path.is_dir() else path.parent).iterdir():
            with suppress(OSError):  # one that went this moment
                if entry.is_file():
                    found[os.path.realpath(entry)] = Stamp.of(entry.stat())
    return found


def refuse_changed(stamps: Mapping[str, Stamp]) -> None:
    """Refuse files that are not what they were.

    Raises
    ------
    FormatError
        Naming them.
    """
    refuse_others(path for path, stamp in stamps.items() if not stamp.fits(stamp_of(path)))


def refuse_others(paths: Iterable[str]) -> None:
    """Refuse these files, if there are any: they have changed."""
    changed = list(paths)
    if changed:
        raise FormatError(
            "the checkpoint has changed while it was read",
            facts=changed,
            hint="wait until it is written, and try again",
        )
