"""Pairs of keys folded: what a synthesis looks at instead of keys.

A template stands for all pairs whose two sides differ by the same indices. Its segments are plain text, or hold slots:
indices that both sides carry, equal or shifted by a constant. Where the indices of two folds stand in no such relation
(``neck.0`` against ``neck.conv1``), they are split until they do, and a split index is text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from treealign.errors import MappingError
from treealign.tree.fold import Fold
from treealign.tree.keytree import KeyTree
from treealign.tree.segments import Name, Slot, join, within

Columns: TypeAlias = Sequence[Sequence[str]]
Relation: TypeAlias = "list[tuple[int, int] | None]"  # per index of the target: its equal in the source, and a shift


class PartialMatch(Exception):  # noqa: N818  a signal, not an error
    """A pattern matches some keys of a template and not others."""


class Row(NamedTuple):
    """One pair: the indices of its two sides, and its keys."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    pair: tuple[str, str]


@dataclass(frozen=True)
class Values:
    """What the slots of a template hold, for patterns that have to know."""

    columns: tuple[frozenset[str], ...] = ()

    def holds(self, slot: Slot, low: int, high: int | None) -> bool:
        """Whether the index lies in low..high. Raises `PartialMatch` where it does for some keys only."""
        top = None if high is None else high - slot.shift
        values = self.columns[slot.column]
        inside = sum(within(value, low - slot.shift, top) for value in values)
        if 0 < inside < len(values):
            raise PartialMatch
        return inside > 0

    def value(self, slot: Slot) -> str:
        """The only index. Raises `PartialMatch` where there are several."""
        values = self.columns[slot.column]
        if len(values) > 1:
            raise PartialMatch
        return str(int(next(iter(values))) + slot.shift)

    def seen(self, name: Name) -> Name:
        """The name as patterns see it: a slot that holds one index only is that index."""
        return tuple(s if isinstance(s, str) else join(map(self._seen, s)) for s in name)

    def _seen(self, piece: str | Slot) -> str | Slot:
        if isinstance(piece, str) or len(self.columns[piece.column]) > 1:
            return piece
        return self.value(piece)


@dataclass(frozen=True)
class Template:
    """Pairs of keys that fold alike.

    Attributes
    ----------
    source, target : Name
        The two sides; a slot of the source has no shift.
    values : Values
        What the slots hold, in the checkpoint.
    samples : tuple of (str, str)
        Some of the pairs, among them those with the lowest and the highest indices.
    """

    source: Name
    target: Name
    values: Values
    samples: tuple[tuple[str, str], ...]

    @property
    def changed(self) -> bool:
        """Whether the two sides differ."""
        return self.source != self.target


def fold_pairs(pairs: Iterable[tuple[str, str]], checkpoint: KeyTree, model: KeyTree) -> list[Template]:
    """The templates of pairs of keys.

    Raises
    ------
    MappingError
        A key is not in its tree.

    Notes
    -----
    Linear in the number of pairs; everything after it works on templates.
    """
    left, right = places(checkpoint), places(model)
    groups: dict[tuple[int, int], list[Row]] = {}
    try:
        for pair in pairs:
            (a, i), (b, j) = left[pair[0]], right[pair[1]]
            groups.setdefault((a, b), []).append(Row(i, j, pair))
    except KeyError as e:
        raise MappingError("a match names a key that is not in its tree", facts=[str(e.args[0])]) from None
    found: list[Template] = []
    for (a, b), rows in groups.items():
        found += _relate(checkpoint.folds[a], model.folds[b], rows)
    return found


def fold_name(fold: Fold, positions: Iterable[int]) -> tuple[Name, Values]:
    """A fold restricted to some of its keys, as a name and what its slots hold."""
    wanted = set(positions)
    rows = [i for p, i in zip(fold.positions, fold.indices, strict=True) if p in wanted]
    values = Values(tuple(map(frozenset, zip(*rows, strict=True))))
    slots = iter([Slot(k) for k in range(len(values.columns))])
    return tuple(("", next(slots), "") if s == "{}" and values.columns else s for s in fold.segments), values


def places(tree: KeyTree) -> dict[str, tuple[int, tuple[str, ...]]]:
    """For each key the number of its fold, and its indices."""
    keys, found = tree.keys, {}
    for n, f in enumerate(tree.folds):
        for at, indices in zip(f.positions, f.indices, strict=True):
            found[keys[at]] = (n, indices)
    return found


def _relate(source: Fold, target: Fold, rows: list[Row]) -> list[Template]:
    """Templates of the pairs of two folds, split by an index until each is constant or has its equal."""
    if all(row.left == row.right for row in rows):
        return [_template(source, target, rows, [(k, 0) for k in range(len(rows[0].left))])]
    return [_template(source, target, part, relation) for part, relation in related(rows)]


def related(rows: list[Row]) -> list[tuple[list[Row], Relation]]:
    """The rows, split where their indices stand in no relation, each part with its relation."""
    columns: Columns = list(zip(*(row.left for row in rows), strict=True))
    others: Columns = list(zip(*(row.right for row in rows), strict=True))
    relation = relation_of(columns, others)
    used = {r[0] for r in relation if r}
    loose = [(len(set(c)), 0, k) for k, c in enumerate(columns) if k not in used and len(set(c)) > 1]
    loose += [(len(set(c)), 1, k) for k, c in enumerate(others) if relation[k] is None and len(set(c)) > 1]
    if not loose:
        return [(rows, relation)]
    _, side, k = min(loose)  # the one with the fewest values, to split into as few parts as may be
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(row[side][k], []).append(row)
    return [found for value in sorted(parts) for found in related(parts[value])]


def relation_of(columns: Columns, others: Columns) -> Relation:
    """For each of the other indices the one that it equals, or equals but for a shift."""
    free = list(range(len(columns)))
    relation: Relation = [None] * len(others)
    for k in reversed(range(len(others))):
        # of several that are equal, the one as far from the end: what stands behind changes less often
        same = [at for at in free if columns[at] == others[k]]
        if same:
            best = min(same, key=lambda at: (abs((len(columns) - at) - (len(others) - k)), at))
            relation[k] = (best, 0)
            free.remove(best)
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


def _template(source: Fold, target: Fold, rows: list[Row], relation: Relation) -> Template:
    used = sorted({r[0] for r in relation if r})
    number = {k: n for n, k in enumerate(used)}
    first = rows[0]
    left = [Slot(number[k]) if k in number else text for k, text in enumerate(first.left)]
    right = [Slot(number[r[0]], r[1]) if r else text for r, text in zip(relation, first.right, strict=True)]
    values = Values(tuple(frozenset(row.left[k] for row in rows) for k in used))
    return Template(_filled(source, left), _filled(target, right), values, samples(rows))


def _filled(fold: Fold, indices: Sequence[str | Slot]) -> Name:
    if not indices:
        return fold.segments
    texts = iter(indices)
    return tuple(join(("", next(texts), "")) if s == "{}" else s for s in fold.segments)


def samples(rows: Sequence[Row]) -> tuple[tuple[str, str], ...]:
    """The pairs with the lowest and the highest indices, read from the left and from the right."""
    if len(rows) <= 3:
        return tuple(sorted(row.pair for row in rows))
    numbers = [(tuple(map(int, row.left)), row.pair) for row in rows]
    ends = {pick(numbers, key=lambda n: (n[0][::step], n[1]))[1] for pick in (min, max) for step in (1, -1)}
    return tuple(sorted(ends))


def column_values(value: str | Slot, row: Sequence[str]) -> str | None:
    """What a capture holds in one key, given the indices of its first columns; None for a later column."""
    if isinstance(value, str):
        return value
    return str(int(row[value.column]) + value.shift) if value.column < len(row) else None
