"""The grammar of keys: segments between dots, indices, natural order."""

from __future__ import annotations

import re
from functools import lru_cache

MAX_SEGMENTS = 10_000
LONGEST_NUMBER = 18  # digits; a longer run numbers nothing and is text
_INDEX = re.compile(rf"0|[1-9][0-9]{{0,{LONGEST_NUMBER - 1}}}", re.ASCII)
_DIGITS = re.compile(r"([0-9]+)", re.ASCII)


def split_key(key: str) -> tuple[str, ...]:
    """The segments of a key.

    >>> split_key("layers.3.weight")
    ('layers', '3', 'weight')
    """
    return tuple(key.split("."))


def is_index(segment: str) -> bool:
    """Whether a segment is one decimal index: ASCII digits without leading zeros.

    >>> is_index("0"), is_index("12"), is_index("03"), is_index("linear_2")
    (True, True, False, False)
    """
    return _INDEX.fullmatch(segment) is not None


@lru_cache(maxsize=65536)
def _natural_segment(segment: str) -> tuple[tuple[int, int, str], ...]:
    parts = _DIGITS.split(segment)
    # a name of digits only sorts before any word, as numbers do before text
    return tuple((0, number_of(p), p) if p.isdigit() and p.isascii() else (1, 0, p) for p in parts if p)


def number_of(digits: str) -> int:
    """The number that digits spell; of a run too long to number anything, one that sorts it by its length."""
    return int(digits) if len(digits) <= LONGEST_NUMBER else 10**LONGEST_NUMBER + len(digits)


def natural_key(key: str) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """Sort key of natural order: `layers.2` before `layers.10`.

    >>> sorted(["layers.10.w", "layers.2.w"], key=natural_key)
    ['layers.2.w', 'layers.10.w']
    """
    return tuple(map(_natural_segment, key.split(".")))
