"""Which pattern goes to which: one assignment in each class of comparable patterns, repeated with votes to a fixpoint.

Comparable patterns (equal cells) fall into classes that share nothing, so the assignment splits into many small ones,
each solved exactly (scipy's `linear_sum_assignment`). After each round the decided pairs vote for their ancestors; the
rounds end when nothing changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from treealign.align.knowledge.weights import (
    COMPANION_PENALTY,
    OTHER_PARAMETER,
    SAME_PATH_BONUS,
    SECOND_COPY,
    VOTE_WEIGHT,
)
from treealign.align.matching.scoring import Floats, Ints, Side, Votes, same_path
from treealign.align.matching.similarity import name_scores
from treealign.align.patterns import Pattern
from treealign.align.words import Token, vocabulary

ROUNDS = 6


@dataclass(frozen=True, eq=False)
class Class:
    """Patterns of both sides whose cells agree."""

    left: Ints
    right: Ints


class Given(NamedTuple):
    """What is settled before an assignment.

    Attributes
    ----------
    pairs : mapping of int to int
        Settled patterns that belong together: they vote.
    free : tuple of int
        How many patterns of either side are to be matched; those after them are settled.
    scores : array or None
        Added to the scores of all pairs, (left, right).
    same : frozenset of int
        Settled patterns of the left that are obviously the same as their partners; others have a link already.
    """

    pairs: Mapping[int, int]
    free: tuple[int, int]
    scores: Floats | None = None
    same: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Assignment:
    """The outcome: for each pattern of the left its partner on the right.

    Attributes
    ----------
    pairs : dict
        Left pattern to right pattern, by position.
    classes : list of Class
        The classes of comparable patterns, in which rivals are to be sought.
    scores : array
        Final scores of what is not settled, (left, right); only entries within a class mean something.
    names : array
        The part of the scores that comes from names alone.
    given : Given
        What was settled before; its pairs are among `pairs`.
    """

    pairs: dict[int, int]
    classes: list[Class]
    scores: Floats
    names: Floats
    given: Given


def comparable(left: Sequence[Pattern], right: Sequence[Pattern]) -> list[Class]:
    """Classes of patterns with equal cells; those without a partner of exactly the same indices by rank of index."""
    exact = _classes(left, right, [p.signature for p in left], [p.signature for p in right])
    lone = {p.signature for p in left} ^ {p.signature for p in right}
    a = [at for at, p in enumerate(left) if p.signature in lone]
    b = [at for at, p in enumerate(right) if p.signature in lone]
    ranked = _classes(a, b, [left[i].ranked for i in a], [right[j].ranked for j in b])
    rows, columns = np.array(a, np.int32), np.array(b, np.int32)
    return exact + [Class(rows[c.left], columns[c.right]) for c in ranked]


def _classes(left: Sequence[Any], right: Sequence[Any], of_left: list[Any], of_right: list[Any]) -> list[Class]:
    groups: dict[Any, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for at, key in enumerate(of_left):
        groups[key][0].append(at)
    for at, key in enumerate(of_right):
        groups[key][1].append(at)
    return [Class(np.array(a, np.int32), np.array(b, np.int32)) for a, b in groups.values() if a and b]


def assign(left: Side, right: Side, known: Floats | None = None, given: Given | None = None) -> Assignment:
    """Match the patterns of two sides.

    Parameters
    ----------
    left, right : Side
        Checkpoint and model.
    known : array, optional
        What an earlier assignment has taught about pairs, (left, right), added to their scores.
    given : Given, optional
        What is settled before; nothing by default.

    Returns
    -------
    Assignment
        Every class assigned as far as its smaller side reaches and names or structure speak for the pair at all.

    """
    given = given or Given({}, (len(left.patterns), len(right.patterns)))
    classes = comparable(left.patterns[: given.free[0]], right.patterns[: given.free[1]])
    names, base = _base(left.first(given.free[0]), right.first(given.free[1]))
    for more in (known, given.scores):
        base = base if more is None else base + more[: given.free[0], : given.free[1]]
    votes = Votes(left, right)
    votes.count(list(given.pairs.items()), [1.0] * len(given.pairs))
    scores = _voted(base, classes, votes) if given.pairs else base
    pairs: dict[int, int] = {}
    for _ in range(ROUNDS if classes else 0):
        previous = pairs
        pairs, strength = _solve(classes, scores)
        if pairs == previous:
            break
        decided = [*given.pairs.items(), *pairs.items()]
        votes.count(decided, [1.0] * len(given.pairs) + [strength[i] for i in pairs])
        scores = _voted(base, classes, votes)
    return Assignment({**given.pairs, **pairs}, classes, scores, names, given)


def _base(left: Side, right: Side) -> tuple[Floats, Floats]:
    """Scores from names alone, and with what else does not change from round to round."""
    names = name_scores(left, right)
    base = names - COMPANION_PENALTY * _companions_differ(left, right) + SAME_PATH_BONUS * same_path(left, right)
    base = base - OTHER_PARAMETER * _parameters_differ(left, right)
    return names, base - SECOND_COPY * (_second_copies(left)[:, None] != _second_copies(right)[None, :])


def _voted(base: Floats, classes: Sequence[Class], votes: Votes) -> Floats:
    scores = base.copy()
    for c in classes:
        scores[np.ix_(c.left, c.right)] += VOTE_WEIGHT * votes.bonus(c.left, c.right)
    return scores


def _companions_differ(left: Side, right: Side) -> Floats:
    kinds = {k: at for at, k in enumerate(dict.fromkeys(left.companions + right.companions))}
    a = np.array([kinds[k] for k in left.companions])
    b = np.array([kinds[k] for k in right.companions])
    result: Floats = (a[:, None] != b[None, :]).astype(np.float32)
    return result


def _parameters_differ(left: Side, right: Side) -> Floats:
    """1 where one is a weight and the other a bias."""
    a, b = (np.array([_parameter(ts) for ts in side.tokens], np.int8) for side in (left, right))
    result: Floats = (a[:, None] * b[None, :] < 0).astype(np.float32)
    return result


def _parameter(tokens: Sequence[Token]) -> int:
    words = {t.text for t in tokens if t.depth == 0}
    return int("weight" in words) - int("bias" in words)


def _second_copies(side: Side) -> npt.NDArray[np.bool_]:
    secondary = vocabulary().secondary
    return np.array([any(t.text in secondary for t in ts) for ts in side.tokens], bool)


def _solve(classes: list[Class], scores: Floats) -> tuple[dict[int, int], dict[int, float]]:
    """The best assignment of every class, and how decided each pair is, in 0..1."""
    from scipy.optimize import linear_sum_assignment

    pairs: dict[int, int] = {}
    strength: dict[int, float] = {}
    for c in classes:
        table = scores[np.ix_(c.left, c.right)]
        rows, columns = linear_sum_assignment(table, maximize=True)
        for r, k in zip(rows, columns, strict=True):
            i = int(c.left[r])
            pairs[i] = int(c.right[k])
            strength[i] = _margin(table, r, k)
    return pairs, strength


def _margin(table: Floats, row: int, column: int) -> float:
    """How far the pair is ahead of the best rival of either of its two members."""
    if table.size == 1:
        return 1.0
    mine = float(table[row, column])
    others = [np.delete(table[row], column).max(initial=-1.0), np.delete(table[:, column], row).max(initial=-1.0)]
    return min(max((mine - max(map(float, others))) / 0.3, 0.02), 1.0)
