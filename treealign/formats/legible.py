"""Keys and values in messages: a file may hold anything, line ends, terminal codes and megabytes included."""

from __future__ import annotations

import reprlib

_LONGEST = 200


def legible(key: str) -> str:
    r"""A key as one printable piece of a line, cut in the middle where it is very long.

    >>> legible("model.größe"), legible(""), legible("a\n\x1b[31m")
    ('model.größe', "''", "'a\\n\\x1b[31m'")
    """
    if len(key) > _LONGEST:
        key = f"{key[: _LONGEST // 2]}…{key[-_LONGEST // 2 :]}"
    return key if key.isprintable() and key else repr(key)


def brief(value: object) -> str:
    """A parsed value as it was written, without the inner parts of long and deep ones.

    >>> brief(list(range(100)))
    '[0, 1, 2, 3, 4, 5, ...]'
    """
    return reprlib.repr(value)
