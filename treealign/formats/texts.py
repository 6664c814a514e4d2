"""Texts beside weights, which anybody may have written: JSON, and the pickles that describe distributed checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

from treealign.errors import FormatError
from treealign.formats.bounds import MAX_TEXT, MAX_VALUES, refuse_more


def read_bounded(path: str | os.PathLike[str], most: int = MAX_TEXT, kind: str = "text") -> bytes:
    """The bytes of a file that is read and parsed as a whole; the values of a text are counted.

    Raises
    ------
    FormatError
        It has more than `most` bytes, or more values than are parsed in seconds.
    OSError
        The system refuses.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            what = f"a {kind} of {size:,} bytes, of which at most {most:,} are read"
            raise FormatError(what, where=os.fspath(path), hint=f"is it a {kind} at all?")
        raw = file.read(most)
    if kind == "text":
        refuse_more(raw.count(b","), MAX_VALUES, "values", os.fspath(path))
    return raw
