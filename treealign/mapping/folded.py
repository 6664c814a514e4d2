"""Transforms at work on folded names: once for each template, not once for each key.

A `State` is a folded name on its way through the transforms, with the keys (rows) that it stands for. A pattern that
has to know an index (a range, a literal digit, a shift that could become negative) asks the state's rows; where they
do not agree, the state is split in two and both halves go on. So the cost grows with the number of templates, plus a
pass over the rows of those that are split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress, repeat
from operator import itemgetter
from typing import NamedTuple, TypeVar

from treealign.formats.cached import cached_property
from treealign.tree.fold import Fold
from treealign.tree.segments import Name, Segment, Slot, folded_name, within

T = TypeVar("T")


class Split(Exception):  # noqa: N818  a signal, not an error
    """The rows of a state have to be told apart by an index: those that hold one of `inside` from the others."""

    def __init__(self, column: int, inside: frozenset[str]) -> None:
        super().__init__(column)
        self.column, self.inside = column, inside


@dataclass(frozen=True)
class Rows:
    """The keys that a folded name stands for; answers for its slots.

    `positions` point into the sequence of keys, `indices` hold the digits of each key.
    """

    positions: Sequence[int]
    indices: Sequence[tuple[str, ...]]

    @cached_property
    def _columns(self) -> dict[int, frozenset[str]]:
        return {}

    def _column(self, column: int) -> frozenset[str]:
        if column not in self._columns:
            self._columns[column] = frozenset(map(itemgetter(column), self.indices))
        return self._columns[column]

    def holds(self, slot: Slot, low: int, high: int | None) -> bool:
        """Whether the slot's index lies in low..high for all rows; `Split` where it does for some only."""
        low, high = low - slot.shift, None if high is None else high - slot.shift
        values = self._column(slot.column)
        inside = frozenset(value for value in values if within(value, low, high))
        if 0 < len(inside) < len(values):
            raise Split(slot.column, inside)
        return bool(inside)

    def value(self, slot: Slot) -> str:
        """The slot's index where it is the same for all rows; `Split` where it is not."""
        values = self._column(slot.column)
        if len(values) > 1:
            raise Split(slot.column, frozenset(sorted(values)[::2]))  # halves, so that n values take log n passes
        return str(int(next(iter(values))) + slot.shift)

    def split(self, taken: Sequence[bool]) -> tuple[Rows, Rows]:
        """The rows that are taken, and the others."""
        left = [not take for take in taken]
        return tuple(  # type: ignore[return-value]
            Rows(list(compress(self.positions, mask)), list(compress(self.indices, mask))) for mask in (taken, left)
        )


class Entry(NamedTuple):
    """How a name went through a `Convert`: at which position in the mapping, as what, and as what it came out."""

    at: int
    name: Name
    made: tuple[Name, ...]


@dataclass(frozen=True)
class State:
    """A folded name on its way through the transforms.

    Attributes
    ----------
    names : tuple of Name
        What it has become: one name, or several behind a `Convert`.
    rows : Rows
        The keys that it stands for.
    source : Name
        What it was at first.
    touched : tuple of int
        The transforms that touched it.
    unsure : tuple of int
        Those among them of which nobody could say whether they had been done before.
    entry : Entry or None
        The `Convert` that took it.
    """

    names: tuple[Name, ...]
    rows: Rows
    source: Name
    touched: tuple[int, ...] = ()
    unsure: tuple[int, ...] = ()
    entry: Entry | None = None

    @cached_property
    def words(self) -> frozenset[Segment]:
        """All segments of its names."""
        return frozenset(chain.from_iterable(self.names))

    def halves(self, split: Split) -> list[State]:
        """Both halves of a split."""
        return self.parted([row[split.column] in split.inside for row in self.rows.indices])

    def untouched(self) -> State:
        """The state before any transform."""
        return State((self.source,), self.rows, self.source)

    def parted(self, taken: Sequence[bool]) -> list[State]:
        """The state for the rows that are taken, and for the others, where there are any."""
        return [replace(self, rows=rows) for rows in self.rows.split(taken) if rows.positions]


def start(folds: Sequence[Fold]) -> list[State]:
    """The states of keys that nothing has touched."""
    return [State((name := folded_name(fold),), Rows(fold.positions, fold.indices), name) for fold in folds]


def settle(state: State, ask: Callable[[State], T]) -> Iterator[tuple[State, T]]:
    """Ask something of a state, splitting it until the answer is the same for all rows of each part."""
    waiting = [state]
    while waiting:
        part = waiting.pop()
        try:
            answer = ask(part)
        except Split as split:
            waiting += reversed(part.halves(split))
        else:
            yield part, answer


# -- written out: one name for each key --------------------------------------------------------------------------------


def expander(name: Name) -> Callable[[tuple[str, ...]], str]:
    """What writes out a folded name for a row of indices."""
    text, slots = _formatted(name)
    columns = [slot.column for slot in slots]
    if any(slot.shift for slot in slots):
        return lambda row: text % tuple(str(int(row[s.column]) + s.shift) if s.shift else row[s.column] for s in slots)
    return lambda row: text % tuple(row[column] for column in columns)


def expand(name: Name, indices: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A folded name written out for each row of indices."""
    text, slots = _formatted(name)
    if not slots:
        return repeat(text % (), len(indices))
    if indices and slots == [Slot(column) for column in range(len(indices[0]))]:
        return map(text.__mod__, indices)  # the rows are what the format takes: no call for each key
    return map(expander(name), indices)


def written(names: Iterable[Name], rows: Rows) -> Iterator[tuple[str, ...]]:
    """Several folded names written out, together for each row."""
    return zip(*(expand(name, rows.indices) for name in names), strict=True)


def targets_of(states: Iterable[State], keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names that each key ends with, in the order of `keys`."""
    # a list first: filling a dict in the order of the states, which is not that of its keys, takes twice the time
    placed: list[tuple[str, ...]] = [()] * len(keys)
    for state in states:
        if len(state.names) == 1:
            _place_one(state, keys, placed)
        else:
            texts = written(state.names, state.rows)
            for position, names in zip(state.rows.positions, texts, strict=True):
                placed[position] = names
    return dict(zip(keys, placed, strict=True))


def _place_one(state: State, keys: Sequence[str], placed: list[tuple[str, ...]]) -> None:
    splice = _splice(state.source, state.names[0])
    if not state.touched:
        for position in state.rows.positions:
            placed[position] = (keys[position],)
    elif splice:
        head, kept, tail = splice
        for position in state.rows.positions:
            placed[position] = (f"{head}{keys[position][kept]}{tail}",)
    else:
        texts = expand(state.names[0], state.rows.indices)
        for position, text in zip(state.rows.positions, texts, strict=True):
            placed[position] = (text,)


class _Splice(NamedTuple):
    """A new name as the middle of the old one between a new head and a new tail."""

    head: str
    kept: slice
    tail: str


def _splice(source: Name, name: Name) -> _Splice | None:
    """How to get a name from a key where nothing changed between its indices: cheaper than writing out each of them."""
    old, new = _slotted(source), _slotted(name)
    if old is None or new is None or source[old] != name[new]:
        return None
    end = len(_after(source[old.stop :]))
    kept = slice(len(_before(source[: old.start])), -end if end else None)
    return _Splice(_before(name[: new.start]), kept, _after(name[new.stop :]))


def _slotted(name: Name) -> slice | None:
    """From the first segment with a slot to the last."""
    at = [place for place, segment in enumerate(name) if not isinstance(segment, str)]
    return slice(at[0], at[-1] + 1) if at else None


def _before(segments: Name) -> str:
    return "".join(f"{segment}." for segment in segments)


def _after(segments: Name) -> str:
    return "".join(f".{segment}" for segment in segments)


def _formatted(name: Name) -> tuple[str, list[Slot]]:
    """A name as a format, and the slots that it takes."""
    slots = [piece for segment in name if not isinstance(segment, str) for piece in segment if isinstance(piece, Slot)]
    return ".".join(map(_segment_format, name)), slots


def _segment_format(segment: Segment) -> str:
    if isinstance(segment, str):
        return segment.replace("%", "%%")
    return "".join("%s" if isinstance(piece, Slot) else piece.replace("%", "%%") for piece in segment)


def one_to_one(name: Name, rows: Rows) -> bool:
    """Whether different rows surely give different names: every column of the indices stands in the name."""
    pieces = chain.from_iterable(segment for segment in name if not isinstance(segment, str))
    return len({piece.column for piece in pieces if isinstance(piece, Slot)}) == len(rows.indices[0])
