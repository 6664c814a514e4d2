"""Modules beside one another that could change places with all that they hold: only names tell which is which.

The assignment judges such containers as wholes where all their leaves are matched by then. Leaves that find a partner
later, by their place or among what is left over, complete other containers; these are judged here, once all is matched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, NamedTuple

from treealign.align.links import Link
from treealign.align.patterns import Digest, Pattern
from treealign.align.reasons import Reason
from treealign.align.verdict import Alternative, Alternatives, rivals_of
from treealign.align.words import tokens

if TYPE_CHECKING:
    from treealign.align.state import State

ALIKE = Reason("names", "the module beside it holds the same, and no name tells which is which")
MOST = 24  # modules of one content under one module of which each pair is judged: all are open where there are more
LEAST = 2  # leaves: a single one is judged as a leaf
Path = tuple[str, ...]
Contents = frozenset[tuple[Path, Digest]]


class _Whole(NamedTuple):
    """A module of the checkpoint, the one of the model to which all of it goes, and the matches below."""

    here: Path
    there: Path
    links: tuple[Link, ...]
    rests: frozenset[tuple[Path, Path]]


def judge_alike_modules(state: State) -> Alternatives:
    """Matches of modules that hold the same, under one module on either side, which no name of their own tells apart.

    Linear in the leaves below modules, and quadratic in those modules under one that hold the same.
    """
    below = _below(state.patterns[0])
    links = {p: link for link in state.known for p in link.left}
    found: dict[Link, Alternative] = {}
    for group in _alike(below):
        wholes = [whole for path in group if (whole := _whole(path, below[path], links)) is not None]
        unlike = [whole for whole in wholes if whole.here[-1] != whole.there[-1]]  # others are told by their name
        pairs = combinations(unlike, 2) if len(unlike) <= MOST else pairwise(unlike)
        for one, other in pairs:
            if len(unlike) > MOST or (_could_change_places(one, other) and not _told(one, other)):
                found |= _exchanged(one, other) | _exchanged(other, one)
    return found


def _exchanged(one: _Whole, other: _Whole) -> dict[Link, Alternative]:
    """What is open about the one: each leaf could go where the same leaf of the other goes, all at once."""
    partners = {link.left[0].segments[len(other.here) :]: link for link in other.links}
    found = {}
    for link in one.links:
        partner = partners.get(link.left[0].segments[len(one.here) :])
        near = ((), ()) if partner is None else (partner.left, partner.right)
        found[link] = Alternative(ALIKE, rivals_of([link] if partner is None else [link, partner]), near)
    return found


def _below(side: Sequence[Pattern]) -> dict[Path, list[Pattern]]:
    """What stands below each module."""
    below: dict[Path, list[Pattern]] = defaultdict(list)
    for p in side:
        for depth in range(1, len(p.segments)):
            below[p.segments[:depth]].append(p)
    return below


def _alike(below: Mapping[Path, Sequence[Pattern]]) -> Iterator[list[Path]]:
    """Modules of modules, under one module, that hold the same names and shapes; no members of a list."""
    groups: dict[tuple[Path, Contents], list[Path]] = defaultdict(list)
    for path, some in below.items():
        rests = frozenset((p.segments[len(path) :], p.signature) for p in some)
        if len(some) >= LEAST and not path[-1].isdecimal() and min(len(rest) for rest, _ in rests) > 1:
            groups[path[:-1], rests].append(path)
    yield from (group for group in groups.values() if len(group) > 1)


def _whole(here: Path, below: Sequence[Pattern], links: Mapping[Pattern, Link]) -> _Whole | None:
    """Where a module goes; None where it goes nowhere, or what goes anywhere does not go to one module as it stands."""
    some = [links[p] for p in below if p in links]
    if len(some) < LEAST or any(len(link.left) > 1 or len(link.right) > 1 for link in some):
        return None
    inner = len(some[0].left[0].segments) - len(here)
    path = some[0].right[0].segments[:-inner]
    if not path or any(link.right[0].segments[: len(path)] != path for link in some):
        return None
    rests = frozenset((o.left[0].segments[len(here) :], o.right[0].segments[len(path) :]) for o in some)
    return _Whole(here, path, tuple(some), rests)


def _could_change_places(one: _Whole, other: _Whole) -> bool:
    """Whether they go to two modules under one, no members of a list, and the one could take all that the other has."""
    a, b = one.there, other.there
    siblings = a[:-1] == b[:-1] and a != b and not a[-1].isdecimal()
    return siblings and (one.rests <= other.rests or other.rests <= one.rests)


def _told(one: _Whole, other: _Whole) -> bool:
    """Whether a word of their names says which is which."""
    straight = _shared(one, one) + _shared(other, other)
    return straight > _shared(one, other) + _shared(other, one)


def _shared(one: _Whole, other: _Whole) -> int:
    return len(_words(one.here) & _words(other.there))


def _words(path: Path) -> frozenset[str]:
    """What the name of a module says by itself."""
    own = (t for t in tokens((*path, "")) if t.qualified and t.depth == 1)
    return frozenset(t.text for t in own if t.text[0] != "=")
