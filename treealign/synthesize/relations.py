"""Which index of the one side is which of the other: equal throughout, or equal but for a constant shift."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
Indices: TypeAlias = tuple[str, ...]
Columns: TypeAlias = Sequence[Sequence[str]]
Relation: TypeAlias = "Sequence[tuple[int, int] | None]"  # per index of the right: its equal on the left, and a shift
Split: TypeAlias = "tuple[tuple[int, ...], Relation]"  # which rows, and how their indices are related
TRIED = 100  # rows for which every way to split them is tried


@dataclass(frozen=True)
class Rows(Generic[T]):
    """Things with indices on two sides: the digits of each, as many for one as for the other."""

    left: Sequence[Indices]
    right: Sequence[Indices]
    items: Sequence[T]

    def parted(self, values: Sequence[str]) -> list[Rows[T]]:
        """The rows by a value that each has."""
        return [self.at(part) for part in _by_value(range(len(values)), values)]

    def at(self, places: Sequence[int]) -> Rows[T]:
        """Some of the rows."""
        return Rows([self.left[n] for n in places], [self.right[n] for n in places], [self.items[n] for n in places])

    def outer(self) -> list[T]:
        """The items with the lowest and the highest indices on the left, read from the one end and from the other."""
        if len(self.items) <= 3:
            return list(self.items)
        orders = (range(len(self.left[0])), range(len(self.left[0]) - 1, -1, -1))
        return [self.items[_extreme(self.left, order, pick)] for order in orders for pick in (min, max)]


def related(rows: Rows[T]) -> list[tuple[Rows[T], Relation]]:
    """The rows, split where their indices stand in no relation until each is constant or has its equal."""
    found = _split(rows, tuple(range(len(rows.items))), {})
    return [(rows.at(places) if len(found) > 1 else rows, relation) for places, relation in found]


def _split(rows: Rows[T], at: tuple[int, ...], known: dict[tuple[int, ...], list[Split]]) -> list[Split]:
    """As `related`, for some of the rows; the same rows are come to in several ways, and split once."""
    if at not in known:
        known[at] = _fewest(rows, at, known)
    return known[at]


def _fewest(rows: Rows[T], at: tuple[int, ...], known: dict[tuple[int, ...], list[Split]]) -> list[Split]:
    left, right = [rows.left[n] for n in at], [rows.right[n] for n in at]
    if left == right:
        return [(at, [(k, 0) for k in range(len(left[0]))])]
    columns, others = columns_of(left), columns_of(right)
    relation = relation_of(columns, others)
    used = {r[0] for r in relation if r}
    loose = [c for k, c in enumerate(columns) if k not in used and len(set(c)) > 1]
    loose += [c for c, r in zip(others, relation, strict=True) if r is None and len(set(c)) > 1]
    if not loose:
        return [(at, relation)]
    loose.sort(key=lambda c: len(set(c)))
    best: list[Split] = []
    # the index that leaves the fewest parts; where trying them all would take long, the one with the fewest values
    for column in loose if len(at) <= TRIED else loose[:1]:
        parts = _by_value(at, column)
        found: list[Split] = []
        for n, part in enumerate(parts):
            if best and len(found) + len(parts) - n >= len(best):
                break
            found += _split(rows, part, known)
        else:
            best = found if not best or len(found) < len(best) else best
    return best


def _by_value(at: Iterable[int], values: Iterable[str]) -> list[tuple[int, ...]]:
    places: dict[str, list[int]] = {}
    for n, value in zip(at, values, strict=True):
        places.setdefault(value, []).append(n)
    return [tuple(part) for _, part in sorted(places.items())]


def columns_of(indices: Sequence[Indices]) -> Columns:
    """The indices column by column."""
    # `zip` would make an iterator for each row, and there are many
    return [[row[k] for row in indices] for k in range(len(indices[0]))]


def relation_of(columns: Columns, others: Columns) -> Relation:
    """For each of the other indices the one that it equals, or equals but for a shift."""
    free = list(range(len(columns)))
    relation: list[tuple[int, int] | None] = [None] * len(others)
    for k in reversed(range(len(others))):
        # of several that are equal, the one as far from the end: what stands behind changes less often
        same = [(abs((len(columns) - at) - (len(others) - k)), at) for at in free if columns[at] == others[k]]
        if same:
            relation[k] = (min(same)[1], 0)
            free.remove(min(same)[1])
    for k, other in enumerate(others):
        if relation[k] is None and len(set(other)) > 1:
            shifts = ((at, _shift(columns[at], other)) for at in free)
            found = next(((at, by) for at, by in shifts if by is not None), None)
            if found:
                relation[k] = found
                free.remove(found[0])
    return relation


def _shift(a: Sequence[str], b: Sequence[str]) -> int | None:
    by = int(b[0]) - int(a[0])
    return by if all(int(y) - int(x) == by for x, y in zip(a, b, strict=True)) else None


def _extreme(indices: Sequence[Indices], order: Iterable[int], pick: Callable[[Iterable[int]], int]) -> int:
    """Where the lowest or the highest indices stand, one index compared after the other."""
    left: Sequence[int] = range(len(indices))
    for k in order:
        wanted = str(pick(map(int, {indices[at][k] for at in left})))
        left = [at for at in left if indices[at][k] == wanted]
    return left[0]
