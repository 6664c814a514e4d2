"""Paths that a known library spells otherwise than the other side, and that are the same: read whole, they agree.

A name at the end of a path may stand in another tower as well. So a library's tower is read as one of the other side
only where at least half of all that is read of it stands there, below one root.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from treealign.align.knowledge.entries import Run, layouts, starts_with
from treealign.align.links import part_of
from treealign.align.patterns import Pattern, concrete, single_leaves


class Reading(NamedTuple):
    """What a path of a known library reads as: the library's root, and the path below it."""

    root: Run
    path: Run


def read_alike(left: Sequence[Pattern], right: Sequence[Pattern]) -> list[tuple[int, int, str]]:
    """Pairs of a path that one library's own words spell and the one path of the other side that it reads as.

    Each by its places in `left` and `right`, and with what both read as below the library's root.
    """
    found = {}
    for mine, theirs, forward in ((left, right, True), (right, left, False)):
        read = {at: reading for at, p in enumerate(mine) if (reading := _reading(p))}
        if not read:
            continue
        ends = _ends(read.values(), ((at, q.named) for at, q in enumerate(theirs)))
        often = Counter(read.values())
        for at, reading in read.items():
            if often[reading] == len(ends.get(reading, ())) == 1:
                (other,) = ends[reading]
                found[(at, other) if forward else (other, at)] = ".".join(reading.path)
    return [(i, j, text) for (i, j), text in found.items()]


def unfolded(left: Sequence[Pattern], right: Sequence[Pattern]) -> tuple[list[Pattern], list[Pattern]]:
    """The patterns of both sides, those leaves by themselves of which a library spells by number what the other has.

    The others of a list stay together, as they are on the other side.
    """
    sides = list(left), list(right)
    for one, other in ((0, 1), (1, 0)):
        known = [p for p in sides[one] if any(layouts()[name].by_number for name, _ in p.library)]
        read = {at: r for p in known for q in _single(p) for at in q.cells.values() if (r := _reading(q))}
        paths = ((at, concrete(p, key)) for p in sides[other] for key, at in p.cells.items()) if read else ()
        ends = _ends(set(read.values()), paths)
        sides[one][:] = _apart(sides[one], {at for at, reading in read.items() if reading in ends})
        sides[other][:] = _apart(sides[other], {at for some in ends.values() for at in some})
    return sides


def _apart(patterns: Sequence[Pattern], leaves: Set[int]) -> list[Pattern]:
    found: list[Pattern] = []
    for p in patterns:
        rest = set(p.cells.values()) - leaves
        if not p.captures or len(rest) == len(p.cells):
            found.append(p)
            continue
        found += (q for q in _single(p) if rest.isdisjoint(q.cells.values()))
        found += [part_of(p, rest)] if rest else []
    return found


def _ends(read: Iterable[Reading], paths: Iterable[tuple[int, Run]]) -> Mapping[Reading, list[int]]:
    """Where paths end as readings do, below the roots at which at least half of what is read stands."""
    wanted: dict[Run, set[Run]] = defaultdict(set)
    for reading in read:
        wanted[reading.path].add(reading.root)
    lengths, total = {len(path) for path in wanted}, Counter(root for roots in wanted.values() for root in roots)
    hits: dict[tuple[Run, Run], list[tuple[Run, int]]] = defaultdict(list)
    for at, path in paths:
        for length in lengths:
            end = path[-length:]
            if length <= len(path) and end in wanted:
                for root in wanted[end]:
                    hits[root, path[:-length]].append((end, at))
    found: dict[Reading, list[int]] = defaultdict(list)
    for (root, _), some in hits.items():
        if 2 * len({end for end, _ in some}) >= total[root]:
            for end, at in some:
                found[Reading(root, end)].append(at)
    return found


def _single(p: Pattern) -> Iterator[Pattern]:
    return (replace(one, library=p.library) for one in single_leaves(p))


def _reading(p: Pattern) -> Reading | None:
    """What a path reads as below the root of the library that spells it otherwise; None where none does."""
    if not p.library or p.named == p.segments:
        return None
    depth = min(_depths(p), default=None)
    return None if depth is None else Reading(p.segments[:depth], p.named[depth:])


def _depths(p: Pattern) -> Iterator[int]:
    for name, depth in p.library:
        entry = layouts()[name]
        if entry.run and any(starts_with(p.segments[depth:], run) for run in entry.names):
            yield depth
