"""Paths that a known library spells otherwise than the other side, and that are the same: read whole, they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from treealign.align.knowledge.entries import Run, layouts, starts_with
from treealign.align.patterns import Pattern


def read_alike(left: Sequence[Pattern], right: Sequence[Pattern]) -> list[tuple[int, int, str]]:
    """Pairs of a path that one library's own words spell and the one path of the other side that it reads as.

    Each by its places in `left` and `right`, and with what both read as below the library's root.
    """
    found = {}
    for mine, theirs, forward in ((left, right, True), (right, left, False)):
        read = [(at, path) for at, p in enumerate(mine) if (path := _reading(p))]
        lengths, often = {len(path) for _, path in read}, Counter(path for _, path in read)
        ends: dict[Run, list[int]] = {}
        for at, q in enumerate(theirs):
            for length in lengths:
                if length <= len(q.named):
                    ends.setdefault(q.named[-length:], []).append(at)
        for at, path in read:
            if often[path] == len(ends.get(path, ())) == 1:
                (other,) = ends[path]
                found[(at, other) if forward else (other, at)] = ".".join(path)
    return [(i, j, text) for (i, j), text in found.items()]


def _reading(p: Pattern) -> Run:
    """What a path reads as below the root of the library that spells it otherwise; nothing where none does."""
    if not p.library or p.named == p.segments:
        return ()
    depth = min(_depths(p), default=None)
    return () if depth is None else p.named[depth:]


def _depths(p: Pattern) -> Iterator[int]:
    for name, depth in p.library:
        entry = layouts()[name]
        if entry.run and any(starts_with(p.segments[depth:], run) for run in entry.names):
            yield depth
