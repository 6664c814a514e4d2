"""Conversions folded: keys whose tensors change, as patterns over what they share and what they run over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from treealign.errors import MappingError
from treealign.mapping.operations import Operation
from treealign.synthesize.relations import Columns, Relation, relation_of
from treealign.synthesize.result import Conversion
from treealign.synthesize.templates import Values, places
from treealign.tree.fold import Fold
from treealign.tree.keytree import KeyTree
from treealign.tree.segments import Name, Slot, join

Place: TypeAlias = tuple[int, tuple[str, ...]]


class Part(NamedTuple):
    """Keys of one conversion that differ only in some of their indices, which run over ranges."""

    fold: int
    lone: tuple[int, ...]  # the columns that run
    lows: tuple[int, ...]
    counts: tuple[int, ...]
    shared: tuple[str, ...]  # what the other columns hold


class Case(NamedTuple):
    """One conversion of a template: what its shared columns hold, its operations, and how far its own indices run."""

    shared: tuple[str, ...]
    operations: tuple[Operation, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class ConversionTemplate:
    """Conversions that fold alike.

    Attributes
    ----------
    sources, targets : tuple of Name
        The patterns, in the order in which the operations take and give their tensors. Slots up to `shared` stand in
        all of them; each of the others stands on one side only.
    shared : int
        How many columns all patterns share.
    lows : tuple of int
        Where each of the other columns begins.
    values : Values
        What the columns hold.
    cases : tuple of Case
        The conversions.
    samples : tuple of Conversion
        Some of them.
    """

    sources: tuple[Name, ...]
    targets: tuple[Name, ...]
    shared: int
    lows: tuple[int, ...]
    values: Values
    cases: tuple[Case, ...]
    samples: tuple[Conversion, ...]


def fold_conversions(
    conversions: Sequence[Conversion], checkpoint: KeyTree, model: KeyTree
) -> list[ConversionTemplate]:
    """The templates of conversions.

    Raises
    ------
    MappingError
        A key is not in its tree.
    """
    groups: dict[object, list[Member]] = {}
    left, right = (places(checkpoint), places(model)) if conversions else ({}, {})
    for c in conversions:
        try:
            sources = list(_parts([left[k] for k in c.checkpoint]))
            targets = list(_parts([right[k] for k in c.model]))
        except KeyError as e:
            raise MappingError("a match names a key that is not in its tree", facts=[str(e.args[0])]) from None
        alike = (tuple((p.fold, p.lone, p.lows) for p in sources), tuple((p.fold, p.lone, p.lows) for p in targets))
        groups.setdefault((*alike, signature(c.operations)), []).append(Member(c, sources, targets))
    found: list[ConversionTemplate] = []
    for members in groups.values():
        found += _templates(members, checkpoint.folds, model.folds)
    return found


def single_cases(template: ConversionTemplate) -> list[ConversionTemplate]:
    """The conversions of a template one by one, each still a template, whose slots hold one index only."""
    lone = template.values.columns[template.shared :]
    return [
        replace(template, values=Values((*(frozenset({v}) for v in case.shared), *lone)), cases=(case,))
        for case in template.cases
    ]


def signature(operations: Sequence[Operation]) -> tuple[object, ...]:
    """What operations have in common that differ only in sizes."""
    return tuple(_bare(operation) for operation in operations)


def sizes(value: object) -> list[object]:
    """The sizes in an operation, in order."""
    if isinstance(value, Operation):
        return [s for f in fields(value) for s in _sizes_in(getattr(value, f.name), "Size" in str(f.type))]
    return []


def _sizes_in(value: object, sized: bool) -> list[object]:
    if isinstance(value, tuple):
        return [s for v in value for s in _sizes_in(v, sized)]
    return sizes(value) if isinstance(value, Operation) else [value] if sized else []


def replace_sizes(operations: Sequence[Operation], new: Iterator[object]) -> tuple[Operation, ...]:
    """The operations with other sizes, as many as `sizes` finds in them."""
    return tuple(_replaced(operation, new, False) for operation in operations)


def _replaced(value: Any, new: Iterator[object], sized: bool) -> Any:
    if isinstance(value, Operation):
        made = {f.name: _replaced(getattr(value, f.name), new, "Size" in str(f.type)) for f in fields(value)}
        return replace(value, **made)
    if isinstance(value, tuple):
        return tuple(_replaced(v, new, sized) for v in value)
    return next(new) if sized else value


def _bare(value: object, sized: bool = False) -> object:
    if isinstance(value, Operation):
        inner = tuple(_bare(getattr(value, f.name), "Size" in str(f.type)) for f in fields(value))
        return type(value).__name__, inner
    if isinstance(value, tuple):
        return tuple(_bare(v, sized) for v in value)
    return "#" if sized else value


def _parts(keys: Sequence[Place]) -> Iterator[Part]:
    """Runs of keys of one fold, as long as their indices count through ranges, the last one fastest."""
    at = 0
    while at < len(keys):
        stop = at + 1
        while stop < len(keys) and keys[stop][0] == keys[at][0]:
            stop += 1
        rows = [indices for _, indices in keys[at:stop]]
        part = _counting(keys[at][0], rows)
        yield from [part] if part else [Part(keys[at][0], (), (), (), row) for row in rows]
        at = stop


def _counting(fold: int, rows: Sequence[tuple[str, ...]]) -> Part | None:
    columns = [list(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    lone = tuple(k for k, column in enumerate(columns) if len(column) > 1)
    ranges = [range(int(columns[k][0]), int(columns[k][0]) + len(columns[k])) for k in lone]
    expected = list(product(*(map(str, r) for r in ranges)))
    if [tuple(row[k] for k in lone) for row in rows] != expected:
        return None
    shared = tuple(column[0] for k, column in enumerate(columns) if k not in lone)
    return Part(fold, lone, tuple(r[0] for r in ranges), tuple(map(len, ranges)), shared)


class Member(NamedTuple):
    """A conversion and its parts."""

    conversion: Conversion
    sources: list[Part]
    targets: list[Part]

    def parts(self, side: int) -> list[Part]:
        """The parts of the checkpoint (0) or of the model (1)."""
        return self.targets if side else self.sources


def _templates(members: list[Member], left: Sequence[Fold], right: Sequence[Fold]) -> Iterator[ConversionTemplate]:
    """Templates of conversions with the same parts, split until what they share stands in every part."""
    columns = _columns(members, 0, 0)
    relations: list[Relation] = []
    loose: list[Sequence[str]] = []
    everywhere = set(range(len(columns)))
    for side, part in _others(members[0]):
        others = _columns(members, side, part)
        relations.append(relation_of(columns, others))
        everywhere &= {r[0] for r in relations[-1] if r}
        loose += [c for c, r in zip(others, relations[-1], strict=True) if r is None and len(set(c)) > 1]
    loose += [c for k, c in enumerate(columns) if k not in everywhere and len(set(c)) > 1]
    if not loose:
        yield _template(members, relations, {k: n for n, k in enumerate(sorted(everywhere))}, left, right)
        return
    halves: dict[str, list[Member]] = {}
    for value, member in zip(min(loose, key=lambda c: len(set(c))), members, strict=True):
        halves.setdefault(value, []).append(member)
    for value in sorted(halves):
        yield from _templates(halves[value], left, right)


def _others(member: Member) -> Iterator[tuple[int, int]]:
    """All parts but the first, by side and number."""
    yield from ((0, n) for n in range(1, len(member.sources)))
    yield from ((1, n) for n in range(len(member.targets)))


def _columns(members: Sequence[Member], side: int, part: int) -> Columns:
    """What the shared indices of one part hold, conversion by conversion."""
    return list(zip(*(m.parts(side)[part].shared for m in members), strict=True))


def _template(
    members: Sequence[Member],
    relations: Sequence[Relation],
    numbers: dict[int, int],
    left: Sequence[Fold],
    right: Sequence[Fold],
) -> ConversionTemplate:
    first = members[0]
    texts: list[str | Slot] = [Slot(numbers[k]) if k in numbers else v for k, v in enumerate(first.sources[0].shared)]
    for relation, (side, n) in zip(relations, _others(first), strict=True):
        pairs = zip(relation, first.parts(side)[n].shared, strict=True)
        texts += [Slot(numbers[r[0]], r[1]) if r and r[0] in numbers else v for r, v in pairs]
    shared = iter(texts)
    columns: dict[_Lone, int] = {}
    names: tuple[list[Name], list[Name]] = ([], [])
    for side, folds in ((0, left), (1, right)):
        for n, part in enumerate(members[0].parts(side)):
            own = [_lone(members, side, n, k) for k in range(len(part.lone))]
            running = iter([Slot(len(numbers) + columns.setdefault(c, len(columns))) for c in own])
            names[side].append(_name(folds[part.fold], part, shared, running))
    cases = tuple(
        Case(
            tuple(m.sources[0].shared[k] for k in sorted(numbers)),
            m.conversion.operations,
            tuple(c.counts[n] for c in columns),
        )
        for n, m in enumerate(members)
    )
    held = [frozenset(column) for column in zip(*(c.shared for c in cases), strict=True)]
    held += [frozenset(str(c.low + n) for n in range(max(c.counts))) for c in columns]
    samples = tuple(dict.fromkeys((first.conversion, members[-1].conversion)))
    lows = tuple(c.low for c in columns)
    return ConversionTemplate(tuple(names[0]), tuple(names[1]), len(numbers), lows, Values(tuple(held)), cases, samples)


class _Lone(NamedTuple):
    """A capture that runs on one side only; the same for all patterns of that side in which it runs alike."""

    side: int
    number: int
    low: int
    counts: tuple[int, ...]


def _lone(members: Sequence[Member], side: int, part: int, number: int) -> _Lone:
    parts = [member.parts(side)[part] for member in members]
    return _Lone(side, number, parts[0].lows[number], tuple(p.counts[number] for p in parts))


def _name(fold: Fold, part: Part, shared: Iterator[str | Slot], running: Iterator[Slot]) -> Name:
    if not fold.indices[0]:
        return fold.segments
    columns = iter(range(len(fold.indices[0])))
    return tuple(
        join(("", next(running) if next(columns) in part.lone else next(shared), "")) if s == "{}" else s
        for s in fold.segments
    )
