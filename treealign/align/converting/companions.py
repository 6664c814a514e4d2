"""All leaves of a module go to one module: a bias that is left over goes where its weight went.

A linear of one library is a convolution over one point of another: the weight is reshaped and the bias is not. What
is open about the weight is open about the bias, and one answer settles both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from treealign.align.links import Link
from treealign.align.patterns import Digest, Pattern
from treealign.align.reasons import about
from treealign.align.verdict import doubted
from treealign.align.words import tokens

Path = tuple[str, ...]
TOGETHER = "the leaves beside it"


def with_companions(links: Sequence[Link], left: Sequence[Pattern], right: Sequence[Pattern]) -> list[Link]:
    """The links, and those of leaves that are left over in modules of which another leaf has a partner.

    Linear in the number of patterns.
    """
    taken = {p for link in links for p in (*link.left, *link.right)}
    partners: dict[tuple[Path, Digest], list[Link]] = defaultdict(list)
    for link in links:
        if len(link.left) == len(link.right) == 1:
            partners[link.left[0].segments[:-1], link.left[0].indices].append(link)
    free: dict[tuple[Path, str, Digest], list[Pattern]] = defaultdict(list)
    for q in right:
        if q not in taken:
            free[q.segments[:-1], _parameter(q), q.signature].append(q)
    found = list(links)
    for p in left:
        beside = partners.get((p.segments[:-1], p.indices), []) if p not in taken else []
        goals = {link.right[0].segments[:-1] for link in beside}
        there = (
            free.pop((next(iter(goals)), _parameter(p), p.signature), []) if len(goals) == 1 and p.segments[:-1] else []
        )
        if len(there) == 1:
            found.append(_beside(beside[0], p, there[0]))
    return found


def _beside(link: Link, p: Pattern, q: Pattern) -> Link:
    """A plain match that stands and falls with another."""
    named = not link.certain and about(link.reason) in ("names", "belongs")
    made = Link((p,), (q,), evidence=(TOGETHER,))
    return doubted(made, link.reason, ((p,), (q,))) if named else made


def _parameter(p: Pattern) -> str:
    """The parameter's own name in the field's words: `gamma` is `weight`."""
    return " ".join(
        sorted(t.text for t in tokens(p.segments[-2:]) if t.depth == 0 and not t.ordinal and t.text[0] != "=")
    )
