"""Series inside names: `encoder_layer_0.x`, `encoder_layer_1.x`, … become one template with a slot inside a segment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TypeAlias

from treealign.synthesize.relations import Relation, Rows, columns_of, related
from treealign.synthesize.templates import Template, Values
from treealign.tree.keys import is_index
from treealign.tree.segments import Name, Segment, Slot, cut, join

Skeleton: TypeAlias = tuple[object, ...]


def merge_series(templates: Sequence[Template]) -> list[Template]:
    """Changed templates that differ only by digits in their names, merged where those digits go on counting.

    Digits that stay equal on both sides, or shifted by a constant, become slots; all others stay text. What does not
    change is left alone: a pattern that matches it is wrong whatever its digits.
    """
    groups: dict[Skeleton, list[Template]] = {}
    for number, t in enumerate(templates):
        groups.setdefault(_skeleton(t) if t.changed else (number,), []).append(t)
    return list(chain.from_iterable(_merged(group) if len(group) > 1 else group for group in groups.values()))


def _skeleton(t: Template) -> Skeleton:
    return tuple(map(_bare, t.source)), tuple(map(_bare, t.target)), t.values


def _bare(segment: Segment) -> object:
    """The segment without the digits in its text."""
    if not isinstance(segment, str):
        return tuple("#" if _is_digits(piece) else piece for piece in segment)
    pieces = cut(segment)
    return segment if len(pieces) == 1 else tuple("#" if is_index(p) and at % 2 else p for at, p in enumerate(pieces))


def _is_digits(piece: str | Slot) -> bool:
    return isinstance(piece, str) and is_index(piece)


def _digits(name: Name) -> tuple[str, ...]:
    pieces = chain.from_iterable(cut(s) if isinstance(s, str) else s for s in name)
    return tuple(p for p in pieces if isinstance(p, str) and is_index(p))


def _merged(group: list[Template]) -> list[Template]:
    rows = Rows([_digits(t.source) for t in group], [_digits(t.target) for t in group], group)
    return [_series(*part) if len(part[0].items) > 1 else part[0].items[0] for part in related(rows)]


def _series(rows: Rows[Template], relation: Relation) -> Template:
    first, columns = rows.items[0], columns_of(rows.left)
    # an index that is the same in all of them is part of the name
    counting = [r if r and len(set(columns[r[0]])) > 1 else None for r in relation]
    used = sorted({r[0] for r in counting if r})
    base = len(first.values.columns)
    left = {k: Slot(base + n) for n, k in enumerate(used)}
    right = {k: Slot(base + used.index(r[0]), r[1]) for k, r in enumerate(counting) if r}
    return Template(
        _with_slots(first.source, left),
        _with_slots(first.target, right),
        Values((*first.values.columns, *(frozenset(columns[k]) for k in used))),
        tuple(sorted({pair for t in rows.outer() for pair in t.samples})),
    )


def _with_slots(name: Name, slots: dict[int, Slot]) -> Name:
    at = -1
    segments: list[Segment] = []
    for segment in name:
        pieces: list[str | Slot] = []
        for piece in cut(segment) if isinstance(segment, str) else segment:
            at += _is_digits(piece)
            pieces.append(slots.get(at, piece) if _is_digits(piece) else piece)
        segments.append(join(pieces))
    return tuple(segments)
