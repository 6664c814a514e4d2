"""Scores of pairs of patterns: names, roles and structure, as dense matrices.

All of it ranks candidates; what is certain is decided elsewhere (`certainty`), by differences and not by scores.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from treealign.align.hinted import contains
from treealign.align.matching.series import companions, with_series
from treealign.align.matching.sublayers import with_functions, with_norms_apart
from treealign.align.patterns import Pattern
from treealign.align.words import Token, tokens

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
# how much a word counts by its distance from the parameter: its module's own name most, far ancestors least
DEPTH_WEIGHT = (0.8, 1.0, 0.75, 0.55, 0.4, 0.3, 0.25, 0.2)
GENERIC_WEIGHT = 0.3
PAIR_WEIGHT = 0.5
HINT_WEIGHT = 8.0
NAME_WEIGHT = 0.6
SAME_PATH = 0.6  # added where the two paths are one and the same
ROLE_WEIGHT = 1.3


@dataclass(frozen=True, eq=False)
class Side:
    """The patterns of one side, with what scoring needs of them.

    Attributes
    ----------
    patterns : list of Pattern
        The units.
    tokens : list of tuple of Token
        Their words and roles.
    """

    patterns: Sequence[Pattern]
    tokens: Sequence[tuple[Token, ...]]

    @classmethod
    def of(cls, patterns: Sequence[Pattern], ordered: bool, hints: Sequence[tuple[str, ...]] = ()) -> Side:
        """Read the names of all patterns; `hints` are this side's runs of segments."""
        named = with_series(patterns, [tokens(path) for path in with_functions(patterns)], ordered)
        named = with_norms_apart(patterns, named)
        if hints:
            named = [ts + _hinted(p, hints) for p, ts in zip(patterns, named, strict=True)]
        return cls(patterns, named)

    @cached_property
    def frequency(self) -> Counter[str]:
        """In how many patterns each token occurs."""
        return Counter(t for ts in self.tokens for t in {x.text for x in ts})

    @cached_property
    def ancestors(self) -> tuple[Ints, list[str]]:
        """Ids of the ancestor nodes of each pattern, nearest first, padded with -1, and the nodes by id."""
        ids: dict[str, int] = {}
        rows = []
        for p in self.patterns:
            paths = [".".join(p.segments[:n]) for n in range(len(p.segments) - 1, 0, -1)]
            rows.append([ids.setdefault(x, len(ids)) for x in paths])
        width = max((len(r) for r in rows), default=1) or 1
        table = np.full((len(rows), width), -1, np.int32)
        for at, row in enumerate(rows):
            table[at, : len(row)] = row
        return table, list(ids)

    @cached_property
    def below(self) -> dict[tuple[str, ...], list[int]]:
        """The patterns below each node, by its path."""
        found: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for at, p in enumerate(self.patterns):
            for depth in range(1, len(p.segments) + 1):
                found[p.segments[:depth]].append(at)
        return found

    @cached_property
    def companions(self) -> list[tuple[int, ...]]:
        """What stands beside each pattern in its module."""
        return companions(self.patterns)


def _hinted(p: Pattern, hints: Sequence[tuple[str, ...]]) -> tuple[Token, ...]:
    """A word that only the two sides of one hint share."""
    return tuple(Token(f"!{n}", 1, True) for n, run in enumerate(hints) if contains(p.segments, run))


def token_weights(left: Side, right: Side) -> dict[str, float]:
    """How much sharing each token tells: rare tokens more than common ones, roles more than words."""
    total = len(left.patterns) + len(right.patterns)
    frequency = left.frequency + right.frequency
    kinds = {t.text: t for side in (left, right) for ts in side.tokens for t in ts}
    top = math.log(1 + total)
    weights = {}
    for text, token in kinds.items():
        rarity = 0.25 + 0.75 * math.log((1 + total) / frequency[text]) / top
        if text[0] == "!":
            weights[text] = HINT_WEIGHT
            continue
        weights[text] = rarity * _kind_weight(token)
    return weights


def _kind_weight(token: Token) -> float:
    if token.text[0] == "@":
        return ROLE_WEIGHT
    if " " in token.text:
        return PAIR_WEIGHT
    if token.text[0] == "=":
        return NAME_WEIGHT
    return 1.0 if token.qualified or token.ordinal else GENERIC_WEIGHT


def same_path(left: Side, right: Side) -> Floats:
    """1 where the two paths are one and the same, else 0.

    Not where both stand in series of equal length at different ranks: `{norm0, norm1}` against `{norm1, norm2}`.
    """
    places = {p.template: at for at, p in enumerate(right.patterns)}
    same: Floats = np.zeros((len(left.patterns), len(right.patterns)), np.float32)
    for i, p in enumerate(left.patterns):
        j = places.get(p.template)
        if j is not None and not _shifted(left.tokens[i], right.tokens[j]):
            same[i, j] = 1
    return same


def _shifted(mine: Sequence[Token], theirs: Sequence[Token]) -> bool:
    """A rank in a series of as many members, and another rank."""
    ranks = [{(*t.text.partition("/")[::2], t.depth) for t in ts if t.text[0] == "%"} for ts in (mine, theirs)]
    lengths = {(members, depth) for _, members, depth in ranks[0]} & {(m, d) for _, m, d in ranks[1]}
    return any(
        not {r for r, *key in ranks[0] if tuple(key) == k} & {r for r, *key in ranks[1] if tuple(key) == k}
        for k in lengths
    )


def name_scores(left: Side, right: Side) -> Floats:
    """Cosine of weighted tokens, (patterns left, patterns right), in 0..1."""
    weights = token_weights(left, right)
    ids = {text: at for at, text in enumerate(weights)}
    a, b = (_incidence(side, ids, weights) for side in (left, right))
    scores: Floats = a @ b.T
    return scores


def _incidence(side: Side, ids: dict[str, int], weights: dict[str, float]) -> Floats:
    table: Floats = np.zeros((len(side.patterns), len(ids)), np.float32)
    for row, ts in enumerate(side.tokens):
        for t in ts:
            depth = DEPTH_WEIGHT[min(t.depth, len(DEPTH_WEIGHT) - 1)]
            table[row, ids[t.text]] = max(table[row, ids[t.text]], depth * weights[t.text])
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    return np.asarray(table / np.where(norms == 0, 1, norms), np.float32)


class Votes:
    """Matched leaves vote for their ancestors; ancestors support their other leaves (GumTree's bottom-up idea).

    A pair of nodes is supported by the share of their leaves that matches send to one another (Dice's coefficient);
    a pair of leaves gains by how well the ancestors of each are supported by those of the other.
    """

    def __init__(self, left: Side, right: Side) -> None:
        self.left, self.nodes_left = left.ancestors
        self.right, self.nodes_right = right.ancestors
        self.size_left = _below(self.left, len(self.nodes_left))
        self.size_right = _below(self.right, len(self.nodes_right))
        self.dice: Floats = np.zeros((len(self.nodes_left) + 1, len(self.nodes_right) + 1), np.float32)
        self.common = self.best = self.dice
        self.matched: tuple[Floats, Floats, float] = self.dice[:, 0], self.dice[0], 0.0

    def count(self, pairs: Sequence[tuple[int, int]], strength: Sequence[float]) -> None:
        """Recompute the support of all pairs of nodes from weighted matches."""
        common: Floats = np.zeros_like(self.dice)
        if pairs:
            a = self.left[[i for i, _ in pairs]]
            b = self.right[[j for _, j in pairs]]
            weight = np.asarray(strength, np.float32)[:, None, None]
            weight = np.broadcast_to(weight, (len(pairs), a.shape[1], b.shape[1]))
            np.add.at(common, (a[:, :, None], b[:, None, :]), weight)
        # the padding id -1 addresses the last row and column, which stand for no node
        common[-1, :] = 0
        common[:, -1] = 0
        self.dice = 2 * common / (self.size_left[:, None] + self.size_right[None, :])
        weights = np.asarray(strength, np.float32)
        of_left = _summed(self.left[[i for i, _ in pairs]], weights, common[:, 0])
        of_right = _summed(self.right[[j for _, j in pairs]], weights, common[0])
        self.matched = of_left, of_right, float(weights.sum())
        self.common = common
        self.best = np.where(_counterparts(common, of_left, of_right), self.dice, 0)

    def bonus(self, rows: Ints, columns: Ints) -> Floats:
        """Mean support of the ancestors of each pair of leaves, near ones more, (len(rows), len(columns)), in 0..1."""
        a, b = self.left[rows], self.right[columns]
        by_left, by_right = self._best(a, b)
        of_left = (by_left * _nearness(a)).sum(axis=2) / _total_nearness(a)[:, None]
        of_right = (by_right * _nearness(b)).sum(axis=2) / _total_nearness(b)[None, :]
        result: Floats = (of_left + of_right) / 2
        return result

    def support(self, rows: Ints, columns: Ints) -> Floats:
        """Summed support of the ancestors of each pair of leaves: one settled ancestor tells, however deep the tree."""
        by_left, by_right = self._best(self.left[rows], self.right[columns])
        result: Floats = (by_left.sum(axis=2) + by_right.sum(axis=2)) / 2
        return result

    def by_others(self, i: int, j: int) -> float:
        """Mean support of the ancestors of one pair of leaves, roots included, by leaves outside their two modules.

        Leaves of one module are matched together: their votes cannot confirm one another. In 0..1.
        """
        a, b = (ids[ids >= 0] for ids in (self.left[i], self.right[j]))
        if not len(a) or not len(b):
            return 0.0
        common, left, right = self._with_roots(a, b)
        common = common[1:, 1:] - common[0, 0]
        dice = 2 * common / np.maximum((left[1:] - left[0])[:, None] + (right[1:] - right[0])[None, :], 1)
        best = dice.max(axis=1), dice.max(axis=0)
        return float(sum(np.average(m, weights=_nearness(m[None])) for m in best) / 2)

    def _with_roots(self, a: Ints, b: Ints) -> tuple[Floats, Floats, Floats]:
        """Matches between the nodes of two chains that end at the roots, and the sizes of these nodes."""
        inside = self.common[np.ix_(a, b)]
        of_left, of_right, everything = self.matched
        table = np.block([[inside, of_left[a][:, None]], [of_right[b][None, :], np.array([[everything]])]])
        left = np.append(self.size_left[a], len(self.left))
        right = np.append(self.size_right[b], len(self.right))
        return table.astype(np.float32), left.astype(np.float32), right.astype(np.float32)

    def _best(self, a: Ints, b: Ints) -> tuple[Floats, Floats]:
        """The best counterpart of each ancestor among those of the other leaf: by depth on the left, on the right."""
        table = self.best[a[:, None, :, None], b[None, :, None, :]]  # rows, columns, depth left, depth right
        return table.max(axis=3), table.max(axis=2)


def _counterparts(common: Floats, of_left: Floats, of_right: Floats) -> npt.NDArray[np.bool_]:
    """The pairs of nodes of which either sends more of its matches to the other than to any other node.

    Only through its counterpart does a node speak for the leaves below it: of a model most is below `layers`, and yet
    the one is not the other.
    """
    shared = common / np.maximum(of_left[:, None] + of_right[None, :], 1e-6)
    best: npt.NDArray[np.bool_] = (shared >= shared.max(axis=1, keepdims=True)) | (shared >= shared.max(axis=0))
    return best


def _summed(ancestors: Ints, weights: Floats, like: Floats) -> Floats:
    """The weight of the matches below each node."""
    total: Floats = np.zeros_like(like)
    np.add.at(total, ancestors, np.broadcast_to(weights[:, None], ancestors.shape))
    return total


def _nearness(ancestors: Ints) -> Floats:
    """How much the support of an ancestor counts, nearest first."""
    depth = np.arange(ancestors.shape[1])
    weights: Floats = np.maximum(1.0 - 0.2 * depth, 0.4).astype(np.float32)
    return weights


def _total_nearness(ancestors: Ints) -> Floats:
    total: Floats = (_nearness(ancestors) * (ancestors >= 0)).sum(axis=1).clip(1e-6)
    return total


def _below(ancestors: Ints, nodes: int) -> Floats:
    flat = ancestors[ancestors >= 0]
    counts = np.bincount(flat, minlength=nodes + 1).astype(np.float32)
    return np.where(counts == 0, 1, counts).astype(np.float32)
