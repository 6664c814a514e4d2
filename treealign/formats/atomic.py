"""Files that appear whole or not at all, one or several at once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from treealign.errors import FormatError


class Staging:
    """Files written beside their destinations, which take their names together at the end.

    A destination is renamed over, so that a reader sees the old contents or the new, and a symbolic link is replaced
    rather than written through (the hub's cache is made of links to shared files). Modes are what the umask gives.
    """

    def __init__(self) -> None:
        self._staged: list[tuple[Path, Path]] = []

    @contextmanager
    def open(self, path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
        """A file to write into, flushed to the disk on leaving."""
        target = Path(path)
        temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
        # not tempfile: it would leave the file readable by its owner only
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        self._staged.append((temporary, target))
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Give all files their names, in the order in which they were opened."""
        while self._staged:
            temporary, target = self._staged[0]
            temporary.replace(target)
            del self._staged[0]
            sync_folder(target.parent)

    def discard(self) -> None:
        """Remove what has not got its name."""
        for temporary, _ in self._staged:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def staging(where: str | os.PathLike[str]) -> Iterator[Staging]:
    """Write several files: all of them take their names on leaving, none if anything is raised.

    Raises
    ------
    FormatError
        If the system refuses to write; `where` names the place.
    """
    stage = Staging()
    try:
        yield stage
        stage.commit()
    except OSError as error:
        reason = error.strerror or str(error)
        raise FormatError(f"cannot write: {reason}", where=str(error.filename or os.fspath(where))) from error
    finally:
        stage.discard()


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """One file to write into, which takes its name on leaving; raises as `staging` does."""
    with staging(path) as stage, stage.open(path) as file:
        yield file


def sync_folder(folder: Path) -> None:
    """Make the new name itself survive a crash, where the system lets a folder be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
