"""Put a new spelling into the source of a literal or a chain, without touching anything else of it."""

from __future__ import annotations

import re
from itertools import takewhile

_HOLE = "{}"


def respelled(source: str, old: str, new: str, reader: str) -> str | None:
    """The source with `old` respelled as `new`; None where it does not stand there exactly once, as it is read.

    >>> respelled("f'tower.level.layers.{i}'", "tower.level.layers.{}", "tower.layers.{}", "exact")
    "f'tower.layers.{i}'"
    >>> respelled("model.tower.level.layers[0].mlp", "tower.level.layers.0.mlp", "tower.layers.0.mlp", "chain")
    'model.tower.layers[0].mlp'
    """
    if reader == "chain":
        return _chain(source, old.split("."), new.split("."))
    for written in (str, _escaped):
        text = _once(source, written(old), written(new))
        if text is not None:
            return text
    return _between_holes(source, old, new)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\")


def _once(source: str, old: str, new: str) -> str | None:
    return source.replace(old, new) if source.count(old) == 1 else None


def _between_holes(source: str, old: str, new: str) -> str | None:
    """Of an f-string or format: the texts between what is put in, each in its place."""
    pieces = list(zip(old.split(_HOLE), new.split(_HOLE), strict=False))
    if old.count(_HOLE) != new.count(_HOLE) or not old.count(_HOLE):
        return None
    for before, after in pieces:
        if before != after:
            text = _once(source, before, after)
            if text is None:
                return None
            source = text
    return source


def _chain(source: str, old: list[str], new: list[str]) -> str | None:
    """The segments that changed, together with the one before, or with the one behind at the start of a chain."""
    head = _common(old, new)
    tail = min(_common(old[::-1], new[::-1]), len(old) - head, len(new) - head)
    start = max(0, head - 1)
    stop = tail if head else max(0, tail - 1)
    mine, other = old[start : len(old) - stop], new[start : len(new) - stop]
    if not other or any(segment.isdigit() or segment == _HOLE for segment in mine + other):
        return None
    pattern = re.compile(r"(?<!\w)" + r"\s*\.\s*".join(map(re.escape, mine)) + r"(?!\w)")
    replaced, count = pattern.subn(".".join(other), source)
    return replaced if count == 1 else None


def _common(one: list[str], other: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
