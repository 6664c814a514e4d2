"""Transforms at work on folded names: once for each template, not once for each key.

A `State` is a folded name on its way through the transforms, with the keys (rows) that it stands for. A pattern that
has to know an index (a range, a literal digit, a shift that could become negative) asks the state's rows; where they
do not agree, the state is split in two and both halves go on. So the cost grows with the number of templates, plus a
pass over the rows of those that are split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
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
    origin : Name
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
    origin: Name
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
        return State((self.origin,), self.rows, self.origin)

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
