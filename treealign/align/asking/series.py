"""Lists against lists: which links stand in the same two lists, and what these are with one list read backwards."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from treealign.align.links import Group, Link
from treealign.align.patterns import Pattern, concrete
from treealign.tree.keys import number_of

_NUMBER = re.compile(r"\{\}|[0-9]+", re.ASCII)
Path = tuple[str, ...]


class Member(NamedTuple):
    """A leaf's place in a list: the path with the number left out, and the number."""

    row: str
    number: int


def families(links: Sequence[Link]) -> Iterator[list[Link]]:
    """Links whose leaves stand in the same two lists."""
    found: dict[object, list[Link]] = defaultdict(list)
    for link in links:
        at = _doubted(link)
        found[tuple(_list_path(side[0], at) for side in (link.left, link.right))].append(link)
    yield from found.values()


def reversed_members(links: Sequence[Link]) -> list[Link] | None:
    """The links with the members of the model's list taken from the other end; None where shapes forbid it.

    Members that stand by themselves, each with its number in its name, count as much as those that were folded.
    """
    owner = {leaf: p for link in links for p in link.right for leaf in p.cells.values()}
    rows: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for link in links:
        at = _doubted(link)
        here, there = (_members(side[0], at) for side in (link.left, link.right))
        for i, j in ((g.left[0], g.right[0]) for g in link.expand()):
            rows[here[i].row, there[j].row].append((there[j].number, j))
    other: dict[int, int] = {}
    for row in rows.values():
        ordered = [j for _, j in sorted(row)]
        other.update(zip(ordered, reversed(ordered), strict=True))
    shapes = {leaf: p.shapes[key] for p in set(owner.values()) for key, leaf in p.cells.items()}
    if all(a == b for a, b in other.items()) or any(shapes[a] != shapes[b] for a, b in other.items()):
        return None
    made = []
    for link in links:
        groups = [Group(g.left, (other[g.right[0]],)) for g in link.expand()]
        targets = {owner[g.right[0]] for g in groups}
        if len(targets) != 1:
            return None
        made.append(replace(link, right=tuple(targets), groups=tuple(groups)))
    return made


def _doubted(link: Link) -> int:
    """Which number of the paths is that of the list in doubt: the first whose lists are called otherwise."""
    names = [[_stem(s) for s in side[0].segments if _NUMBER.search(s)] for side in (link.left, link.right)]
    return next((n for n, (a, b) in enumerate(zip(*names, strict=False)) if a != b), 0)


def _stem(segment: str) -> str:
    return _NUMBER.sub("", segment)


def _place(p: Pattern, at: int) -> int:
    """The segment that holds a number of a path."""
    places = [n for n, s in enumerate(p.segments) if _NUMBER.search(s)]
    return places[min(at, len(places) - 1)] if places else len(p.segments) - 1


def _list_path(p: Pattern, at: int) -> Path:
    place = _place(p, at)
    return tuple(_stem(s) if n == place else s for n, s in enumerate(p.segments[: place + 1]))


def _members(p: Pattern, at: int) -> dict[int, Member]:
    """The place of each leaf in the list."""
    place = _place(p, at)
    found = {}
    for key, leaf in p.cells.items():
        segments = concrete(p, key)
        hit = _NUMBER.search(segments[place])
        number = number_of(hit.group()) if hit else 0
        row = ".".join([*segments[:place], _stem(segments[place]), *segments[place + 1 :]])
        found[leaf] = Member(row, number)
    return found
