"""Contents that only count on: `input_blocks.4.0 -> down_blocks.1.resnets.0` with `input_blocks.{5..6}.0 -> …` is one.

An index that is the same wherever some content stands is text in it, since equal numbers may be equal by chance. Of
contents that differ by their numbers alone, each relation between the numbers of the two sides that holds for several
makes one content that stands for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import NamedTuple, TypeAlias

from treealign.synthesize.contents import Content, Occurrence
from treealign.tree.keys import is_index
from treealign.tree.segments import Name, Segment, Slot, cut, join

Digits: TypeAlias = "tuple[str | Slot, ...]"
Skeleton: TypeAlias = tuple[tuple[object, ...], tuple[object, ...]]
_MOST_RELATIONS = 40
_NEAR = 4  # members of a series that may be missing


class _Numbers(NamedTuple):
    """What stands in the numbered places of a content, on either side."""

    content: Content
    old: Digits
    new: Digits


class Relation(NamedTuple):
    """For each numbered place of the new side the text that stands there, or one of the old side and a shift."""

    old: tuple[str | None, ...]  # text, or None where any index may stand
    new: tuple[str | tuple[int, int], ...]


def with_series(contents: Iterable[Content]) -> list[Content]:
    """The contents, those that are part of a series joined to it, and new ones for series that none stands for."""
    groups: dict[Skeleton, list[_Numbers]] = {}
    found: list[Content] = []
    for content in contents:
        numbers = _Numbers(content, _digits(content.old), _digits(content.new))
        if numbers.old and not content.words:
            groups.setdefault((_bare(content.old), _bare(content.new)), []).append(numbers)
        else:
            found.append(content)
    for group in groups.values():
        found += _joined(group) if len(group) > 1 else [group[0].content]
    return sorted(found, key=lambda c: repr((c.old, c.new)))


def _joined(group: Sequence[_Numbers]) -> Iterator[Content]:
    """Each content with the occurrences of all that are cases of it, and the series that several are cases of."""
    known = {(n.content.old, n.content.new) for n in group}
    for relation in islice(dict.fromkeys(_relations(group)), _MOST_RELATIONS):
        cases = [n for n in group if _is_case(n, relation)]
        made = _content(cases, relation)
        if len(cases) > 1 and (made.old, made.new) not in known:
            yield made
    for n in group:
        own = Relation(tuple(d if isinstance(d, str) else None for d in n.old), _relate(n))
        counting = None in own.old  # else no other is a case of it
        cases = [n, *(other for other in group if counting and other is not n and _is_case(other, own))]
        yield Content(n.content.old, n.content.new, _occurrences(cases))


def _relations(group: Sequence[_Numbers]) -> Iterator[Relation]:
    """Relations that hold for two contents near to each other and leave one number of the old side open."""
    for k in range(len(group[0].old)):
        rows: dict[Digits, list[_Numbers]] = {}
        for n in group:
            if isinstance(n.old[k], str):
                rows.setdefault((*n.old[:k], *n.old[k + 1 :]), []).append(n)
        for row in rows.values():
            row.sort(key=lambda n: (int(str(n.old[k])), repr(n.new)))
            for at, a in enumerate(row):
                for b in row[at + 1 : at + 1 + _NEAR]:
                    relation = _opened(a, b, k) if a.old != b.old else None
                    if relation is not None:
                        yield relation


def _opened(a: _Numbers, b: _Numbers, at: int) -> Relation | None:
    """The content `a` with one number left open, such that `b` is a case of it."""
    x, y = a.old[at], b.old[at]
    if not isinstance(x, str) or not isinstance(y, str) or not all(isinstance(d, str) for d in (*a.old, *a.new)):
        return None
    new: list[str | tuple[int, int]] = []
    for u, v in zip(a.new, b.new, strict=True):
        if u == v:
            new.append(str(u))
        elif isinstance(u, str) and isinstance(v, str) and int(u) - int(x) == int(v) - int(y):
            new.append((at, int(u) - int(x)))
        else:
            return None
    opened = tuple(None if k == at else str(d) for k, d in enumerate(a.old))
    return Relation(opened, tuple(new)) if any(isinstance(n, tuple) for n in new) else None


def _relate(n: _Numbers) -> tuple[str | tuple[int, int], ...]:
    columns = {d.column: k for k, d in enumerate(n.old) if isinstance(d, Slot)}
    return tuple(d if isinstance(d, str) else (columns[d.column], d.shift) for d in n.new)


def _is_case(n: _Numbers, relation: Relation) -> bool:
    """Whether the numbers of a content stand in the relation."""
    for wanted, digits in zip(relation.old, n.old, strict=True):
        if wanted is not None and wanted != digits:
            return False
    own = _relate(n)
    return all(_agrees(wanted, made, n.old) for wanted, made in zip(relation.new, own, strict=True))


def _agrees(wanted: str | tuple[int, int], made: str | tuple[int, int], old: Digits) -> bool:
    if isinstance(wanted, str) or isinstance(made, tuple):
        return wanted == made
    at = old[wanted[0]]
    return isinstance(at, str) and int(at) + wanted[1] == int(made)


def _content(cases: Sequence[_Numbers], relation: Relation) -> Content:
    first = cases[0].content
    columns = [k for k, text in enumerate(relation.old) if text is None]
    old = [Slot(columns.index(k)) if text is None else text for k, text in enumerate(relation.old)]
    new = [r if isinstance(r, str) else Slot(columns.index(r[0]), r[1]) for r in relation.new]
    return Content(_filled(first.old, old), _filled(first.new, new), _occurrences(cases))


def _occurrences(cases: Iterable[_Numbers]) -> tuple[Occurrence, ...]:
    return tuple(sorted({o for n in cases for o in n.content.occurrences}))


def _pieces(segment: Segment) -> Sequence[str | Slot]:
    return cut(segment) if isinstance(segment, str) else segment


def _is_number(at: int, piece: str | Slot) -> bool:
    return at % 2 == 1 and (isinstance(piece, Slot) or is_index(piece))


def _digits(name: Name) -> Digits:
    return tuple(chain.from_iterable(_cut(segment)[0] for segment in name))


def _bare(name: Name) -> tuple[object, ...]:
    return tuple(_cut(segment)[1] for segment in name)


@lru_cache(maxsize=65536)
def _cut(segment: Segment) -> tuple[Digits, object]:
    """The numbers in a segment, and what is left of it without them."""
    pieces = _pieces(segment)
    numbers = tuple(p for at, p in enumerate(pieces) if _is_number(at, p))
    return numbers, tuple("#" if _is_number(at, p) else p for at, p in enumerate(pieces))


def _filled(name: Name, digits: Sequence[str | Slot]) -> Name:
    texts = iter(digits)
    return tuple(join(next(texts) if _is_number(at, p) else p for at, p in enumerate(_pieces(s))) for s in name)
