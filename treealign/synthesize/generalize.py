"""Patterns for several segments at once: the least that matches them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import lru_cache

from treealign.synthesize.rules import Run
from treealign.synthesize.templates import Values
from treealign.tree.grammar import Choice, SegmentPattern, is_literal
from treealign.tree.keys import is_index, natural_key
from treealign.tree.segments import Capture, Leaves, Name, Pieces, Segment, Slot, cut

MOST_CHOICES = 60


def general(
    segments: Sequence[Segment], name: str, values: Sequence[Values] | None = None, listed: bool = False
) -> SegmentPattern | None:
    """A pattern for all of these segments, or None where none says it shortly.

    `name` begins the names of the captures. With `values`, those of each segment's template, captures carry the range
    of what they hold, or, if that has gaps and they shall be `listed`, are choices of it.
    """
    given = {word for s in segments for word in (s if isinstance(s, Leaves) else (s,))}
    if len(given) == 1 and isinstance(word := next(iter(given)), str) and len(cut(word)) == 1:
        return pattern((word,))
    if len(given) > 1 and all(isinstance(s, str) and is_index(s) for s in given):
        held = [int(s) for s in given if isinstance(s, str)]
        return SegmentPattern((_capture(name, held if values else None, listed),))
    if len({(cut(s) if isinstance(s, str) else s)[::2] for s in given}) == 1:
        return _counted(segments if values else tuple(given), name, values, listed)
    texts = [s for s in given if isinstance(s, str)]
    if len(texts) < len(given) or not all(map(is_literal, texts)) or len(texts) > MOST_CHOICES:
        return None
    return SegmentPattern((Choice(name, tuple(sorted(texts, key=natural_key))),))


def _counted(
    segments: Sequence[Segment], name: str, values: Sequence[Values] | None, listed: bool
) -> SegmentPattern | None:
    parts: list[str | Capture | Choice] = []
    pieces: list[Pieces] = [cut(s) if isinstance(s, str) else s for s in segments]
    for at, column in enumerate(zip(*pieces, strict=True)):
        first = column[0]
        if isinstance(first, str) and len(set(column)) == 1:
            parts.append(first)
        elif all(isinstance(p, Slot) or is_index(p) for p in column):
            held = [v for p, of in zip(column, values or (), strict=False) for v in held_by(p, of)]
            parts.append(_capture(f"{name}{at}", held, listed))
        else:
            return None
    return pattern(parts)


def held_by(piece: str | Slot, values: Values) -> list[int]:
    """The indices that stand in a slot, or the one that is written out."""
    if isinstance(piece, str):
        return [int(piece)]
    return [int(v) + piece.shift for v in values.columns[piece.column]]


def held_in(pattern: Name, found: Name, values: Values) -> Iterator[tuple[int, list[int]]]:
    """What the slots of a pattern hold where it stands in a name: the column of each, and the indices."""
    for mine, theirs in zip(pattern, found, strict=True):
        pieces = cut(theirs) if isinstance(theirs, str) else theirs
        if isinstance(mine, str) or len(mine) != len(pieces):
            continue
        for a, b in zip(mine, pieces, strict=True):
            if isinstance(a, Slot) and (isinstance(b, Slot) or is_index(b)):
                yield a.column, held_by(b, values)


def _capture(name: str, held: Iterable[int] | None, listed: bool = False) -> Capture | Choice:
    """A capture, limited to the range of what it holds if that is given; what lies in a gap may match nothing else.

    Where it is `listed`, a range with gaps is a choice of the very indices.
    """
    found = sorted(set(held or ()))
    if not found:
        return Capture(name)
    if listed and len(found) <= found[-1] - found[0] and len(found) <= MOST_CHOICES:
        return Choice(name, tuple(map(str, found)))
    return Capture(name, 0, found[0], found[-1])


def pattern(parts: Iterable[str | Capture | Choice]) -> SegmentPattern | None:
    """A segment from its parts, text joined; None where the text cannot stand in a pattern."""
    return _pattern(tuple(parts))


@lru_cache(maxsize=4096)
def _pattern(parts: tuple[str | Capture | Choice, ...]) -> SegmentPattern | None:
    joined: list[str | Capture | Choice] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    texts = [p for p in joined if isinstance(p, str)]
    return SegmentPattern(tuple(joined)) if joined and all(map(is_literal, texts)) else None


def general_run(
    names: Sequence[Name],
    positions: Iterable[int],
    name: str,
    values: Sequence[Values] | None = None,
    listed: bool = False,
) -> Run | None:
    """A pattern for these positions of all names, or None."""
    found = [general([n[at] for n in names], f"{name}{at % 1000}_", values, listed) for at in positions]
    return None if None in found else tuple(s for s in found if s is not None)


def exact_run(name: Name, limits: Mapping[int, Capture | Choice]) -> Run | None:
    """A pattern for these very segments; `limits` holds the capture of each column."""
    found: list[SegmentPattern] = []
    for segment in name:
        pieces = (segment,) if isinstance(segment, str) else segment
        parts = [p if isinstance(p, str) else _with_shift(limits[p.column], p.shift) for p in pieces]
        made = pattern(parts)
        if made is None:
            return None
        found.append(made)
    return tuple(found)


def _with_shift(capture: Capture | Choice, shift: int) -> Capture | Choice | str:
    """The capture of a slot; an index that is limited to one value is written out."""
    if not isinstance(capture, Capture):
        return capture
    return str(capture.low + shift) if capture.low == capture.high else replace(capture, shift=shift)


def plain_captures(count: int) -> dict[int, Capture]:
    """Captures without limits for so many columns."""
    return {k: Capture(f"c{k}") for k in range(count)}


def limited_captures(
    held: Iterable[tuple[int, Iterable[int]]], listed: Set[int] = frozenset()
) -> dict[int, Capture | Choice]:
    """Captures limited to what their columns hold; those of the columns `listed` to the very indices."""
    found: dict[int, set[int]] = {}
    for column, values in held:
        found.setdefault(column, set()).update(values)
    return {k: _capture(f"c{k}", v, k in listed) for k, v in found.items()}
