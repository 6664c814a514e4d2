"""Numbered lists: whether two of them run the same way, and whether the same number is the same place.

An index that occurs on both sides is taken for the same place. That is knowledge only where something besides the
numbers says so: the lists bear names of one kind, or shapes along them tell their direction.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

from treealign.align.doubting.spilling import spilled
from treealign.align.links import Link
from treealign.align.patterns import GLUED, Indices, Pattern
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import Alternative, Alternatives, alone, rivals_of
from treealign.align.words import split_words
from treealign.tree.keys import number_of

ORDER = Reason("order", "nothing but their numbers says that the two lists run the same way")
SPILLED = Reason(
    "names", "the list is longer on one side, where its other members stand beside it: the numbers may be shifted"
)
KINDS = (
    "layer",
    "block",
    "stage",
    "level",
    "blk",
    "resnet",
    "unit",
    "sequential",
)  # what any library may call the members of any list
SERIES = 3  # members from which numbers in names make a list
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
Path = tuple[str, ...]


class Lists(NamedTuple):
    """A capture of a link: the lists of either side that it numbers, and which capture it is."""

    left: Path
    right: Path
    capture: int


def judge_lists(state: State) -> Alternatives:
    """Matches that rest on an order or a number that nothing confirms."""
    return unconfirmed(state.known)


def unconfirmed(links: Sequence[Link]) -> dict[Link, Alternative]:
    """The same of links as they would be."""
    told = {
        (_plain(lists.left), _plain(lists.right))
        for link in links
        for lists in _lists(link)
        if _tells_direction(link.left[0], lists.capture)
    }
    rested = _numbered_in_names(links)
    told |= {(_plain(left), _plain(right)) for (left, right), row in rested.items() if row.tells_direction}
    spilled_to = {link: Alternative(SPILLED, rivals_of([link, *others])) for link, others in spilled(links).items()}
    either_way = {link: alone(link, ORDER) for link in links if _rests_on_order(link, told)}
    assumed = {
        link: Alternative(ORDER, rivals_of(row.links))
        for (left, right), row in rested.items()
        if not _is_told(_plain(left), _plain(right), told)
        for link in row.links
    }
    return {
        link: found
        for link, found in (either_way | spilled_to | assumed).items()
        if not link.operations and not link.placed
    }


def _rests_on_order(link: Link, told: set[tuple[Path, Path]]) -> bool:
    return any(
        not _is_told(_plain(lists.left), _plain(lists.right), told) and not _one_kind(lists.left, lists.right)
        for lists in _lists(link)
    )


def _is_told(left: Path, right: Path, told: Set[tuple[Path, Path]]) -> bool:
    """Whether the direction of two lists is known.

    A list without a name, in a member of a list, runs as that one does; where both have names, these must agree.
    """
    return any(
        (here, there) in told and (_is_bare(left[len(here) :]) or _is_bare(right[len(there) :]))
        for here in _outer(left)
        for there in _outer(right)
    )


def _is_bare(path: Path) -> bool:
    return all(segment == "{}" for segment in path)


def _outer(path: Path) -> Iterator[Path]:
    """The list itself, and those that hold it."""
    return (path[: at + 1] for at, s in enumerate(path) if "{}" in s)


def _plain(path: Path) -> Path:
    """The path with its numbers replaced: what tells of all lists of a name tells of each."""
    return tuple(_DIGITS.sub("{}", s) for s in path)


def _lists(link: Link) -> Iterator[Lists]:
    """The lists that the captures of a rename number on either side."""
    a, b = link.left[0], link.right[0]
    if link.operations or a.captures != b.captures or a.template == b.template:
        return
    for capture, (here, there) in enumerate(zip(_paths(a), _paths(b), strict=True)):
        yield Lists(here, there, capture)


def _paths(p: Pattern) -> Iterator[Path]:
    return (p.segments[: at + 1] for at, s in enumerate(p.segments) if "{}" in s)


def _tells_direction(p: Pattern, capture: int) -> bool:
    """Whether shapes along a capture, read backwards, are others."""
    if len(p.outline[1]) == 1:
        return False
    rows: dict[Indices, dict[int, object]] = defaultdict(dict)
    for key, shape in p.shapes.items():
        rows[key[:capture] + key[capture + 1 :]][int(key[capture])] = shape
    return any((row := [by[n] for n in sorted(by)]) != row[::-1] for by in rows.values())


@dataclass
class Row:
    """Matches of leaves numbered in their names, of two lists whose names are of other kinds: both rise, it seems."""

    links: list[Link] = field(default_factory=list)
    tells_direction: bool = False


def _numbered_in_names(links: Sequence[Link]) -> dict[tuple[Path, Path], Row]:
    rows: dict[tuple[Path, Path, Path, Path], dict[int, tuple[int, Link]]] = defaultdict(dict)
    for link in links:
        if link.certain and not link.operations:
            for here, there in product(_members(link.left[0]), _members(link.right[0])):
                rows[here.list, here.below, there.list, there.below][here.number] = there.number, link
    found: dict[tuple[Path, Path], Row] = defaultdict(Row)
    for (left, _, right, _), row in rows.items():
        numbers = [row[n][0] for n in sorted(row)]
        if left == right or len(row) < SERIES or numbers != sorted(set(numbers)) or _one_kind(left, right):
            continue
        shapes = [next(iter(row[n][1].left[0].shapes.values())) for n in sorted(row)]
        found[left, right].tells_direction |= shapes != shapes[::-1]
        if len({b - a for a, (b, _) in row.items()}) == 1:  # that a number stays the same says something, or seems to
            found[left, right].links += [link for _, link in row.values()]
    return found


class Member(NamedTuple):
    """A number in a name: the list, with the number replaced, the number, and the path below."""

    list: Path
    number: int
    below: Path


def _members(p: Pattern) -> Iterator[Member]:
    for at, segment in enumerate(p.segments[:-1]):
        runs = [] if "{}" in segment else list(_DIGITS.finditer(segment))
        if len(runs) == 1:
            stem = segment[: runs[0].start()] + "{}" + segment[runs[0].end() :]
            yield Member((*p.segments[:at], stem), number_of(runs[0].group()), p.segments[at + 1 :])


def may_run_alike(left: Path, right: Path) -> bool:
    """Whether two lists have no names of their own, in what holds them, that say they are different things."""
    bare = any(path[-2:] == ("{}", "{}") for path in (left, right))
    return bare or _one_kind(left, right)


def _one_kind(left: Path, right: Path) -> bool:
    return bool(_name(left) & _name(right))


def _name(path: Path) -> set[str]:
    """The words that name a list; one word for all names that any list may have, with those of what holds it."""
    named = [s for s in path if s != "{}" and not s.isdecimal()]
    if named and named[-1] in GLUED:  # the parameters of a module, one for each member of what holds it
        return {w for s in named[-3:-1] for w in _words(s)}
    named = named[-2:]
    own = named[-1] if named else ""
    if own and not any(k in own.lower() for k in KINDS):
        return _words(own)
    return {"layer"} | {w for s in named for w in _words(s)}


def _words(segment: str) -> set[str]:
    return {w for w in split_words(segment.replace("{}", "")) if not w.isdigit()}
