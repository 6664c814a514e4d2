"""Sublayers: a member of a list that holds one function and its norm, as T5 writes its blocks.

The norm of such a member bears no name of its own, `layer.1.layer_norm`; other libraries call it after the function,
`cross_attn_norm`. It is read as if it stood inside the function that it belongs to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from treealign.align.patterns import Pattern
from treealign.align.words import split_words

Path = tuple[str, ...]


def with_functions(patterns: Sequence[Pattern]) -> list[Path]:
    """The paths to read names from: those of the patterns, a sublayer's norm below the one function beside it.

    Linear in the number of patterns.
    """
    inside: dict[Path, set[str]] = defaultdict(set)
    for p in patterns:
        for at, segment in enumerate(p.segments[:-1]):
            if _is_index(segment):
                inside[p.segments[: at + 1]].add(p.segments[at + 1])
    return [_below_function(p.segments, inside.get(p.segments[:-2], set())) for p in patterns]


def _below_function(segments: Path, beside: set[str]) -> Path:
    if len(segments) < 3 or len(beside) != 2 or segments[-2] not in beside or not _is_nameless(segments[-2]):
        return segments
    (function,) = beside - {segments[-2]} or ("",)
    if _is_index(function) or "norm" in split_words(function):
        return segments
    return (*segments[:-2], function, *segments[-2:])


def _is_nameless(segment: str) -> bool:
    """Whether it says that it is a norm, and nothing else."""
    words = split_words(segment)
    return "norm" in words and set(words) <= {"norm", "layer"}


def _is_index(segment: str) -> bool:
    return segment == "{}" or segment.isdecimal()
