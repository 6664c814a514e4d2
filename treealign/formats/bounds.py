"""Bounds on what is read from files that anybody may have written: beyond them a file is refused at once.

They are several times what the largest published models need (94,000 tensors in 200 shards, a few thousand names that
differ by more than their indices), and small enough that all within them is read in seconds.
"""

from __future__ import annotations

from treealign.errors import FormatError

MAX_KEYS = 200_000
MAX_SHARDS = 20_000
MAX_TEMPLATES = 50_000
MAX_METADATA = 100_000
MAX_VALUES = 4_000_000  # of a JSON text
MAX_TEXT = 1 << 27  # bytes of it
MAX_PICKLE = 1 << 29  # bytes of one that describes a distributed checkpoint: 163 MB for 1,138 tensors on 1,024 ranks
MAX_HEADER = 1 << 28  # bytes of a header that is read number by number
MAX_ENTRIES = 100_000  # of an archive: torch reads no more of them in seconds
MAX_INFLATED = 1 << 26  # bytes beyond its own size that an archive may unpack to


def refuse_more(count: int, most: int, what: str, where: str, done: str = "read") -> None:
    """Refuse what holds more of something than is read, or than is done with it otherwise.

    Raises
    ------
    FormatError
        Saying how many there are, and how many are taken.
    """
    if count > most:
        hint = "if this is a real checkpoint, split it: no published one comes near this"
        raise FormatError(f"{count:,} {what}, of which at most {most:,} are {done}", where=where, hint=hint)
