"""Certainty: a question about differences, not a score.

A match is certain when every consistent alternative loses qualified evidence. The alternatives within a class of
comparable patterns are the other assignments of that class, so the question is exact: is the pair in *every* one of
greatest evidence? It is when no cycle of exchanges through the pair costs nothing; the cheapest cycles come from
all-pairs shortest paths (Floyd 1962) on the exchange graph, whose edge from p to q costs the evidence that p's left
member loses by taking q's right member. An unmatched pattern is matched to nothing, which costs and gains nothing.

Qualified evidence: exact words, roles of the vocabulary, ranks in series, the parameter's own name, the leaves
beside it in its module. Where that ties (two towers with the same names inside), the ancestors decide, if other leaves
that are certain without it have settled those ancestors. Similarity and votes rank candidates and settle nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from treealign.align.knowledge.weights import ANCESTORS, BESIDE, MARGIN, SAME_PATH, SETTLED, token_weight
from treealign.align.matching.agreement import Agreement
from treealign.align.matching.assignment import Assignment, Class
from treealign.align.matching.scoring import Floats, Side, Votes, same_path
from treealign.align.reasons import Reason, as_reason

RIVALLED = Reason("names", "nothing that counts separates it from its rivals")
SHAPE_ONLY = Reason("belongs", "nothing but its shape speaks for it")
LARGE = np.float32(1e3)
ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Doubt:
    """A matched pair of patterns, and the rivals that nothing separates from it.

    Attributes
    ----------
    pair : tuple of int
        Left and right pattern, by position.
    left, right : tuple of int
        Rivals on either side, the pair itself included.
    reason : Reason
        What is missing.
    near : tuple of two tuples of int
        Those rivals on either side with which it could be exchanged directly, without a third.
    """

    pair: tuple[int, int]
    left: tuple[int, ...]
    right: tuple[int, ...]
    reason: Reason
    near: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


@dataclass(frozen=True, eq=False)
class Evidence:
    """What each pair of patterns shares that can settle anything, (left, right).

    Attributes
    ----------
    words : array
        Qualified tokens shared, of what is not settled.
    total : array
        The same, with the parameter's own name and the leaves beside it in the module.
    """

    words: Floats
    total: Floats


def gather(left: Side, right: Side, known: Floats | None = None, free: tuple[int, int] | None = None) -> Evidence:
    """Qualified evidence of all pairs, or of the first patterns of either side: (left, right) or `free`.

    `known` is what certain matches have taught about others.
    """
    if free is not None:
        left, right = left.first(free[0]), right.first(free[1])
    words = _shared(left, right)
    total: Floats = words + BESIDE * _equal(left.companions, right.companions)
    total += _equal(_parameters(left), _parameters(right)) + SAME_PATH * same_path(left, right)
    return Evidence(words, total if known is None else total + known)


def doubts(
    left: Side, right: Side, assignment: Assignment, evidence: Evidence, mirrored: Floats | None = None
) -> dict[int, Doubt]:
    """The doubted pairs, by left pattern. Matched pairs that are not here are certain.

    `mirrored` is positive for pairs at mirrored places of lists, whose numbers differ for that reason, (left, right).
    """
    found, votes = _rivalled(left, right, assignment, evidence)
    agreement = Agreement(left, right, votes, mirrored)
    for i, j in assignment.pairs.items():
        if i in found:
            continue
        if not _supported(i, j, left, right, assignment, votes):
            found[i] = Doubt((i, j), (i,), (j,), SHAPE_ONLY)
        elif objection := agreement.objection(i, j):
            found[i] = Doubt((i, j), (i,), (j,), as_reason(objection))
    return found


def _rivalled(left: Side, right: Side, assignment: Assignment, evidence: Evidence) -> tuple[dict[int, Doubt], Votes]:
    """Pairs with rivals that nothing separates from them, and the votes of all others."""
    votes = Votes(left, right)
    settled: frozenset[int] = frozenset()
    for _ in range(ROUNDS):
        found, previous = _rivals(assignment, evidence.total, votes), settled
        settled = frozenset(i for i in assignment.pairs if i not in found)
        if settled == previous:
            break
        votes.count([(i, assignment.pairs[i]) for i in sorted(settled)], [1.0] * len(settled))
    return found, votes


def _rivals(assignment: Assignment, total: Floats, votes: Votes) -> dict[int, Doubt]:
    found: dict[int, Doubt] = {}
    for c in assignment.classes:
        if len(c.left) == len(c.right) == 1:
            continue
        table = total[np.ix_(c.left, c.right)] + ANCESTORS * votes.support(c.left, c.right)
        found.update(_in_class(c, table, assignment.pairs))
    return found


def _in_class(c: Class, table: Floats, pairs: dict[int, int]) -> dict[int, Doubt]:
    """The doubted pairs of one class: those on a cycle of exchanges that loses nothing that counts."""
    lefts, rights = _members(c, pairs)
    cost = _exchange_costs(c, table, lefts, rights)
    way = cost.copy()
    for k in range(len(way)):
        np.minimum(way, way[:, k, None] + way[None, k, :], out=way)
        np.maximum(way, -LARGE, out=way)
    around = way + way.T
    found = {}
    for p, (i, j) in enumerate(zip(lefts, rights, strict=True)):
        if i < 0 or j < 0:
            continue
        rivals = [q for q in range(len(lefts)) if q != p and around[p, q] <= MARGIN]
        if rivals:
            left = tuple(sorted({i} | {lefts[q] for q in rivals if lefts[q] >= 0}))
            right = tuple(sorted({j} | {rights[q] for q in rivals if rights[q] >= 0}))
            direct = [q for q in rivals if cost[p, q] + cost[q, p] <= MARGIN]
            near = (
                tuple(lefts[q] for q in direct if lefts[q] >= 0),
                tuple(rights[q] for q in direct if rights[q] >= 0),
            )
            found[i] = Doubt((i, j), left, right, RIVALLED, near)
    return found


def _members(c: Class, pairs: dict[int, int]) -> tuple[list[int], list[int]]:
    """Matched pairs, then the unmatched of either side with -1 for nothing."""
    matched = [(int(i), pairs[int(i)]) for i in c.left if int(i) in pairs]
    taken = {j for _, j in matched}
    lefts = [i for i, _ in matched] + [int(i) for i in c.left if int(i) not in pairs]
    rights = [j for _, j in matched] + [-1] * (len(lefts) - len(matched))
    free = [int(j) for j in c.right if int(j) not in taken]
    return lefts + [-1] * len(free), rights + free


def _exchange_costs(c: Class, table: Floats, lefts: list[int], rights: list[int]) -> Floats:
    row = {int(i): at for at, i in enumerate(c.left)}
    column = {int(j): at for at, j in enumerate(c.right)}
    size = len(lefts)
    padded = np.zeros((len(c.left) + 1, len(c.right) + 1), np.float32)
    padded[:-1, :-1] = table
    r = np.array([row.get(i, -1) for i in lefts])
    k = np.array([column.get(j, -1) for j in rights])
    gained = padded[r[:, None], k[None, :]]
    cost: Floats = np.diagonal(gained)[:, None] - gained
    cost[np.arange(size), np.arange(size)] = LARGE
    return cost


def _supported(i: int, j: int, left: Side, right: Side, assignment: Assignment, votes: Votes) -> bool:
    """Something besides the shape says that the two belong together at all.

    Words near the leaf or the whole path, the words of their module's other leaves, or ancestors that other modules
    have settled and a word in common, be it a generic one.
    """
    if _ends_alike(left.patterns[i].segments, right.patterns[j].segments):
        return True
    if _near_words(left, i) & _near_words(right, j):
        return True
    mine, theirs = left.patterns[i].segments[:-1], right.patterns[j].segments[:-1]
    beside = [u for u in left.below[mine] if u != i and u in assignment.pairs]
    partners = [(u, assignment.pairs[u]) for u in beside]
    if any(right.patterns[v].segments[:-1] == theirs and _share_words(left, right, u, v) for u, v in partners):
        return True
    if votes.by_others(i, j) <= SETTLED:
        return False
    above = [{t.text for t in s.tokens[n] if t.qualified and t.depth == 2} for s, n in ((left, i), (right, j))]
    if all(above) and not above[0] & above[1] and _hold_nothing_else(votes, i, j):
        return False  # what holds the two modules bears two names, and nothing else in it is known
    generic = {t.text for t in left.tokens[i] if t.depth == 1} & {t.text for t in right.tokens[j] if t.depth == 1}
    return bool(generic) or _share_words(left, right, i, j)


def _hold_nothing_else(votes: Votes, i: int, j: int) -> bool:
    """Whether no other match is known of what holds the module of either leaf, where that is not the root."""
    of_left, of_right, _ = votes.matched
    held = ((votes.left[i], of_left), (votes.right[j], of_right))
    return all(ids[1:2].max(initial=-1) >= 0 and matched[ids[1]] <= matched[ids[0]] for ids, matched in held)


def _ends_alike(mine: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """Whether one is the whole path of the other below levels that only this one has: no name in it differs."""
    size = min(len(mine), len(theirs))
    return mine == theirs or (size > 1 and mine[-size:] == theirs[-size:])


def _share_words(left: Side, right: Side, i: int, j: int) -> bool:
    """Any qualified token at all: each counts more than the margin."""
    mine = {t.text for t in left.tokens[i] if t.qualified}
    return any(t.text in mine for t in right.tokens[j] if t.qualified)


def _near_words(side: Side, at: int) -> set[str]:
    return {t.text for t in side.tokens[at] if t.qualified and t.depth <= (1 if t.ordinal else 2)}


def _equal(a: Sequence[Hashable], b: Sequence[Hashable]) -> Floats:
    kinds = {k: at for at, k in enumerate(dict.fromkeys([*a, *b]))}
    left, right = (np.array([kinds[k] for k in side], np.int32) for side in (a, b))
    same: Floats = (left[:, None] == right[None, :]).astype(np.float32)
    return same


def _parameters(side: Side) -> list[tuple[str, ...]]:
    """The parameter's own name in words: `gamma` is `weight`, `beta` is `bias`."""
    return [tuple(t.text for t in ts if t.depth == 0 and not t.ordinal) for ts in side.tokens]


def _shared(left: Side, right: Side) -> Floats:
    """How many qualified tokens each pair of patterns shares; two neighbouring words count half."""
    texts = sorted({t.text for side in (left, right) for ts in side.tokens for t in ts if t.qualified})
    ids = {text: at for at, text in enumerate(texts)}
    weight: Floats = np.array([token_weight(t) for t in texts], np.float32)
    a, b = (_qualified(side, ids) for side in (left, right))
    result: Floats = np.asarray((a * weight) @ b.T, np.float32)
    return result


def _qualified(side: Side, ids: dict[str, int]) -> Floats:
    table: Floats = np.zeros((len(side.patterns), len(ids)), np.float32)
    for row, ts in enumerate(side.tokens):
        for t in ts:
            if t.qualified:
                table[row, ids[t.text]] = 1
    return table
