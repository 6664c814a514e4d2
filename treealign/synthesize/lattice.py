"""The ways to turn one name into another, as a small directed graph.

A node (i, j) stands for "the first i segments of the source have become the first j of the target". A step keeps one
segment, or replaces a run of segments by another: an edit. Every way that keeps as many segments as possible is a path
from start to end, and so is every coarser one, in which an edit swallows kept segments between two others, and every
finer one, in which a replaced run is cut into runs that stand side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from treealign.formats.cached import cached_property
from treealign.tree.keys import is_index
from treealign.tree.segments import Name, Segment, Slot

Node: TypeAlias = tuple[int, int]


class Edit(NamedTuple):
    """Segments ``i:i2`` of the source become segments ``j:j2`` of the target."""

    i: int
    i2: int
    j: int
    j2: int

    def moved(self, by: int) -> Edit:
        """The same edit in longer names."""
        return Edit(self.i + by, self.i2 + by, self.j + by, self.j2 + by)


@dataclass(frozen=True)
class Lattice:
    """All ways from a source to a target.

    Attributes
    ----------
    edits : tuple of Edit
        The steps that change something.
    kept : tuple of (int, int)
        The nodes at which a segment is kept: a step to (i + 1, j + 1).
    start, end : (int, int)
        The first and the last node; what stands before and behind is kept.
    turn : (int, int) or None
        The last node that renamings lead to, if what remains is up to a conversion.
    """

    edits: tuple[Edit, ...]
    kept: tuple[Node, ...]
    start: Node
    end: Node
    turn: Node | None = None

    @cached_property
    def renamings(self) -> tuple[Edit, ...]:
        """The edits that renamings can make."""
        return self.edits if self.turn is None else tuple(e for e in self.edits if (e.i2, e.j2) != self.end)

    @property
    def goal(self) -> Node:
        """The last node that renamings lead to."""
        return self.end if self.turn is None else self.turn


def lattice(source: Name, target: Name) -> Lattice:
    """The lattice of two different names."""
    head, tail = kept_ends(source, target)
    return _between(source[head : len(source) - tail], target[head : len(target) - tail], head)


def kept_ends(source: Name, target: Name) -> tuple[int, int]:
    """How many segments are kept in front of all ways from one name to another, and how many behind them."""
    head, tail = _common(source, target)
    # what is kept at the ends may be kept otherwise: in `a -> a.a` either of the two may be the new one
    alike = set(source[head : len(source) - tail]) | set(target[head : len(target) - tail])
    while head and source[head - 1] in alike:
        head -= 1
    while tail and source[len(source) - tail] in alike:
        tail -= 1
    return head, tail


@lru_cache(maxsize=4096)
def _between(source: Name, target: Name, head: int) -> Lattice:
    """The lattice of what differs, behind so many segments that are kept; many names differ alike."""
    edits, kept = _core(source, target)
    return Lattice(
        tuple(e.moved(head) for e in edits),
        tuple((i + head, j + head) for i, j in kept),
        (head, head),
        (len(source) + head, len(target) + head),
    )


def whole_lattice(source: Name, target: Name) -> Lattice:
    """The lattice of two names from their beginning to their end, which may be equal."""
    if source == target:
        return Lattice((), tuple((n, n) for n in range(len(source))), (0, 0), (len(source), len(target)))
    ways = lattice(source, target)
    before = tuple((n, n) for n in range(ways.start[0]))
    behind = tuple((ways.end[0] + n, ways.end[1] + n) for n in range(len(source) - ways.end[0]))
    return Lattice(ways.edits, (*before, *ways.kept, *behind), (0, 0), (len(source), len(target)))


def _common(source: Name, target: Name) -> tuple[int, int]:
    shorter = min(len(source), len(target))
    head = 0
    while head < shorter and source[head] == target[head]:
        head += 1
    tail = 0
    while tail < shorter - head and source[-1 - tail] == target[-1 - tail]:
        tail += 1
    return head, tail


@lru_cache(maxsize=4096)
def _core(source: Name, target: Name) -> tuple[tuple[Edit, ...], tuple[Node, ...]]:
    nodes, kept = _best(source, target)
    edits = [
        Edit(i, i2, j, j2)
        for i, j in nodes
        for i2, j2 in nodes
        if i2 >= i and j2 >= j and (i2 > i or j2 > j) and _is_edit(source[i:i2], target[j:j2])
    ]
    return tuple(edits), tuple(kept)


def _is_edit(old: Name, new: Name) -> bool:
    """Whether it changes its first and its last segment, and loses or invents no index."""
    if old and new and (old[0] == new[0] or old[-1] == new[-1]):
        return False
    return columns(old) == columns(new)


def columns(name: Name) -> list[int]:
    """The columns of the slots in a name, sorted."""
    return sorted(p.column for s in name if not isinstance(s, str) for p in s if isinstance(p, Slot))


def _best(source: Name, target: Name) -> tuple[list[Node], list[Node]]:
    """Nodes and kept steps of all paths that keep as many segments as possible."""
    n, m = len(source), len(target)
    before = _longest(source, target)
    after = _longest(source[::-1], target[::-1])
    best = before[n][m]
    nodes = [(i, j) for i in range(n + 1) for j in range(m + 1) if before[i][j] + after[n - i][m - j] == best]
    kept = [
        (i, j)
        for i, j in nodes
        if i < n
        and j < m
        and source[i] == target[j]
        and before[i][j] + _worth(source[i]) + after[n - i - 1][m - j - 1] == best
    ]
    return nodes, kept


def _worth(segment: Segment) -> int:
    """What it counts to keep a segment; a bare number may be another one on the other side, by chance equal."""
    return int(not (isinstance(segment, str) and is_index(segment)))


def _longest(a: Name, b: Name) -> list[list[int]]:
    """Length of the longest common subsequence of every two prefixes, numbers not counted."""
    rows = [[0] * (len(b) + 1)]
    for x in a:
        row, last = [0], rows[-1]
        for j, y in enumerate(b):
            row.append(last[j] + _worth(x) if x == y and _worth(x) else max(last[j + 1], row[j]))
        rows.append(row)
    return rows
