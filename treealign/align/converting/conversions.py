"""Conversions: what renames leave over, combined by shape algebra inside aligned subtrees.

A whole on one side (fused, stacked or sharded) is made of parts on the other: siblings with one parameter name, whose
shapes add up. Names choose between several ways to add up, and give the order of the parts; where nothing gives it, the
conversion is a guess and says so. Stated once for both directions: the parts may stand on either side.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from treealign.align.converting.across import across
from treealign.align.converting.claims import roles_of
from treealign.align.converting.part_cells import Cells, cell_groups
from treealign.align.converting.part_order import is_composed, order_parts, series_order
from treealign.align.converting.rearrangements import IN_HEADS, TURNS, rearrangements, squeezes
from treealign.align.converting.rivals import RIVALS, has_rival
from treealign.align.converting.shape_algebra import joined, joined_then_turned, shards
from treealign.align.converting.turned_joins import join_orders
from treealign.align.hinted import Hint
from treealign.align.knowledge.weights import COMPOSED, MIN_SCORE
from treealign.align.links import Group, Link, swapped
from treealign.align.matching.agreement import Agreement
from treealign.align.matching.scoring import Floats, Side, Votes
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason, as_reason
from treealign.align.verdict import doubted
from treealign.mapping.operations import Operation, Permute, Reshape, Stack, Unstack

MAX_PARTS = 4  # gate, q, k and v
MAX_SIBLINGS = 10
Path = tuple[str, ...]
SHARDS = Reason("belongs", "repeats may be joined for other reasons than being shards of one tensor")


class Whole(NamedTuple):
    """A way to make one pattern of others: positions of the parts, operations, and how well names agree."""

    score: float
    whole: int
    parts: tuple[int, ...]
    stacked: bool


def find_conversions(
    left: Side,
    right: Side,
    free: tuple[Sequence[int], Sequence[int]],
    scores: Floats,
    total: Floats,
    agreement: Agreement,
    hints: Sequence[Hint] = (),
) -> list[Link]:
    """All conversions between unmatched patterns.

    Parameters
    ----------
    left, right : Side
        Checkpoint and model.
    free : two sequences of int
        The unmatched patterns of either side.
    scores : array
        Names and votes of all pairs, (left, right).
    total : array
        Qualified evidence of all pairs, (left, right).
    agreement : Agreement
        Judges whether names and ancestors allow a match.
    hints : sequence of Hint
        What settles the order of parts.

    """
    taken: tuple[set[int], set[int]] = (set(), set())
    proposals = [(w, False) for w in _proposals(right, left, free[1], free[0], scores.T)]
    proposals += [(w, True) for w in _proposals(left, right, free[0], free[1], scores)]
    links: list[Link] = []
    late: list[tuple[Whole, bool, list[Link]]] = []
    for w, reverse in sorted(proposals, key=lambda item: (-item[0].score, item[1], item[0].whole, item[0].parts)):
        if not _are_free(taken, w, reverse):
            continue
        sides = (left, right) if reverse else (right, left)
        made = _link(sides[0].patterns[w.whole], [sides[1].patterns[p] for p in w.parts], reverse, hints)
        objection = agreement.conversion_objection(w.parts, w.whole, not reverse)
        objection = objection or (RIVALS if has_rival(*sides, w.whole, w.parts) else "")
        if made and len(w.parts) == 1 and not any(isinstance(o, Stack | Unstack) for o in made[0].operations):
            objection = objection or SHARDS
        made = [_doubted(link, IN_HEADS) if _is_cut_in_heads(link) else link for link in made]
        made = [_doubted(link, TURNS) if _is_turned_somehow(link) else link for link in made]
        if objection:
            made = [_doubted(link, as_reason(objection)) for link in made]
        if objection and made and _is_of_another_layout(made[0]):
            late.append((w, reverse, made))  # what one tensor alone can fill comes first
        elif made:
            _take(taken, w, reverse)
            links += made
    links += rearrangements(left, right, free, taken, scores, total, agreement)
    for w, reverse, made in late:
        if _are_free(taken, w, reverse):
            _take(taken, w, reverse)
            links += made
    return links


def _are_free(taken: tuple[set[int], set[int]], w: Whole, reverse: bool) -> bool:
    wholes, parts = (taken[0], taken[1]) if reverse else (taken[1], taken[0])
    return w.whole not in wholes and not parts & set(w.parts)


def _take(taken: tuple[set[int], set[int]], w: Whole, reverse: bool) -> None:
    wholes, parts = (taken[0], taken[1]) if reverse else (taken[1], taken[0])
    wholes.add(w.whole)
    parts.update(w.parts)


def _is_of_another_layout(link: Link) -> bool:
    """Whether the parts are given the layout of the whole before they are joined."""
    return any(isinstance(o, Permute | Reshape) for o in link.operations)


def _is_cut_in_heads(link: Link) -> bool:
    """Whether parts are in another number of dimensions than the whole: which rows make a head, shapes do not show."""
    return any(isinstance(o, Reshape) for o in link.operations) and not squeezes(link.operations)


def _is_turned_somehow(link: Link) -> bool:
    """Whether the whole is turned, and equal sizes leave several orders of its dimensions."""
    return any(isinstance(o, Permute) for o in link.operations) and len(join_orders(link)) > 1


def _doubted(link: Link, reason: Reason) -> Link:
    """The link, doubted for a reason, and for what it was doubted before."""
    beneath = (*link.beneath, link.reason) if isinstance(link.reason, Reason) else link.beneath
    return doubted(link, reason, beneath=beneath)


def _proposals(
    wholes: Side, parts: Side, free_wholes: Sequence[int], free_parts: Sequence[int], scores: Floats
) -> Iterator[Whole]:
    families = _families(parts, free_parts).values()
    some = [c for members in families for c in _combinations(members, parts) if not _has_an_output(parts, c)]
    some += across(parts, free_parts)
    lists = _lists([wholes.patterns[w] for w in free_wholes])
    for w in free_wholes:
        pattern = wholes.patterns[w]
        for combination in some:
            made_of = [parts.patterns[p] for p in combination]
            stacked = _makes(made_of, pattern)
            if stacked is None or (len(made_of) == 1 and _members(made_of[0], pattern, lists)):
                continue
            score = float(np.mean([scores[w, p] for p in combination])) + 0.05 * len(combination)
            score += COMPOSED * is_composed(pattern, made_of)
            if score >= MIN_SCORE:
                yield Whole(score, w, combination, stacked)


def _has_an_output(side: Side, members: Sequence[int]) -> bool:
    """Whether an attention's output stands beside its inputs: no whole is made of these."""
    found = {role for at in members for role in roles_of(side, at)} if len(members) > 1 else set()
    return "o" in found and bool(found & {"q", "k", "v"})


def _lists(patterns: Sequence[Pattern]) -> Counter[Path]:
    """How many members the lists have in which patterns stand by themselves, each by its path without one number."""
    return Counter(path for p in patterns for path in _without_a_number(p))


def _without_a_number(p: Pattern) -> Iterator[Path]:
    for at, segment in enumerate(p.segments):
        if segment.isdigit():
            yield (*p.segments[:at], "#", *p.segments[at + 1 :])


def _members(part: Pattern, whole: Pattern, lists: Counter[Path]) -> bool:
    """Whether the repeats of the one are as many as the members of a list in which the other stands.

    Member goes to member then, in whatever way: all repeats do not make one of them.
    """
    return any(lists[path] == len(part.cells) > 1 for path in _without_a_number(whole))


def _families(side: Side, free: Sequence[int]) -> dict[Any, list[int]]:
    """Unmatched siblings: leaves of one name in modules of one parent."""
    found: dict[Any, list[int]] = defaultdict(list)
    for at in free:
        segments = side.patterns[at].segments
        found[segments[:-2], segments[-1]].append(at)
        if len(segments) > 1 and _is_plain(segments[-1]):
            continue
        # parameters without a module of their own: `experts.gate_proj`, `attn.q_bias`
        found[segments[:-1], None].append(at)
    return found


def _is_plain(name: str) -> bool:
    """Whether torch names so what a module holds one of: no two of them are parts of anything."""
    return name in {"weight", "bias", "running_mean", "running_var"}


def _combinations(members: list[int], side: Side) -> Iterator[tuple[int, ...]]:
    if len(members) > 1 and series_order([side.patterns[p] for p in members]) is not None:
        yield tuple(members)
    few = members[:MAX_SIBLINGS]
    for size in range(1, min(MAX_PARTS, len(few)) + 1):
        yield from combinations(few, size)


def _makes(parts: Sequence[Pattern], whole: Pattern) -> bool | None:
    """Whether the parts make the whole by their shapes: True if stacked or sharded first, None if not at all."""
    extra = parts[0].captures - whole.captures
    if extra not in (0, 1) or any(p.captures != parts[0].captures for p in parts) or (extra == 0 and len(parts) == 1):
        return None
    if any(p.nature != whole.nature for p in parts) or sum(p.numbers or 0 for p in parts) != whole.numbers:
        return None
    for group in cell_groups(parts, whole):
        if group is None or _operations(parts, whole, group) is None:
            return None
    return bool(extra)


def _operations(parts: Sequence[Pattern], whole: Pattern, cells: Cells) -> tuple[Operation, ...] | None:
    goal = whole.shapes[cells.whole]
    shapes = [{p.shapes[k] for k in keys} for p, keys in zip(parts, cells.parts, strict=True)]
    if goal is None or any(len(s) != 1 or None in s for s in shapes):
        return None
    first = [next(iter(s)) for s in shapes]
    sizes = [s for s in first if s is not None]
    counts = {len(keys) for keys in cells.parts}
    if len(counts) != 1:
        return None
    count = counts.pop()
    if parts[0].captures == whole.captures:
        return joined(sizes, goal)
    if len(sizes) == 1 and len(sizes[0]) == len(goal):
        return shards(sizes[0], goal, count) or next(iter(joined_then_turned(sizes, goal, count)), None)
    return joined(sizes, goal, count)


def _link(whole: Pattern, parts: list[Pattern], reverse: bool, hints: Sequence[Hint]) -> list[Link]:
    """One link for each list of operations: repeats of different sizes are told apart."""
    order = order_parts(whole, parts, hints)
    parts = [parts[n] for n in order.positions]
    by_operations: dict[tuple[Operation, ...], list[Group]] = defaultdict(list)
    for cells in cell_groups(parts, whole):
        operations = None if cells is None else _operations(parts, whole, cells)
        if cells is None or operations is None:
            return []
        positions = tuple(p.cells[k] for p, keys in zip(parts, cells.parts, strict=True) for k in keys)
        by_operations[operations].append(Group(positions, (whole.cells[cells.whole],)))
    certain = order.certain and not order.reason
    evidence = (f"shapes add up: {len(parts)} parts", *order.evidence)
    links = []
    made, whole_side = tuple(parts), (whole,)
    for operations, groups in by_operations.items():
        link = Link(made, whole_side, operations, tuple(groups), evidence=evidence, rivals=(made, whole_side))
        link = link if certain else doubted(link, order.reason)
        links.append(swapped(link) if reverse else link)
    return links


def conversion_votes(left: Side, right: Side, pairs: Mapping[int, int]) -> Votes:
    """Votes of all given matches."""
    votes = Votes(left, right)
    votes.count(list(pairs.items()), [1.0] * len(pairs))
    return votes


def conversion_scores(names: Floats, votes: Votes) -> Floats:
    """Names plus the support of ancestors by matches, of the patterns of which `names` speaks."""
    first = np.arange(names.shape[0], dtype=np.int32), np.arange(names.shape[1], dtype=np.int32)
    result: Floats = names + votes.bonus(*first) if names.size else names
    return result
