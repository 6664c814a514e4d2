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


def printable(text: str, keep: str = "") -> str:
    r"""Text that moves no cursor, rings no bell and turns no line around: what is not printable is spelled out.

    `keep` are characters that stay: line ends, say, of a text of several lines.

    >>> printable("a\x1b[31m\n"), printable("größe …\n", keep="\n")
    ('a\\x1b[31m\\n', 'größe …\n')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def raw_literal(text: str) -> str:
    r"""Python's raw string of a text; where that would hold what is not printable, or end early, an escaped one.

    >>> raw_literal("^a\."), raw_literal("a\x1b[31m")
    ('r"^a\\."', "'a\\x1b[31m'")
    """
    return f'r"{text}"' if text.isprintable() and '"' not in text and not text.endswith("\\") else repr(text)


def brief(value: object) -> str:
    """A parsed value as it was written, without the inner parts of long and deep ones.

    >>> brief(list(range(100)))
    '[0, 1, 2, 3, 4, 5, ...]'
    """
    return reprlib.repr(value)
