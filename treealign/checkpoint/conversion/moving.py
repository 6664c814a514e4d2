"""Bytes from file to file by the fastest way that the system offers."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, TypeAlias

from treealign.checkpoint.conversion.tasks import Span
from treealign.errors import FormatError

BLOCK = 4096
CHUNK = 1 << 26
# what a system call answers that cannot do this here, while another way can
_CANNOT = (
    *(errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EBADF),
    *(errno.ETXTBSY, errno.EOVERFLOW),
)

# (from, to, begin, at, size) -> bytes moved; none at the end of the file
Way: TypeAlias = Callable[[int, int, int, int, int], int]
Advance: TypeAlias = Callable[[int], Any]


def by_copy_file_range(source: int, target: int, begin: int, at: int, size: int) -> int:
    """Within the kernel; file systems that share data between files then share it (reflinks)."""
    return os.copy_file_range(source, target, size, begin, at)


def by_sendfile(source: int, target: int, begin: int, at: int, size: int) -> int:
    """Within the kernel, from page to page."""
    os.lseek(target, at, os.SEEK_SET)
    return os.sendfile(target, source, begin, size)


def by_reading(source: int, target: int, begin: int, at: int, size: int) -> int:
    """Through memory of ours."""
    # a piece that stays in the cache of the processor between reading and writing
    piece = os.pread(source, min(size, 1 << 20), begin)
    write_at(target, piece, at)
    return len(piece)


def ways() -> list[Way]:
    """What the system has, fastest first."""
    found: list[Way] = [by_copy_file_range] if hasattr(os, "copy_file_range") else []
    return [*found, by_sendfile, by_reading] if hasattr(os, "sendfile") else [*found, by_reading]


class Mover:
    """Moves spans into one file; a way that does not work here is not tried again."""

    def __init__(self, target: int, advance: Advance = lambda _: None) -> None:
        self.target, self.advance, self.ways = target, advance, ways()

    def move(self, source: int, span: Span) -> None:
        """Move one span.

        Raises
        ------
        OSError
            The system refuses to read or write.
        FormatError
            The source ends before the span does.
        """
        done = 0
        while done < span.size:
            begin, at = span.begin + done, span.at + done
            done += self._some(source, begin, at, self._length(begin, at, span.size - done), span)

    @staticmethod
    def _length(begin: int, at: int, left: int) -> int:
        """How much to move at once: whole blocks where source and target allow it, for those can be shared."""
        if begin % BLOCK and begin % BLOCK == at % BLOCK:
            return min(left, BLOCK - begin % BLOCK)
        return min(left, CHUNK)

    def _some(self, source: int, begin: int, at: int, size: int, span: Span) -> int:
        try:
            count = self.ways[0](source, self.target, begin, at, size)
        except OSError as error:
            if error.errno not in _CANNOT or len(self.ways) == 1:
                raise
            count = 0
        if count:
            self.advance(count)
        elif len(self.ways) > 1:
            self.ways.pop(0)
        else:
            raise FormatError("the file is shorter than it was", where=span.path)
        return count


def write_at(descriptor: int, data: Any, at: int) -> None:
    """Write all of a buffer at a place of a file."""
    view = memoryview(data)
    done = 0
    while done < view.nbytes:
        done += os.pwrite(descriptor, view[done : done + CHUNK], at + done)
