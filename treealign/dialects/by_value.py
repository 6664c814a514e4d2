"""Captures written out value by value, for loaders that can carry an index over but not subtract from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from treealign.mapping.transforms import Rename
from treealign.tree.patterns import Capture, Choice, KeyPattern
from treealign.tree.segments import LARGEST

MOST_VALUES = 512

Values = Mapping[str, str]  # name of a capture to what it holds, before it is shifted


def held_values(rename: Rename, sides: tuple[KeyPattern, KeyPattern], names: Iterable[str]) -> list[list[Values]]:
    """Ways to write one pair of a renaming out: for each, what its captures hold in one rule after the other.

    First the captures that are shifted are written out, then also those with a range or a choice. A rule comes before
    those that make what it matches, so that none takes up what another made.

    Parameters
    ----------
    rename : Rename
        The renaming.
    sides : tuple of KeyPattern
        The pair: its source and its target.
    names : iterable of str
        The keys that it works on, for an index that is shifted without end. Where none are given there is no such way.
    """
    source, target = sides
    moved = {name: by for name in source.captures if (by := shift_of(target, name) - shift_of(source, name))}
    limited = [name for name in source.captures if name not in moved and _listed(source.captures[name]) is not None]
    seen = _seen(rename, names) if any(_listed(source.captures[name]) is None for name in moved) else {}
    ways: list[list[Values]] = []
    for held in dict.fromkeys([(*moved,), (*moved, *limited)]):
        columns = [
            _in_turn(
                [v for v in _listed(source.captures[name]) or seen.get(name, ()) if _stands(sides, name, v)],
                moved.get(name, 0),
            )
            for name in held
        ]
        ways.append([dict(zip(held, row, strict=True)) for row in product(*columns)] if _are_few(columns) else [])
    return [way for way in ways if any(way)]


def shift_of(pattern: KeyPattern, name: str) -> int:
    """By how much a pattern shifts an index."""
    capture = pattern.captures[name]
    return capture.shift if isinstance(capture, Capture) else 0


def filled_parts(parts: Iterable[str | Capture | Choice], values: Values) -> tuple[str | Capture | Choice, ...]:
    """Parts of a segment with text in place of some captures."""
    return tuple(part if isinstance(part, str) else _filled(part, values.get(part.name)) for part in parts)


def _filled(part: Capture | Choice, value: str | None) -> str | Capture | Choice:
    if value is None:
        return part
    return str(int(value) + part.shift) if isinstance(part, Capture) else value


def _stands(sides: Iterable[KeyPattern], name: str, value: str) -> bool:
    """Whether it is no index below 0, which matches nothing."""
    return not value.isdigit() or all(int(value) + shift_of(s, name) >= 0 for s in sides)


def _listed(capture: Capture | Choice) -> tuple[str, ...] | None:
    """What a capture may hold; None where that has no end."""
    if isinstance(capture, Choice):
        return capture.options
    if capture.high is None or capture.high >= LARGEST or capture.high - capture.low >= MOST_VALUES:
        return None
    return tuple(map(str, range(capture.low, capture.high + 1)))


def _seen(rename: Rename, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What the captures hold in the keys that are renamed."""
    found: dict[str, dict[str, None]] = {}
    for name in names:
        rewritten = rename.rewrite(tuple(name.split(".")))
        for capture, value in rewritten.captures.items() if rewritten else ():
            found.setdefault(capture, {})[str(value)] = None
    return {capture: tuple(values) for capture, values in found.items()}


def _in_turn(values: Sequence[str], by: int) -> list[str]:
    return sorted(values, key=int, reverse=by > 0) if by else list(values)


def _are_few(columns: Sequence[Sequence[str]]) -> bool:
    count = 1
    for column in columns:
        count *= len(column)
    return 0 < count <= MOST_VALUES
