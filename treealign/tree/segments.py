"""Segments of names and of key patterns, cut into text and digits, and how the two match.

A segment is cut at its runs of ASCII digits: text, digits, text, … , text; always an odd number of pieces. In a pattern
a run may be a `Capture` instead of digits; in a folded name it may be a `Slot`, the index that differs from key to key.
Since a capture never stands beside a digit or another capture, pattern and name match piece by piece, without search.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeAlias

from treealign.tree.fold import Fold
from treealign.tree.keys import is_index

_DIGITS = re.compile(r"([0-9]+)", re.ASCII)
_LONGEST = 4000  # digits: Python's `int` refuses longer text
LARGEST = 10**18 - 1  # of the indices that are shifted or compared; nobody numbers layers beyond


class Slot(NamedTuple):
    """An index of a folded name: the number in that column of the fold's indices, plus `shift`."""

    column: int
    shift: int = 0


class Leaves(tuple[str, ...]):
    """Several words that stand at the end of names that are else alike, as one segment."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture of an index in a pattern: what stands there is ``index + shift``, with `low` <= index <= `high`."""

    name: str
    shift: int = 0
    low: int = 0
    high: int | None = None

    @property
    def limited(self) -> bool:
        """Whether some index does not match."""
        return self.high is not None or self.low + self.shift > 0


Pieces: TypeAlias = "tuple[str | Slot, ...]"
Segment: TypeAlias = "str | Pieces"
Name: TypeAlias = tuple[Segment, ...]
Captured: TypeAlias = str | Slot
Captures: TypeAlias = dict[str, Captured]


class Slots(Protocol):
    """What is known of the slots of a folded name; either answer may raise, to have the fold split first."""

    def holds(self, slot: Slot, low: int, high: int | None) -> bool:
        """Whether the index in the slot lies in low..high, for all keys of the fold."""

    def value(self, slot: Slot) -> str:
        """The index in the slot, the same for all keys of the fold."""


class Alternative(NamedTuple):
    """One way to read a segment of a pattern: its pieces, and what its choices hold."""

    pieces: tuple[str | Capture, ...]
    choices: tuple[tuple[str, str], ...] = ()


class _NoSlots:
    def holds(self, slot: Slot, low: int, high: int | None) -> bool:
        raise AssertionError(f"a plain name has no {slot} to compare with {low}..{high}")

    def value(self, slot: Slot) -> str:
        raise AssertionError(f"a plain name has no {slot}")


NO_SLOTS: Slots = _NoSlots()


@lru_cache(maxsize=65536)
def cut(text: str) -> tuple[str, ...]:
    """Text and digits in turn, beginning and ending with text.

    >>> cut("conv2d_10")
    ('conv', '2', 'd_', '10', '')
    """
    return tuple(_DIGITS.split(text))


def join(parts: Iterable[str | Slot]) -> Segment:
    """A segment from text and slots: plain text where there is no slot."""
    pieces: list[str | Slot] = []
    text = ""
    for part in parts:
        if isinstance(part, Slot):
            pieces += [*cut(text), part]
            text = ""
        else:
            text += part
    return (*pieces, *cut(text)) if pieces else text


def folded_name(fold: Fold) -> Name:
    """The name of a fold: its template with a slot for each index."""
    if not fold.indices[0]:
        return tuple(fold.segments)
    columns = iter(range(len(fold.indices[0])))
    return tuple(("", Slot(next(columns)), "") if s == "{}" else s for s in fold.segments)


def match_segment(alternatives: Sequence[Alternative], segment: Segment, slots: Slots) -> Captures | None:
    """What a segment of a pattern captures in a segment of a name, or None where they do not match.

    `slots` answers for the indices of a folded name.
    """
    pieces = cut(segment) if isinstance(segment, str) else segment
    for alternative in alternatives:
        captures = _match_pieces(alternative.pieces, pieces, slots)
        if captures is not None:
            captures.update(alternative.choices)
            return captures
    return None


def _match_pieces(pattern: tuple[str | Capture, ...], pieces: Pieces, slots: Slots) -> Captures | None:
    if len(pattern) != len(pieces) or pattern[::2] != pieces[::2]:
        return None
    captures: Captures = {}
    for wanted, found in zip(pattern[1::2], pieces[1::2], strict=True):
        if isinstance(wanted, Capture):
            if not _fits(wanted, found, slots):
                return None
            captures[wanted.name] = shifted(found, -wanted.shift)
        elif not _same_digits(wanted, found, slots):
            return None
    return captures


def _fits(capture: Capture, found: str | Slot, slots: Slots) -> bool:
    low, high = capture.low + capture.shift, None if capture.high is None else capture.high + capture.shift
    if isinstance(found, Slot):
        return not capture.limited or slots.holds(found, low, high)
    return is_index(found) and (not capture.limited or within(found, low, high))


def _same_digits(wanted: str, found: str | Slot, slots: Slots) -> bool:
    if isinstance(found, Slot):
        return is_index(wanted) and len(wanted) <= _LONGEST and slots.holds(found, int(wanted), int(wanted))
    return wanted == found


def within(digits: str, low: int, high: int | None) -> bool:
    """Whether an index lies in low..high; one that is too long to be a number does not."""
    return len(digits) <= _LONGEST and low <= int(digits) and (high is None or int(digits) <= high)


def shifted(value: Captured, by: int) -> Captured:
    """An index, as digits or as a slot, plus `by`."""
    if not by:
        return value
    return Slot(value.column, value.shift + by) if isinstance(value, Slot) else str(int(value) + by)


def fill(parts: Sequence[str | Capture], captures: Mapping[str, Captured]) -> Segment:
    """The segment that a pattern's segment stands for, given what its captures hold."""
    return join(shifted(captures[p.name], p.shift) if isinstance(p, Capture) else p for p in parts)


def overlap(a: Alternative, b: Alternative) -> bool:
    """Whether some text matches both."""
    if len(a.pieces) != len(b.pieces) or a.pieces[::2] != b.pieces[::2]:
        return False
    digits = zip(a.pieces[1::2], b.pieces[1::2], strict=True)
    return all(x == y or isinstance(x, Capture) or isinstance(y, Capture) for x, y in digits)
