"""Bytes from file to file by the fastest way that the system offers."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeAlias

from treealign.checkpoint.conversion.tasks import Span
from treealign.errors import FormatError
from treealign.formats.flushing import write_at

BLOCK = 4096
CHUNK = 1 << 26
SHARE = 1 << 30
_FICLONERANGE = 0x4020940D  # Linux's request, of a struct file_clone_range
PIECE = 1 << 20
TRIAL = 1 << 23
# what a system call answers that cannot do this here, while another way can
_CANNOT = (
    *(errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EBADF),
    *(errno.ETXTBSY, errno.EOVERFLOW),
    # the kernel does not say which of the two files is at fault: reading and writing by ourselves does
    errno.EIO,
)


class UnreadableError(Exception):
    """The source cannot be read, for a reason that the system gives."""


# (from, to, begin, at, size) -> bytes moved; none at the end of the file
Way: TypeAlias = Callable[[int, int, int, int, int], int]
Advance: TypeAlias = Callable[[int], Any]


def share(source: int, target: int, begin: int, at: int, size: int) -> None:
    """Let two files hold the same blocks of the disk, whole ones: a reflink.

    Raises
    ------
    OSError
        The file system cannot do that here.
    """
    try:
        from fcntl import ioctl
    except ImportError as error:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    ioctl(target, _FICLONERANGE, struct.pack("=qQQQ", source, begin, size, at))


def by_copy_file_range(source: int, target: int, begin: int, at: int, size: int) -> int:
    """Within the kernel; file systems that share data between files then share it (reflinks)."""
    return os.copy_file_range(source, target, size, begin, at)


def by_sendfile(source: int, target: int, begin: int, at: int, size: int) -> int:
    """Within the kernel, from page to page."""
    os.lseek(target, at, os.SEEK_SET)
    return os.sendfile(target, source, begin, size)


def by_reading(source: int, target: int, begin: int, at: int, size: int) -> int:
    """Through memory of ours, in pieces that stay in the cache of the processor between reading and writing."""
    memory = memoryview(bytearray(min(size, PIECE)))
    done = 0
    while done < size:
        try:
            count = os.preadv(source, [memory[: size - done]], begin + done)
        except OSError as error:
            raise UnreadableError(error.strerror) from error
        if not count:
            break
        write_at(target, memory[:count], at + done)
        done += count
    return done


def ways() -> list[Way]:
    """What the system has; first what may share data instead of copying them."""
    found: list[Way] = [by_copy_file_range] if hasattr(os, "copy_file_range") else []
    return [*found, by_sendfile, by_reading] if hasattr(os, "sendfile") else [*found, by_reading]


class Mover:
    """Moves spans into one file.

    Whole blocks are shared where the file system can do that: nothing is written then. What is to be copied is tried
    each way on a few megabytes, and the fastest moves the rest: where a server copies, nothing beats the kernel;
    elsewhere, memory of ours often does. A way that does not work here is not tried again.
    """

    def __init__(self, target: int, advance: Advance = lambda _: None) -> None:
        self.target, self.advance, self.ways = target, advance, ways()
        self._slowness: dict[Way, float] = {}
        self._shares = True

    def move(self, source: int, span: Span) -> None:
        """Move one span.

        Raises
        ------
        OSError
            The system refuses to write.
        FormatError
            The system refuses to read, or the source ends before the span does.
        """
        done = 0
        while done < span.size:
            begin, at = span.begin + done, span.at + done
            shared = self._shared(source, begin, at, span.size - done)
            done += shared or self._some(source, begin, at, self._length(begin, at, span.size - done), span)

    def _shared(self, source: int, begin: int, at: int, left: int) -> int:
        """Share what can be shared from here on; the bytes that are."""
        size = min(left, SHARE) // BLOCK * BLOCK
        if not self._shares or not size or begin % BLOCK or at % BLOCK:
            return 0
        try:
            share(source, self.target, begin, at, size)
        except OSError as error:
            if error.errno not in (*_CANNOT, errno.ENOTTY):
                raise
            self._shares = False
            return 0
        self.advance(size)
        return size

    @staticmethod
    def _length(begin: int, at: int, left: int) -> int:
        """How much to move at once: whole blocks where source and target allow it, for those can be shared."""
        if begin % BLOCK and begin % BLOCK == at % BLOCK:
            return min(left, BLOCK - begin % BLOCK)
        return min(left, CHUNK)

    def _way(self, size: int) -> Way:
        """The way to move so much: for little the fastest so far, for more also one that was not tried yet."""
        untried = [way for way in self.ways if way not in self._slowness]
        if untried and (size >= PIECE or len(untried) == len(self.ways)):
            return untried[0]
        return min((way for way in self.ways if way in self._slowness), key=self._slowness.__getitem__)

    def _some(self, source: int, begin: int, at: int, size: int, span: Span) -> int:
        way = self._way(size)
        size = size if way in self._slowness else min(size, TRIAL)
        start = perf_counter()
        try:
            count = way(source, self.target, begin, at, size)
        except OSError as error:
            if error.errno not in _CANNOT or len(self.ways) == 1:
                raise
            count = 0
        except UnreadableError as error:
            raise FormatError(f"cannot read the file: {error}", where=span.path) from error
        if count:
            self.advance(count)
            if count >= PIECE:
                self._slowness.setdefault(way, (perf_counter() - start) / count)
        elif len(self.ways) > 1:
            self.ways.remove(way)
        else:
            raise FormatError("the file is shorter than it was", where=span.path)
        return count
