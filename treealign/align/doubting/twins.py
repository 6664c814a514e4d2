"""Two wholes of one block, of one shape, whose parts are of one shape, too: which is made of which parts.

Shapes and the names of the parts (q, k, v) are the same for both, so something else must tell: a word that a whole has
in common with its own parts and not with the other's, or a leaf of its module that goes to the module of its parts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations

from treealign.align.doubting.transposition import block
from treealign.align.links import Link, joining
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import Alternative, Alternatives, rivals_of
from treealign.align.words import tokens

TWINS = Reason(
    "names", "another whole of its block is made of parts of the same sizes, and no name tells which of which"
)
Path = tuple[str, ...]


def judge_twins(state: State) -> Alternatives:
    """Joins and splits of which two in one block could change partners; quadratic in those of one block and shape."""
    groups: dict[object, list[Link]] = defaultdict(list)
    for link in state.known:
        if len(link.left) + len(link.right) > 2:
            joined = joining(link)
            kinds = (p.signature for p in (*joined.right, *joined.left))
            groups[joined is link, block(joined.right[0]), block(joined.left[0]), tuple(kinds)].append(link)
    modules = {
        (p.holder, q.holder)
        for link in state.known
        if link.certain and len(link.left) == len(link.right) == 1
        for p, q in [(link.left[0], link.right[0])]
    }
    pairs = (pair for group in groups.values() for pair in combinations(group, 2))
    # of one pattern whose repeats differ in size there is a match for each size
    found = [(a, b) for a, b in pairs if (a.left, a.right) != (b.left, b.right) and not _told(a, b, modules)]
    return {link: Alternative(TWINS, rivals_of(pair)) for pair in found for link in pair}


def _told(a: Link, b: Link, modules: set[tuple[Path, Path]]) -> bool:
    """Whether something says that neither is made of the other's parts."""
    left, right = ([_words(side) for side in sides] for sides in ((a.left, b.left), (a.right, b.right)))
    straight = len(left[0] & right[0]) + len(left[1] & right[1])
    crossed = len(left[0] & right[1]) + len(left[1] & right[0])
    if straight > crossed:
        return True
    here, there = ([{p.holder for p in side} for side in sides] for sides in ((a.left, b.left), (a.right, b.right)))
    ways = [
        any((x, y) in modules for x in here[n] - here[1 - n] for y in there[m] - there[1 - m])
        for n in (0, 1)
        for m in (0, 1)
    ]
    return straight == crossed and (ways[0] or ways[3]) and not (ways[1] or ways[2])


def _words(side: Iterable[Pattern]) -> set[str]:
    """What the leaves of one side of a match are called within their block."""
    return {t.text for p in side for t in tokens(p.named[len(block(p)) :]) if t.qualified and " " not in t.text}
