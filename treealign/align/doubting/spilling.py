"""Lists of which some members stand beside the list on the other side, so that the numbers of the rest may be shifted.

SAM's MLPs have three layers, which another library calls `proj_in`, `layers.0` and `proj_out`: that both sides have a
layer 0 says nothing there, be it one path on both sides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from treealign.align.links import Link
from treealign.align.matching.series import BARE, Kind, bare_numbers, places_by_kind
from treealign.align.patterns import Pattern

Path = tuple[str, ...]


class Member(NamedTuple):
    """A link whose checkpoint leaves stand at these numbers of one list, and the path of its model leaves."""

    link: Link
    numbers: frozenset[int]
    path: Path


def spilled(links: Sequence[Link]) -> dict[Link, list[Link]]:
    """Links within a list of which other members go to places beside the list, with those members.

    Not where those others are built otherwise, and all that are built as these go into the list, one after another.
    Linear in the patterns and their columns of numbers, and in the members of lists of which some spill.
    """
    numbers = _by_list([link.left[0] for link in links]), _by_list([link.right[0] for link in links])
    members: dict[tuple[Path, Path], list[Member]] = defaultdict(list)
    for link in links:
        for above, below, some in _places(link.left[0]):
            members[above, below].append(Member(link, some, link.right[0].segments))
    kinds = places_by_kind([p for link in links for p in link.left])
    found: dict[Link, list[Link]] = {}
    for (above, below), group in members.items():
        lists = [_same_list(above, below, one.path) for one in group]
        for over in dict.fromkeys(filter(None, lists)):
            beside = [one for one in group if _is_beside(one.path, over)]
            if not beside or numbers[0][above] == numbers[1][over]:
                continue
            own = {n: kinds.get(((above, BARE), n)) for n in numbers[0][above]}
            there = sorted(numbers[1][over])
            inside = (one for one, its in zip(group, lists, strict=True) if its == over)
            shifted = [one.link for one in inside if not _goes_whole(one, beside, own, there, over)]
            found.update({link: [o.link for o in beside] for link in shifted})
            found.update({o.link: shifted[-1:] for o in beside if shifted})
    return found


def _by_list(patterns: Sequence[Pattern]) -> Mapping[Path, set[int]]:
    found: dict[Path, set[int]] = defaultdict(set)
    for p in patterns:
        for above, _, some in _places(p):
            found[above] |= some
    return found


def _places(p: Pattern) -> Iterator[tuple[Path, Path, frozenset[int]]]:
    """The lists in which it stands: what is above and below the number, and its numbers there."""
    for depth, (above, _), some in bare_numbers(p):
        yield above, p.segments[len(p.segments) - depth :], some


def _same_list(above: Path, below: Path, path: Path) -> Path | None:
    """The list of the other side, if a leaf stands there below a number of a list of the same name."""
    at = len(path) - 1 - len(below)
    if at < 1 or not above or not (path[at].isdecimal() or path[at] == "{}") or path[at - 1] != above[-1]:
        return None
    return path[:at]


def _is_beside(path: Path, over: Path) -> bool:
    return path[: len(over)] != over and path[: len(over) - 1] == over[:-1]


def _goes_whole(
    one: Member, beside: Sequence[Member], kinds: Mapping[int, Kind | None], there: Sequence[int], over: Path
) -> bool:
    """Whether all members of its kind, and no others of it, go into a list as long, this one by its ranks."""
    own = [kind for n in one.numbers if (kind := kinds[n])]
    if len(own) < len(one.numbers) or len({(kind.kind, kind.members) for kind in own}) != 1:
        return False
    alike = {n for n, kind in kinds.items() if kind and kind.kind == own[0].kind}
    if own[0].members != len(there) or any(not alike.isdisjoint(o.numbers) for o in beside):
        return False
    reached = (some for here, _, some in _places(one.link.right[0]) if here == over)
    return {there[kind.rank] for kind in own} == next(reached)
