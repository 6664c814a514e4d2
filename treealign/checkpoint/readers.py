"""What is open while tensors are read."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

from treealign.errors import FormatError
from treealign.formats.stamps import Stamp, stamp_of

T = TypeVar("T")


class Reader:
    """What is open while tensors are read: each source once, all closed at the end."""

    def __init__(self, stamps: Mapping[str, Stamp] | None = None) -> None:
        self._stamps = stamps or {}
        self._open: dict[object, Any] = {}
        self._stack = ExitStack()

    def keep(self, what: object, made: object) -> None:
        """Take what is there already for what is asked for later."""
        self._open[what] = made

    def once(self, what: object, make: Callable[[], T]) -> T:
        """What `make` gave the first time this was asked for."""
        if what not in self._open:
            self._open[what] = make()
        found: T = self._open[what]
        return found

    def file(self, path: str) -> BufferedReader:
        """A file, open for reading.

        Raises
        ------
        FormatError
            It cannot be read, or is another one than the one whose stamp is known.
        """
        return self.once(("file", path), lambda: self._opened(path))

    def descriptor(self, path: str) -> int:
        """The descriptor of a file, open for reading."""
        return self.file(path).fileno()

    def mapped(self, path: str) -> mmap.mmap:
        """The bytes of a file, mapped into memory that is written to by copies."""
        return self.once(("mapped", path), lambda: self._mapped(path))

    def _opened(self, path: str) -> BufferedReader:
        try:
            file = self._stack.enter_context(Path(path).open("rb"))  # noqa: SIM115  closed with the stack
        except OSError as error:
            raise FormatError(f"cannot read the file: {error.strerror}", where=path) from error
        self.check(path, file.fileno())
        return file

    def _mapped(self, path: str) -> mmap.mmap:
        descriptor = self.descriptor(path)
        # opened a while ago: the file of that time, whatever has its name now
        self.check(path, descriptor)
        try:
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            raise FormatError(f"cannot map the file into memory: {error}", where=path) from error

    def check(self, path: str, descriptor: int | None = None) -> None:
        """Refuse a file, open or not, that is not the one whose stamp is known.

        Raises
        ------
        FormatError
            Naming it.
        """
        if path in self._stamps and not self._stamps[path].fits(stamp_of(path if descriptor is None else descriptor)):
            raise FormatError("the file has changed since its header was read", where=path)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.clear()
        self._stack.close()
