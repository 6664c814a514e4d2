"""From an assignment to links: plain ones with their doubts, conversions of what they leave over, other sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from treealign.align.converting.claims import claimed
from treealign.align.converting.conversions import conversion_scores, conversion_votes, find_conversions
from treealign.align.converting.part_order import is_part_of_whole
from treealign.align.doubting.transposition import turned_blocks
from treealign.align.hinted import Hint
from treealign.align.links import Link
from treealign.align.matching.agreement import Agreement
from treealign.align.matching.assignment import Assignment
from treealign.align.matching.certainty import SHAPE_ONLY, Doubt
from treealign.align.matching.evidence import describe_evidence
from treealign.align.matching.mismatches import find_mismatches
from treealign.align.matching.scoring import Floats, Side
from treealign.align.verdict import Alternative, doubted


def links_of(sides: tuple[Side, Side], assignment: Assignment, found: Mapping[int, Doubt]) -> list[Link]:
    """The pairs of an assignment as plain links, those with a doubt open."""
    left, right = sides[0].patterns, sides[1].patterns
    links = []
    for i, j in assignment.pairs.items():
        if i in assignment.given.pairs and i not in assignment.given.same:
            continue
        doubt = found.get(i)
        link = Link((left[i],), (right[j],), evidence=describe_evidence(sides, i, j))
        links.append(link if doubt is None else doubted(link, *_alternative(sides, doubt)))
    return links


def with_conversions(
    sides: tuple[Side, Side],
    assignment: Assignment,
    links: Sequence[Link],
    away: Mapping[int, Doubt],
    total: Floats,
    hints: Sequence[Hint],
) -> list[Link]:
    """Conversions of what the renames leave over; renames that nothing but a shape speaks for give way to them."""
    left = sides[0].patterns
    weak = {p for link in links if link.reason == SHAPE_ONLY for p in (*link.left, *link.right)}
    weak |= {left[i] for i in turned_blocks(sides[1], assignment, away)}
    weak |= {left[i] for i, j in assignment.pairs.items() if is_part_of_whole(left[i], sides[1].patterns[j])}
    open_ones = {link.left[0] for link in links if not link.certain}
    weak |= {left[i] for i in claimed(*sides, assignment) if left[i] in open_ones}
    strong = {i: j for i, j in assignment.pairs.items() if left[i] not in weak}
    free = (
        [i for i in range(assignment.given.free[0]) if i not in strong],
        [j for j in range(assignment.given.free[1]) if j not in set(strong.values())],
    )
    votes = conversion_votes(*sides, strong)
    scores = conversion_scores(assignment.names, votes)
    away_or_weak = weak | {left[i] for i in away}
    plain = [link for link in links if link.certain and not link.operations and link.left[0] not in away_or_weak]
    modules = frozenset((link.left[0].segments[:-1], link.right[0].segments[:-1]) for link in plain)
    found = find_conversions(*sides, free, scores, total, Agreement(*sides, votes, modules=modules), hints)
    used = {p for link in found for p in (*link.left, *link.right)}
    kept = [link for link in links if not used & {link.left[0], link.right[0]} and not _is_of_whole(link)]
    turned = {left[i]: _alternative(sides, doubt) for i, doubt in away.items()}
    return [doubted(link, *turned[link.left[0]]) if link.left[0] in turned else link for link in kept] + found


def _is_of_whole(link: Link) -> bool:
    """Whether it takes a whole for one of its parts, which nothing confirms: what is not so is no guess either."""
    return not link.certain and is_part_of_whole(link.left[0], link.right[0])


def _alternative(sides: tuple[Side, Side], doubt: Doubt) -> Alternative:
    """A doubt of pairs by position, as one of a link."""
    left, right = sides[0].patterns, sides[1].patterns
    rivals = tuple(left[n] for n in doubt.left), tuple(right[n] for n in doubt.right)
    near = tuple(left[n] for n in doubt.near[0]), tuple(right[n] for n in doubt.near[1])
    return Alternative(doubt.reason, rivals, near)


def resized_links(sides: tuple[Side, Side], assignment: Assignment, links: Sequence[Link]) -> list[Link]:
    """Names that correspond although a size differs; they are renamed, and reported with both shapes."""
    taken = {p for link in links for p in (*link.left, *link.right)}
    # what was found to be the same before the search stands behind the rest, and has no scores: its size is known
    rows, columns = assignment.names.shape
    free = (
        [i for i, p in enumerate(sides[0].patterns[:rows]) if p not in taken],
        [j for j, p in enumerate(sides[1].patterns[:columns]) if p not in taken],
    )
    if not free[0] or not free[1]:
        return []
    matched = {i: j for i, j in assignment.pairs.items() if i not in free[0] and j not in free[1]}
    votes = conversion_votes(*sides, matched)
    scores = conversion_scores(assignment.names, votes)
    found = find_mismatches(*sides, free, scores, Agreement(*sides, votes))
    return [doubted(Link((a,), (b,)), "a size differs") for a, b in found]
