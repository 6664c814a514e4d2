"""Locks on folders: one writer at a time, across threads, processes and, where the file system knows locks, machines.

The system gives a lock back when the process that holds it ends, however it ends: a dead owner blocks nobody.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from treealign.errors import FormatError
from treealign.formats.forking import in_forked_children

PATIENCE = 10.0  # seconds that a writer waits for another one
_PAUSE = 0.02
_UNLOCKABLE = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)
# what this process holds: a forked child gives its copies up, or it would hold the locks when its parent is dead
_held: set[int] = set()


class State(Enum):
    """What came of asking for a lock; `UNKNOWN` where the system has none, or does not let the folder be opened.

    `ABSENT` where there is no such folder, or no longer: nothing is locked, and nobody may act as if it were.
    """

    HELD = "held"
    BUSY = "busy"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Lock:
    """A lock on a folder, or what came of asking for it; see `State`."""

    def __init__(self, folder: Path, *, alone: bool) -> None:
        self.folder, self.alone, self.state = folder, alone, State.UNKNOWN
        self._descriptor = -1

    def take(self, patience: float = 0.0) -> State:
        """Ask for the lock, again and again for some seconds."""
        try:
            self._descriptor = os.open(self.folder, os.O_RDONLY)
        except PermissionError:
            return self.state
        except (FileNotFoundError, NotADirectoryError):
            self.state = State.ABSENT
            return self.state
        _held.add(self._descriptor)
        end = time.monotonic() + patience
        self.state = _ask(self._descriptor, alone=self.alone)
        while self.state is State.BUSY and time.monotonic() < end:
            self.ask_again()
        return self.state

    def ask_again(self) -> State:
        """Ask once more for a lock that was busy, a moment later."""
        time.sleep(_PAUSE)
        self.state = _ask(self._descriptor, alone=self.alone)
        return self.state

    @property
    def stands(self) -> bool:
        """Whether the folder that is locked still has its name."""
        if self.state is State.ABSENT:
            return False
        try:
            found = self.folder.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return self._descriptor < 0 or found.st_ino == os.fstat(self._descriptor).st_ino

    def give_back(self) -> None:
        """Let the next one have it; does nothing in a forked child, which holds no lock."""
        if self._descriptor in _held:
            _held.discard(self._descriptor)
            if self.state is State.HELD:
                # a child that was forked this moment has not yet closed its copy
                _release(self._descriptor)
            os.close(self._descriptor)


@contextmanager
def locked(folder: Path, *, alone: bool, patience: float | None = None) -> Iterator[Lock]:
    """Hold the lock of a folder: alone, to change what is in it, or with others, to read it.

    Parameters
    ----------
    folder : Path
        A folder. Where the system has no locks, or does not let it be opened, nothing is held.
    alone : bool
        Whether nobody else may hold it.
    patience : float, optional
        Seconds to wait for another run; by default `PATIENCE`.

    Raises
    ------
    FormatError
        Another run holds it.
    """
    lock = Lock(folder, alone=alone)
    try:
        if lock.take(PATIENCE if patience is None else patience) is State.BUSY:
            raise FormatError(
                "another run of treealign is at work here", where=str(folder), hint="wait until it has ended"
            )
        yield lock
    finally:
        lock.give_back()


def _ask(descriptor: int, *, alone: bool) -> State:
    try:
        import fcntl
    except ImportError:
        return State.UNKNOWN
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return State.BUSY
    except OSError as error:
        if error.errno not in _UNLOCKABLE:
            raise
        return State.UNKNOWN
    return State.HELD


def _release(descriptor: int) -> None:
    import fcntl

    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _give_up() -> None:
    while _held:
        os.close(_held.pop())


in_forked_children(_give_up)
