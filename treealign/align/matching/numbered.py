"""Numbered lists in paths: the members of a node whose names differ in one number, and where two paths part."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from treealign.tree.keys import number_of

# `a, b, c` count, too
_RUNS = re.compile(r"[0-9]+|(?P<letter>(?:(?<=_)|^)[a-f]$)|(?:(?!_[a-f]$)[^0-9])+_?", re.ASCII)
Path = tuple[str, ...]


class Row(NamedTuple):
    """A list: the node that holds it, and what its members are called before their number."""

    node: Path
    stem: str

    @property
    def path(self) -> Path:
        """The path of its members, all numbers in it replaced."""
        return tuple("{}" if segment.isdecimal() else segment for segment in (*self.node, self.stem + "{}"))


def nodes_above(path: Path) -> Iterator[Path]:
    """The nodes above a leaf, the root first."""
    return (path[:depth] for depth in range(len(path)))


def within(path: Path, node: Path) -> bool:
    """Whether a path leads through a node."""
    return path[: len(node)] == node


def parting(a: Path, b: Path) -> tuple[Row, bool] | None:
    """The list in which two paths part, and whether the first stands before the second; None if names part them."""
    depth = next((d for d, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if depth is None:
        return None
    mine, theirs = _runs(a[depth]), _runs(b[depth])
    at = next((n for n, (x, y) in enumerate(zip(mine, theirs, strict=False)) if x != y), None)
    if at is None or not (mine[at].isdecimal() and theirs[at].isdecimal()):
        return None
    return Row(a[:depth], "".join(mine[:at])), number_of(mine[at]) < number_of(theirs[at])


def rows_above(path: Path) -> Iterator[Row]:
    """The lists of which a node or a leaf is part, or what holds it."""
    for depth, segment in enumerate(path):
        stem = ""
        for run in _runs(segment):
            if run.isdecimal():
                yield Row(path[:depth], stem)
            stem += run


def number_in(row: Row, path: Path) -> int | None:
    """The number of the member of a list that holds a leaf."""
    if len(path) <= len(row.node) or not within(path, row.node):
        return None
    runs = _runs(path[len(row.node)])
    at = next((n for n, run in enumerate(runs) if run.isdecimal() and "".join(runs[:n]) == row.stem), None)
    return None if at is None else number_of(runs[at])


def kept_numbers(left: Row, right: Row, pairs: Iterable[tuple[Path, Path]]) -> set[int]:
    """The numbers of one list of which all pairs bear the same number in what holds the other, in any of its lists.

    A norm has its convolution's number in `conv1.conv` and `conv1.bn` of one library, as in `conv1` and `bn1` of
    another: where the convolutions are known, the norms are told apart.

    >>> conv, bn = Row(("body",), "conv"), Row(("tree",), "bn")
    >>> pairs = [(("body", f"conv{n}", "conv", "weight"), ("tree", f"conv{n}", "weight")) for n in (1, 2)]
    >>> kept_numbers(conv, bn, pairs), kept_numbers(conv, bn, [*pairs, (pairs[0][0], pairs[1][1])])
    ({1, 2}, {2})
    """
    there: dict[int, set[int | None]] = defaultdict(set)
    for mine, theirs in pairs:
        if (number := number_in(left, mine)) is not None:
            rows = [row for row in rows_above(theirs) if row.node == right.node]
            there[number] |= {number_in(row, theirs) for row in rows} or {None}
    return {number for number, found in there.items() if found == {number}}


@lru_cache(maxsize=65536)
def _runs(segment: str) -> tuple[str, ...]:
    """A segment as numbers and what is between them; a letter that counts is a number.

    >>> _runs("conv1_3x3"), _runs("conv_a")
    (('conv', '1', '_', '3', 'x', '3'), ('conv_', '97'))
    """
    return tuple(str(ord(run[0])) if run["letter"] else run[0] for run in _RUNS.finditer(segment))
