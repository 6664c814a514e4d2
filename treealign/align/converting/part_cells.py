"""Which cells of the parts go to which cell of the whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from treealign.align.patterns import Indices, Pattern, as_numbers


class Cells(NamedTuple):
    """One cell of the whole and the cells that make it, part by part."""

    whole: Indices
    parts: tuple[tuple[Indices, ...], ...]


def cell_groups(parts: Sequence[Pattern], whole: Pattern) -> Iterator[Cells | None]:
    """The cells of the parts grouped by the cell of the whole; None where the two do not cover one another."""
    tables = [_by_common(p, whole) for p in parts]
    if any(t is None for t in tables):
        yield None
        return
    for key in sorted(whole.cells, key=as_numbers):
        yield Cells(key, tuple(t[key] for t in tables if t is not None))


def _by_common(part: Pattern, whole: Pattern) -> Mapping[Indices, tuple[Indices, ...]] | None:
    """The cells of a part by the cell of the whole that they go to; the part's extra capture is what is left.

    Repeats go together by index, or by rank of index where those differ (layers numbered from 1 and from 0).
    """
    if part.cells.keys() == whole.cells.keys():
        return {k: (k,) for k in part.cells}
    places = [None] if part.captures == whole.captures else list(reversed(range(part.captures)))
    for extra in places:
        common = {k: k if extra is None else k[:extra] + k[extra + 1 :] for k in part.cells}
        there = _translated(set(common.values()), whole.cells.keys())
        if there is None:
            continue
        found: dict[Indices, list[Indices]] = defaultdict(list)
        for k, short in common.items():
            found[there[short]].append(k)
        return {k: tuple(sorted(v, key=as_numbers)) for k, v in found.items()}
    return None


def _translated(mine: Set[Indices], theirs: Set[Indices]) -> Mapping[Indices, Indices] | None:
    """Indices of one side to those of the other: the same, or of the same ranks; None where they do not correspond."""
    if mine == theirs:
        return {k: k for k in mine}
    if len(mine) != len(theirs):
        return None
    columns = [_by_rank(a, b) for a, b in zip(zip(*mine, strict=True), zip(*theirs, strict=True), strict=True)]
    translated = {k: tuple(c.get(v, "") for c, v in zip(columns, k, strict=True)) for k in mine}
    return translated if set(translated.values()) == theirs else None


def _by_rank(mine: Sequence[str], theirs: Sequence[str]) -> Mapping[str, str]:
    return dict(zip(sorted(set(mine), key=int), sorted(set(theirs), key=int), strict=False))
