"""A stream of bytes of a known length that only remembers where it stands."""

from __future__ import annotations

import io


class PositionedStream(io.RawIOBase):
    """Seekable and readable; what is read, and from where, is up to those derived from it.

    Parameters
    ----------
    length : int
        Its bytes.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length, self._position = length, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, without reading anything."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = max(0, start + offset)
        return self._position
