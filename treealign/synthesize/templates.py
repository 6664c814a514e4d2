"""Pairs of keys folded: what a synthesis looks at instead of keys.

A template stands for all pairs whose two sides differ by the same indices. Its segments are plain text, or hold slots:
indices that both sides carry, equal or shifted by a constant. Where the indices of two folds stand in no such relation
(``neck.0`` against ``neck.conv1``), they are split until they do, and a split index is text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from treealign.errors import MappingError
from treealign.synthesize.relations import Columns, Relation, Rows, columns_of, related
from treealign.tree.fold import Fold
from treealign.tree.keytree import KeyTree
from treealign.tree.segments import Leaves, Name, Slot, join, within

Part: TypeAlias = tuple[Rows[tuple[str, str]], Relation]

_MOST_PRODUCTS = 12


class PartialMatch(Exception):  # noqa: N818  a signal, not an error
    """A pattern matches some keys of a template and not others."""


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
        return tuple(s if isinstance(s, (str, Leaves)) else join(map(self._seen, s)) for s in name)

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


def fold_pairs(
    pairs: Iterable[tuple[str, str]], checkpoint: KeyTree, model: KeyTree, boxed: bool = False
) -> list[Template]:
    """The templates of pairs of keys.

    With `boxed` a template holds every key that ranges of its indices describe, so that captures limited to these
    ranges match its own keys only.

    Raises
    ------
    MappingError
        A key is not in its tree.

    Notes
    -----
    Linear in the number of pairs; everything after it works on templates.
    """
    left, right = places(checkpoint), places(model)
    groups: dict[tuple[int, int], list[tuple[str, str]]] = defaultdict(list)
    try:
        for pair in pairs:
            groups[left[pair[0]][0], right[pair[1]][0]].append(pair)
    except KeyError as e:
        raise MappingError("a match names a key that is not in its tree", facts=[str(e.args[0])]) from None
    found: list[Template] = []
    for (a, b), members in groups.items():
        rows = Rows([left[c][1] for c, _ in members], [right[m][1] for _, m in members], members)
        alone = len(members) == len(checkpoint.folds[a].positions) == len(model.folds[b].positions)
        if boxed:
            parts = [box for part in related(rows) for box in _boxes(*part)]
        else:
            parts = [whole for part in related(rows) for whole in ([part] if alone else _products(*part))]
        found += [_template(checkpoint.folds[a], model.folds[b], *part) for part in parts]
    return found


def _products(rows: Rows[tuple[str, str]], relation: Relation) -> list[Part]:
    """Rows parted until each part holds all combinations of what its indices take; as they are where that is many.

    Slots say what an index takes, not with which others: `a.0.1` and `a.1.0` as one would stand for `a.0.0`, too, which
    is another's key where the fold is not theirs alone.
    """
    parts = list(_factored(rows, _MOST_PRODUCTS))
    return [(part, relation) for part in parts] if len(parts) <= _MOST_PRODUCTS else [(rows, relation)]


def _factored(rows: Rows[tuple[str, str]], most: int) -> Iterator[Rows[tuple[str, str]]]:
    free = _independent(columns_of(rows.left))
    if most <= 0 or prod(len(set(c)) for c in free) == len(rows.items):
        yield rows
        return
    others = [_others(free, n) for n in range(len(free))]
    parts = min((rows.parted(kinds) for kinds in others if len(set(kinds)) > 1), key=len)
    for part in parts:
        yield from _factored(part, most - len(parts) + 1)


def _independent(columns: Columns) -> list[Sequence[str]]:
    """The columns without those that say what another says."""
    found: list[Sequence[str]] = []
    for column in columns:
        kinds = len(set(column))
        if kinds > 1 and not any(len(set(zip(column, c, strict=True))) == kinds == len(set(c)) for c in found):
            found.append(column)
    return found


def _others(columns: Columns, at: int) -> list[str]:
    """For each row a name for the combinations of the other columns that go with its value."""
    going: dict[str, set[tuple[str, ...]]] = {}
    for row in zip(*columns, strict=True):
        going.setdefault(row[at], set()).add(row[:at] + row[at + 1 :])
    names: dict[frozenset[tuple[str, ...]], str] = {}
    kinds = {value: names.setdefault(frozenset(held), str(len(names))) for value, held in sorted(going.items())}
    return [kinds[value] for value in columns[at]]


def _boxes(rows: Rows[tuple[str, str]], relation: Relation) -> list[Part]:
    """Rows parted until each part holds all combinations of a run of values of each index."""
    columns = columns_of(rows.left)
    sizes = [len(set(c)) for c in columns]
    gaps = [n for n, c in enumerate(columns) if max(map(int, c)) - min(map(int, c)) >= sizes[n]]
    if not gaps and prod(sizes) == len(rows.items):
        return [(rows, relation)]
    # the index that takes the fewest values more than one
    column = min((n for n, size in enumerate(sizes) if size > 1), key=lambda n: (n not in gaps, sizes[n]))
    if column in gaps and prod(sizes) == len(rows.items):
        return [box for part in rows.parted(_runs(columns[column])) for box in _boxes(part, relation)]
    return [box for part in rows.parted(columns[column]) for box in _boxes(part, relation)]


def _runs(column: Sequence[str]) -> list[str]:
    """For each value the first of the run of consecutive values in which it stands."""
    values = sorted({int(v) for v in column})
    start: dict[int, int] = {}
    for value in values:
        start[value] = start.get(value - 1, value)
    return [str(start[int(v)]) for v in column]


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


def _template(source: Fold, target: Fold, rows: Rows[tuple[str, str]], relation: Relation) -> Template:
    columns = columns_of(rows.left)
    # an index that is the same in all of them is text: that two such are equal says little
    used = sorted({r[0] for r in relation if r and len(set(columns[r[0]])) > 1})
    number = {k: n for n, k in enumerate(used)}
    left = [Slot(number[k]) if k in number else text for k, text in enumerate(rows.left[0])]
    right = [
        Slot(number[r[0]], r[1]) if r and r[0] in number else text
        for r, text in zip(relation, rows.right[0], strict=True)
    ]
    values = Values(tuple(frozenset(columns[k]) for k in used))
    return Template(_filled(source, left), _filled(target, right), values, tuple(sorted(set(rows.outer()))))


def _filled(fold: Fold, indices: Sequence[str | Slot]) -> Name:
    if not indices:
        return fold.segments
    texts = iter(indices)
    return tuple(join(("", next(texts), "")) if s == "{}" else s for s in fold.segments)


def column_values(value: str | Slot, row: Sequence[str]) -> str | None:
    """What a capture holds in one key, given the indices of its first columns; None for a later column."""
    if isinstance(value, str):
        return value
    return str(int(row[value.column]) + value.shift) if value.column < len(row) else None
