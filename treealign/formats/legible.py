"""Keys in messages: a file may hold any text as a key, line ends and terminal codes included."""

from __future__ import annotations


def legible(key: str) -> str:
    r"""A key as one printable piece of a line.

    >>> legible("model.größe"), legible(""), legible("a\n\x1b[31m")
    ('model.größe', "''", "'a\\n\\x1b[31m'")
    """
    return key if key.isprintable() and key else repr(key)
