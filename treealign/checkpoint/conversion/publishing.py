"""Where a conversion writes until it is complete, and how everything gets its name then.

The files are written into a hidden folder beside the destination (in it, where it is there already). That folder is the
lock too: whoever holds it is the one run that writes to this destination, and what it finds there was left by a run
that was killed. A destination that is not there yet appears by one renaming.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from treealign.checkpoint.conversion.writing import refusals
from treealign.checkpoint.replacing import end_interrupted, replace_with
from treealign.errors import FormatError
from treealign.formats.atomic import sync_folder

SUFFIX = ".treealign-partial"
_UNLOCKABLE = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


@contextmanager
def staged(destination: Path, *, single: bool, mode: int = 0o777) -> Iterator[Path]:
    """The folder to write into; it is gone at the end, whatever happens, unless the process is killed.

    Parameters
    ----------
    destination : Path
        What is to be there in the end.
    single : bool
        Whether that is a file rather than a folder.
    mode : int
        Permissions of the folder, before the umask.

    Raises
    ------
    FormatError
        Another run is writing to the destination, or the system refuses to write.
    """
    inside = not single and destination.is_dir()
    folder = destination / SUFFIX if inside else destination.with_name(f".{destination.name}{SUFFIX}")
    with refusals(destination):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _made(folder, mode) as stands:
            try:
                if inside:
                    end_interrupted(destination, folder)
                _empty(folder)
                yield folder
            finally:
                if stands():
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _made(folder: Path, mode: int) -> Iterator[Callable[[], bool]]:
    """Make the folder and hold its lock."""
    while True:
        folder.mkdir(mode=mode | 0o700, exist_ok=True)
        with locked(folder, alone=True) as stands:
            # whoever held the lock before may have given the folder its final name, or removed it
            if stands():
                yield stands
                return


@contextmanager
def locked(folder: Path, *, alone: bool) -> Iterator[Callable[[], bool]]:
    """Hold the lock of a folder: alone, to change what is in it, or with others, to read it.

    Gives a question: whether the folder that is locked still has its name.

    Raises
    ------
    FormatError
        Another run holds it.
    """
    descriptor = _descriptor(folder)
    try:
        if descriptor is not None and not _lock(descriptor, alone=alone):
            raise FormatError(
                "another run of treealign is at work here", where=str(folder), hint="wait until it has ended"
            )
        yield lambda: _has_name(folder, descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _has_name(folder: Path, descriptor: int | None) -> bool:
    try:
        return folder.is_dir() if descriptor is None else folder.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _descriptor(folder: Path) -> int | None:
    """The folder, open; None where the system does not open folders, or it is gone."""
    try:
        return os.open(folder, os.O_RDONLY)
    except (PermissionError, FileNotFoundError):
        return None


def _lock(descriptor: int, *, alone: bool) -> bool:
    """Whether the lock was free. Where the file system knows no locks, there is nothing to hold."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNLOCKABLE:
            raise
    return True


def _empty(folder: Path) -> None:
    """Remove what a run that was killed has left."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def publish(stage: Path, destination: Path, names: Sequence[str], *, single: bool) -> None:
    """Give what was written its name.

    Parameters
    ----------
    stage : Path
        Where it is.
    destination : Path
        A folder, or a file.
    names : sequence of str
        The files, in the order in which they are to appear where they cannot appear at once; of a single file, its own
        is the last.
    single : bool
        Whether the destination is a file.

    Raises
    ------
    FormatError
        The system refuses; the destination is as it was.
    """
    with refusals(destination):
        if single:
            for name in names:
                (stage / name).replace(destination.parent / name)
                sync_folder(destination.parent)
        elif destination.is_dir():
            replace_with(destination, stage, names)
        else:
            _sync_all(stage)
            stage.rename(destination)
            sync_folder(destination.parent)


def _sync_all(folder: Path) -> None:
    for inner in (path for path in folder.rglob("*") if path.is_dir()):
        sync_folder(inner)
    sync_folder(folder)
