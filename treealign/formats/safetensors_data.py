"""The bytes of tensors in a safetensors file, mapped into memory rather than read."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from types import TracebackType

from treealign.errors import FormatError
from treealign.formats.safetensors_header import Header, TensorEntry


class TensorFile:
    """A safetensors file open for reading.

    Memory that it hands out stays valid after it is closed: the mapping is let go with the last of its views.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        with Path(header.path).open("rb") as file:
            if os.fstat(file.fileno()).st_size != header.size:
                raise FormatError("the file has changed since its header was read", where=header.path)
            self._memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def read_bytes(self, entry: TensorEntry | str) -> memoryview:
        """The bytes of a tensor: read-only, not copied. Raises `KeyError` for a key that the file does not have."""
        found = self.header.entries[entry] if isinstance(entry, str) else entry
        start = self.header.data_start
        return self._memory[start + found.begin : start + found.end]

    def close(self) -> None:
        """Hand out no more."""
        self._memory.release()

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_tensors(header: Header) -> TensorFile:
    """Map the file of `header` into memory.

    Raises
    ------
    FormatError
        If the file cannot be opened, or is no longer the one whose header was read.
    """
    try:
        return TensorFile(header)
    except OSError as error:
        raise FormatError(f"cannot read the file: {error.strerror}", where=header.path) from error
