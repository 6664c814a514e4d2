"""A file on another machine, read in ranges: what is not asked for stays there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from treealign.errors import FormatError
from treealign.formats.positioned import PositionedStream

BLOCK = 1 << 17  # nearly all headers fit, and so does the directory of a torch file
MAX_WHOLE = 1 << 28  # an index of ten million keys; weights that pass for JSON are longer
_KEPT = 4  # blocks: the two ends of a file and what lies between
_WAITS = (0.3, 1.0)  # seconds before another attempt


class AbsentError(FormatError):
    """There is no such file."""


class BrokenOffError(Exception):
    """A transfer that may well succeed when it is tried again."""


@dataclass(frozen=True)
class RemoteFolder:
    """Where the files of a checkpoint are.

    Attributes
    ----------
    url : str
        The folder, without a slash at its end.
    file : str
        Plain name of the file in it that is asked for; empty where the folder itself is.
    names : callable
        Gives the plain names of the files that stand in the folder.
    open : callable
        Opens one of them by its plain name; raises `AbsentError` if it is not there.
    """

    url: str
    file: str
    names: Callable[[], list[str]]
    open: Callable[[str], RangedFile]


class RangedFile(PositionedStream):
    """A seekable file over a function that fetches ranges.

    Parameters
    ----------
    url : str
        Stands for the file in messages.
    size : int
        Its bytes.
    fetch : callable
        Takes start and stop, gives the bytes between; raises `BrokenOffError` where another attempt makes sense.
    """

    def __init__(self, url: str, size: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__(size)
        self.url, self.size = url, size
        self._fetch_once = fetch
        self._blocks: list[tuple[int, bytes]] = []

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed asks for a Buffer
        """Fill the buffer as far as the file goes."""
        got = self.read(len(buffer))
        buffer[: len(got)] = got
        return len(got)

    def read(self, size: int | None = -1) -> bytes:
        """The next `size` bytes, or all that are left.

        Raises
        ------
        FormatError
            If they cannot be fetched, or if all that are left are more than any index has.
        """
        left = max(0, self.size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > MAX_WHOLE:
            raise FormatError(f"{wanted} bytes are too many to fetch for names and shapes", where=self.url)
        got = self._between(self._position, self._position + wanted)
        self._position += len(got)
        return got

    def readall(self) -> bytes:
        """All that are left."""
        return self.read()

    def _between(self, start: int, stop: int) -> bytes:
        if start >= stop:
            return b""
        begin, held = next((b for b in self._blocks if b[0] <= start < b[0] + len(b[1])), (start, b""))
        end = begin + len(held)
        if stop > end:
            until = stop if held else min(self.size, max(stop, start + BLOCK))
            self._blocks = [b for b in self._blocks if b[0] != begin][-_KEPT + 1 :]
            held += self._fetch(end, until)
            self._blocks.append((begin, held))
        return held[start - begin : stop - begin]

    def _fetch(self, start: int, stop: int) -> bytes:
        reason = ""
        for wait in (0.0, *_WAITS):
            time.sleep(wait)
            try:
                got = self._fetch_once(start, stop)
            except BrokenOffError as error:
                reason = str(error)
                continue
            if len(got) == stop - start:
                return got
            reason = f"{len(got)} of {stop - start} bytes from {start} on"
        raise FormatError("the file cannot be fetched", where=self.url, facts=[reason], hint="try again later")
