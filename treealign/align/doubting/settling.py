"""What hints settle: doubts that names have raised, where a hint names the very modules.

A hint is a word about names. It does not say how rows are ordered, what the numbers mean, or which way a square matrix
is turned; such doubts stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from treealign.align.converting.part_order import GIVEN
from treealign.align.hints import Hint, speaks_of
from treealign.align.links import Link
from treealign.align.matching.agreement import ELSEWHERE, KINDS, NUMBERS, ROLES, WORDS
from treealign.align.matching.certainty import RIVALLED, SHAPE_ONLY

DOUBTS_OF_NAMES = frozenset({RIVALLED, SHAPE_ONLY, ROLES, WORDS, KINDS, NUMBERS, ELSEWHERE})


def settled_by_hints(links: Sequence[Link], hints: Sequence[Hint]) -> list[Link]:
    """The links, those certain that a hint speaks of and of none of their rivals."""
    if not hints:
        return list(links)
    return [_settled(link, hints) for link in links]


def _settled(link: Link, hints: Sequence[Hint]) -> Link:
    if link.certain or link.reason not in DOUBTS_OF_NAMES:
        return link
    if len(link.left) + len(link.right) > 2 and GIVEN not in link.evidence:
        return link
    own = {id(p) for p in (*link.left, *link.right)}
    others = [p for side in link.rivals for p in side if id(p) not in own]
    said = [hint for hint in hints if speaks_of(hint, link.left, link.right)]
    rivalled = any(speaks_of(h, link.left, others) or speaks_of(h, others, link.right) for h in said)
    return replace(link, certain=True, reason="", rivals=((), ())) if said and not rivalled else link
