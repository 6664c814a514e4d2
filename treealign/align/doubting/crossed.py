"""Two containers whose leaves go to two others crosswise: some of one to each, and of the other to each as well.

The leaves of a block go to one block. Where shapes that only one of two towers has send a tower of the checkpoint to
one of the model, and a name that both sides use for different towers sends the rest of it to the other, the names are
no evidence: what could be exchanged is open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from treealign.align.doubting.transposition import block
from treealign.align.links import Link
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import Alternative, Alternatives, rivals_of

CROSSED = Reason("names", "other leaves of its block go to another block, whose leaves come from both, too")
ENOUGH = 3  # of the four ways that must be taken by a match that is certain otherwise: one may rest on a guess
Path = tuple[str, ...]


def judge_crossed(state: State) -> Alternatives:
    """Matches between two pairs of blocks that cross, where the blocks could be exchanged for them.

    Linear in the number of links, and in the blocks that share a partner quadratic.
    """
    between: dict[tuple[Path, Path], list[Link]] = defaultdict(list)
    for link in state.known:
        if (here := block(link.left[0])) and (there := block(link.right[0])):
            between[here, there].append(link)
    partners: dict[Path, set[Path]] = defaultdict(set)
    for here, there in between:
        partners[here].add(there)
    doubted = _strays(between, partners)
    for a, b in combinations(sorted(path for path, some in partners.items() if len(some) > 1), 2):
        for x, y in combinations(sorted(partners[a] & partners[b]), 2):
            if sum(any(o.certain for o in between[pair]) for pair in ((a, x), (a, y), (b, x), (b, y))) < ENOUGH:
                continue
            for straight, crossed in (((a, x), (b, y)), ((a, y), (b, x))):
                doubted |= _exchangeable(between[straight], between[crossed])
    return {link: Alternative(CROSSED, rivals_of([link, other])) for link, other in doubted.items()}


def _strays(
    between: Mapping[tuple[Path, Path], Sequence[Link]], partners: Mapping[Path, set[Path]]
) -> dict[Link, Link]:
    """Links from a block of which more goes elsewhere to a block to which more comes from elsewhere."""
    certain = {pair: sum(o.certain for o in some) for pair, some in between.items()}
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
