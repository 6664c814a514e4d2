"""Two containers whose leaves go to two others crosswise: some of one to each, and of the other to each as well.

The leaves of a block go to one block. Where shapes that only one of two towers has send a tower of the checkpoint to
one of the model, and a name that both sides use for different towers sends the rest of it to the other, the names are
no evidence: what could be exchanged is open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from treealign.align.doubting.transposition import block
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import Alternative, Alternatives, rivals_of

CROSSED = Reason("names", "other leaves of its block go to another block, whose leaves come from both, too")
ENOUGH = 3  # of the four ways that must be taken by a match that is certain otherwise: one may rest on a guess
Path = tuple[str, ...]
Between = dict[tuple[Path, Path], list[Link]]


def judge_crossed(state: State) -> Alternatives:
    """Matches between two pairs of blocks that cross, where the blocks could be exchanged for them.

    Linear in the number of links, and in the blocks that share a partner quadratic.
    """
    between = _between(state, block)
    partners = _partners(between)
    doubted = _strays(between, partners) | _crossings(between, partners)
    between = _between_containers(state)
    doubted |= _crossings(between, _partners(between))
    return {link: Alternative(CROSSED, rivals_of([link, other])) for link, other in doubted.items()}


def _container(p: Pattern) -> Path:
    """What holds the module of a leaf beside others, such as an attention with its projections."""
    return p.segments[:-2]


def _between(state: State, place: Callable[[Pattern], Path]) -> Between:
    found: Between = defaultdict(list)
    for link in state.known:
        if (here := place(link.left[0])) and (there := place(link.right[0])):
            found[here, there].append(link)
    return found


def _between_containers(state: State) -> Between:
    """The links between two containers of which modules correspond, with those of all that is below."""
    partners = _partners(_between(state, _container))
    found: Between = defaultdict(list)
    for link in state.known:
        here, there = link.left[0].segments, link.right[0].segments
        for depth in range(1, len(here) - 1):
            for other in partners.get(here[:depth], ()):
                if there[: len(other)] == other:
                    found[here[:depth], other].append(link)
    return found


def _partners(between: Between) -> dict[Path, set[Path]]:
    partners: dict[Path, set[Path]] = defaultdict(set)
    for here, there in between:
        partners[here].add(there)
    return partners


def _crossings(between: Between, partners: Mapping[Path, set[Path]]) -> dict[Link, Link]:
    found: dict[Link, Link] = {}
    for a, b in combinations(sorted(path for path, some in partners.items() if len(some) > 1), 2):
        for x, y in combinations(sorted(partners[a] & partners[b]), 2):
            if _within(a, b) or _within(x, y):
                continue
            if sum(any(link.is_told for link in between[pair]) for pair in ((a, x), (a, y), (b, x), (b, y))) < ENOUGH:
                continue
            for straight, crossed in (((a, x), (b, y)), ((a, y), (b, x))):
                found |= _exchangeable(between[straight], between[crossed])
    return found


def _strays(between: Between, partners: Mapping[Path, set[Path]]) -> dict[Link, Link]:
    """Links from a block of which more goes elsewhere to a block to which more comes from elsewhere."""
    certain = {pair: sum(_leaves(o) for o in some if o.is_told) for pair, some in between.items()}
    best: dict[Path, tuple[int, Path]] = {}
    for (here, there), count in certain.items():
        best[there] = max(best.get(there, (0, here)), (count, here))
    found: dict[Link, Link] = {}
    for here, some in partners.items():
        most, home = max((certain[here, there], there) for there in some)
        for there in some - {home}:
            known, other = best[there]
            if other != here and min(most, known) > certain[here, there]:
                found |= dict.fromkeys(between[here, there], between[other, there][0])
    return found


def _within(a: Path, b: Path) -> bool:
    """Whether one of two stands within the other."""
    size = min(len(a), len(b))
    return a[:size] == b[:size]


def _leaves(link: Link) -> int:
    return max(len(link.left), len(link.right))


def _exchangeable(some: Sequence[Link], others: Sequence[Link]) -> dict[Link, Link]:
    """Links of two pairs of blocks that have one shape, each with the link with which it could change partners."""
    found = {}
    for link in some:
        for other in others:
            if _one_shape(link, other):
                found[link], found[other] = other, link
    return found


def _one_shape(link: Link, other: Link) -> bool:
    alone = all(len(side) == 1 for side in (link.left, link.right, other.left, other.right))
    return alone and link.left[0].signature == other.left[0].signature
