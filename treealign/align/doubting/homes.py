"""Where the other leaves of a container go: what goes elsewhere is open while the container at home has its like.

The leaves of a block, and of a tower, go to one. A name that two towers share sends a leaf to the wrong one as surely
as to the right one: what tells towers apart is where all of their leaves go, and while none else is known for certain,
a leaf that could be exchanged with its like in the other tower is as open as they are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

from treealign.align.converting.part_order import own_name
from treealign.align.doubting.repeats import block_of, levels
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import Alternative, Alternatives, alone, rivals_of

OUTNUMBERED = Reason(
    "names", "more leaves of that block come from another, which has one of its name that goes nowhere"
)
UNSUPPORTED = Reason("names", "its like in another container could change places with it, and nothing else tells these")
MOVED_OUT = Reason("belongs", "it would leave its block, and nothing but its sizes speaks for that")
ENOUGH = 2  # leaves of a block by which it is known where it comes from
MOST = 200  # leaves of one name and shape outside repeats of which each two are compared; of more, all are open
Path = tuple[str, ...]


def judge_homes(state: State) -> Alternatives:
    """Matches that their containers do not support; linear in the links, quadratic in leaves of one name and shape."""
    lone = (link for link in _lone(state) if link.certain and link.operations)
    moved = (link for link in lone if _is_inside(link.left[0]) != _is_inside(link.right[0]))
    return {
        **{link: alone(link, MOVED_OUT) for link in moved},
        **dict(_outnumbered(state)),
        **dict(_unsupported(state)),
    }


def _is_inside(p: Pattern) -> bool:
    """Whether its module stands in a block; a member of a list is none that stands in one."""
    return any("{}" in level for level in levels(p)[:-2])


def _outnumbered(state: State) -> Iterator[tuple[Link, Alternative]]:
    """Matches into a block of which more comes from another block, if that has an unsettled leaf of the same name."""
    fed: dict[Path, set[Path]] = defaultdict(set)
    told = [link for link in _lone(state) if link.is_told and block_of(link.left[0]) and block_of(link.right[0])]
    for link in told:
        fed[block_of(link.right[0])].add(block_of(link.left[0]))
    torn = [link for link in told if len(fed[block_of(link.right[0])]) > 1]
    if not torn:
        return
    keys, leaves = (tree.keys for tree in state.trees), state.trees[0].leaves
    paths = [[tuple(key.split(".")) for key in some] for some in keys]
    pairs = {link: [(paths[0][a], paths[1][b]) for (a,), (b,) in link.expand()] for link in torn}
    counts: dict[Path, Counter[Path]] = defaultdict(Counter)
    for link, some in pairs.items():
        for here, there in some:
            counts[_block(there, link.right[0])][_block(here, link.left[0])] += 1
    settled = {at for link in state.known if link.is_told for p in link.left for at in p.cells.values()}
    free = {path: at for at, path in enumerate(paths[0]) if at not in settled}
    owners = {at: p for p in state.patterns[0] for at in p.cells.values()}
    for link, some in pairs.items():
        shapes = set(link.left[0].shapes.values())
        for here, there in some:
            own, of = _block(here, link.left[0]), counts[_block(there, link.right[0])]
            home, most = max(of.items(), key=lambda one: (one[1], one[0]))
            at = free.get((*home, *here[len(own) :]))
            if most >= ENOUGH and most > of[own] and at is not None and leaves[at].shape in shapes:
                yield link, Alternative(OUTNUMBERED, ((link.left[0], owners[at]), link.right))
                break


def _block(path: Path, p: Pattern) -> Path:
    """The block of a leaf of a pattern, with its numbers."""
    return path[: len(block_of(p))]


def _unsupported(state: State) -> Iterator[tuple[Link, Alternative]]:
    """Matches outside of repeats that could change places, of whose containers nothing else is known."""
    groups: dict[tuple[object, ...], list[Link]] = defaultdict(list)
    for link in _lone(state):
        p, q = link.left[0], link.right[0]
        if link.certain and not block_of(p) and not block_of(q) and len(p.segments) > ENOUGH:
            groups[p.signature, own_name(p), p.segments[-1], own_name(q), q.segments[-1]].append(link)
    around = _Around(state.known if any(len(some) > 1 for some in groups.values()) else ())
    for some in groups.values():
        if len(some) > MOST:
            yield from ((link, Alternative(UNSUPPORTED, rivals_of(some))) for link in some)
            continue
        for one, other in combinations(some, 2):
            if _could_change_places(one, other) and not around.tells(one, other):
                both = rivals_of([one, other])
                yield from ((link, Alternative(UNSUPPORTED, both, both)) for link in (one, other))


def _could_change_places(one: Link, other: Link) -> bool:
    here, there = _container(one.left[0]), _container(other.left[0])
    apart = here[: len(there)] != there and there[: len(here)] != here
    return apart and _container(one.right[0]) != _container(other.right[0])


class _Around:
    """How many leaves below each container go where, counted once for all pairs of matches."""

    def __init__(self, links: Sequence[Link]) -> None:
        self.below: Counter[Path] = Counter()
        self.told: Counter[tuple[Path, Path]] = Counter()
        self.beside: dict[Path, list[Link]] = defaultdict(list)
        for link in links:
            p, q = link.left[0].segments, link.right[0].segments
            self.beside[p[:-1]].append(link)
            for depth in range(1, len(p)):
                self.below[p[:depth]] += 1
                for other in range(len(q)) if link.is_told else ():
                    self.told[p[:depth], q[:other]] += 1

    def tells(self, one: Link, other: Link) -> bool:
        """Whether what is below the containers of two goes where they go, and not as well where the other one goes."""
        straight = self._goes(one, one, other) or self._goes(other, other, one)
        return straight and not (self._goes(one, other, one) and self._goes(other, one, other))

    def _goes(self, link: Link, there: Link, away: Link) -> bool:
        """Whether more below the container of a leaf certainly goes to that of another, and not to one within that."""
        here, goal, nested = _container(link.left[0]), _container(there.right[0]), _container(away.right[0])
        own = self.beside[link.left[0].segments[:-1]]
        if self.below[here] == len(own):
            return there is link  # nothing else is there
        paths = [k.right[0].segments for k in own if k.is_told]
        found = self.told[here, goal] - sum(path[: len(goal)] == goal for path in paths)
        if len(nested) > len(goal) and nested[: len(goal)] == goal:
            found -= self.told[here, nested] - sum(path[: len(nested)] == nested for path in paths)
        return found > 0


def _lone(state: State) -> list[Link]:
    """Matches of one leaf each; what is stacked of one pattern is none."""
    lone = (link for link in state.known if len(link.left) == len(link.right) == 1)
    return [link for link in lone if len(link.left[0].cells) == len(link.right[0].cells)]


def _container(p: Pattern) -> Path:
    return p.segments[:-2]
