"""Scores of pairs of patterns: roles and structure.

All of it ranks candidates; what is certain is decided elsewhere (`certainty`), by differences and not by scores.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from treealign.align.hinted import contains
from treealign.align.matching.series import companions, with_series
from treealign.align.matching.sublayers import with_functions, with_norms_apart
from treealign.align.patterns import Pattern
from treealign.align.words import Token, tokens
from treealign.formats.cached import cached_property

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


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

    def with_tokens(self, added: Mapping[int, Token]) -> Side:
        """The same side with one more token for some of its patterns, by place."""
        tokens = (ts if at not in added else (*ts, added[at]) for at, ts in enumerate(self.tokens))
        return Side(self.patterns, list(tokens))

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

    @cached_property
    def size(self) -> int:
        """How many patterns the frequencies are of."""
        return len(self.patterns)

    def first(self, count: int) -> Side:
        """The first patterns alone, with all that is known of them beside the others."""
        if count == len(self.patterns):
            return self
        part = Side(self.patterns[:count], self.tokens[:count])
        vars(part).update(frequency=self.frequency, companions=self.companions[:count], size=self.size)
        return part


def _hinted(p: Pattern, hints: Sequence[tuple[str, ...]]) -> tuple[Token, ...]:
    """A word that only the two sides of one hint share."""
    return tuple(Token(f"!{n}", 1, True) for n, run in enumerate(hints) if contains(p.segments, run))


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


class Votes:
    """Matched leaves vote for their ancestors; ancestors support their other leaves (GumTree's bottom-up idea).

    A pair of nodes is supported by the share of their leaves that matches send to one another (Dice's coefficient);
    a pair of leaves gains by how well the ancestors of each are supported by those of the other. Tables are sparse:
    most nodes have nothing to do with one another.
    """

    def __init__(self, left: Side, right: Side) -> None:
        self.left, self.nodes_left = left.ancestors
        self.right, self.nodes_right = right.ancestors
        self.size_left = _below(self.left, len(self.nodes_left))
        self.size_right = _below(self.right, len(self.nodes_right))
        self.count((), ())

    def count(self, pairs: Sequence[tuple[int, int]], strength: Sequence[float]) -> None:
        """Support all pairs of nodes by weighted matches, from now on; the tables are made when they are asked for."""
        self._pairs = [*pairs], np.asarray(strength, np.float64)
        for table in ("common", "matched", "dice", "best"):
            vars(self).pop(table, None)

    @cached_property
    def common(self) -> Any:
        """The weight of the matches between each pair of nodes, sparse, (nodes left, nodes right)."""
        (pairs, weights), shape = self._pairs, (len(self.nodes_left), len(self.nodes_right))
        return _counted(self.left[[i for i, _ in pairs]], self.right[[j for _, j in pairs]], weights, shape)

    @cached_property
    def matched(self) -> tuple[Floats, Floats, float]:
        """The weight of the matches below each node of the left, of the right, and of all."""
        pairs, weights = self._pairs
        of_left = _summed(self.left[[i for i, _ in pairs]], weights, len(self.nodes_left))
        of_right = _summed(self.right[[j for _, j in pairs]], weights, len(self.nodes_right))
        return of_left, of_right, float(weights.sum())

    @cached_property
    def dice(self) -> Any:
        """The share of the leaves of each pair of nodes that matches send to one another."""
        rows, columns = self.common.nonzero()
        table = self.common.copy()
        table.data = (2 * table.data / (self.size_left[rows] + self.size_right[columns])).astype(np.float32)
        return table

    @cached_property
    def best(self) -> Any:
        """The same, for nodes that are counterparts of one another."""
        table = self.dice.copy()
        table.data = np.where(_counterparts(self.common, *self.matched[:2]), table.data, 0)
        return table

    def bonus(self, rows: Ints, columns: Ints) -> Floats:
        """Mean support of the ancestors of each pair of leaves, near ones more, (len(rows), len(columns)), in 0..1."""
        a, b = self.left[rows], self.right[columns]
        of_left, of_right = self._supported(a, b, _nearness(a), _nearness(b))
        return np.asarray((of_left / _total_nearness(a)[:, None] + of_right / _total_nearness(b)) / 2, np.float32)

    def support(self, rows: Ints, columns: Ints) -> Floats:
        """Summed support of the ancestors of each pair of leaves: one settled ancestor tells, however deep the tree."""
        a, b = self.left[rows], self.right[columns]
        of_left, of_right = self._supported(a, b, *(np.ones(side.shape[1], np.float32) for side in (a, b)))
        return np.asarray((of_left + of_right) / 2, np.float32)

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
        inside = self.common[a][:, b].toarray()
        of_left, of_right, everything = self.matched
        table = np.block([[inside, of_left[a][:, None]], [of_right[b][None, :], np.array([[everything]])]])
        left = np.append(self.size_left[a], len(self.left))
        right = np.append(self.size_right[b], len(self.right))
        return table.astype(np.float32), left.astype(np.float32), right.astype(np.float32)

    def _supported(self, a: Ints, b: Ints, near_left: Floats, near_right: Floats) -> tuple[Floats, Floats]:
        """For each pair of leaves the weighted sum over ancestors of the best of the other leaf: of left, of right."""
        mine, theirs = np.unique(a[a >= 0]), np.unique(b[b >= 0])
        table = np.zeros((len(mine) + 1, len(theirs) + 1), np.float32)
        table[:-1, :-1] = self.best[mine][:, theirs].toarray()
        rows, columns = _places(mine, a), _places(theirs, b)
        of_left = _weighted(_best_of(table, columns), rows, near_left)
        of_right = _weighted(_best_of(table.T, rows), columns, near_right)
        return of_left, of_right.T


def _counted(left: Ints, right: Ints, weights: npt.NDArray[np.float64], shape: tuple[int, int]) -> Any:
    """Matches between the nodes of two sides, sparse, (nodes left, nodes right)."""
    from scipy.sparse import coo_array

    size = len(left), left.shape[1], right.shape[1]
    rows = np.broadcast_to(left[:, :, None], size)
    columns = np.broadcast_to(right[:, None, :], size)
    known = (rows >= 0) & (columns >= 0)
    values = np.broadcast_to(weights[:, None, None], size)[known]
    return coo_array((values, (rows[known], columns[known])), shape).tocsr()


def _places(nodes: Ints, ancestors: Ints) -> Ints:
    """Where each ancestor stands among the sorted nodes; the padding stands behind the last."""
    places: Ints = np.where(ancestors < 0, len(nodes), np.searchsorted(nodes, ancestors)).astype(np.int32)
    return places


def _best_of(table: Floats, columns: Ints) -> Floats:
    """For each node and each leaf the largest entry among the leaf's ancestors, (nodes, leaves)."""
    found: Floats = table[:, columns[:, 0]]
    for depth in range(1, columns.shape[1]):
        found = np.maximum(found, table[:, columns[:, depth]])
    return found


def _weighted(best: Floats, rows: Ints, weights: Floats) -> Floats:
    """The sum over the ancestors of each row, (rows, leaves)."""
    total: Floats = np.zeros((len(rows), best.shape[1]), np.float32)
    for depth, weight in enumerate(weights):
        total += weight * best[rows[:, depth]]
    return total


def _counterparts(common: Any, of_left: Floats, of_right: Floats) -> npt.NDArray[np.bool_]:
    """The pairs of nodes of which either sends more of its matches to the other than to any other node.

    Only through its counterpart does a node speak for the leaves below it: of a model most is below `layers`, and yet
    the one is not the other.
    """
    rows, columns = common.nonzero()
    shared = common.data / np.maximum(of_left[rows] + of_right[columns], 1e-6)
    most = np.zeros(common.shape[0]), np.zeros(common.shape[1])
    for side, places in zip(most, (rows, columns), strict=True):
        np.maximum.at(side, places, shared)
    best: npt.NDArray[np.bool_] = (shared >= most[0][rows]) | (shared >= most[1][columns])
    return best


def _summed(ancestors: Ints, weights: npt.NDArray[np.float64], nodes: int) -> Floats:
    """The weight of the matches below each node."""
    total = np.zeros(nodes + 1)  # the padding -1 addresses the last, which stands for no node
    np.add.at(total, ancestors, np.broadcast_to(weights[:, None], ancestors.shape))
    result: Floats = total[:-1].astype(np.float32)
    return result


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
    counts = np.bincount(flat, minlength=nodes).astype(np.float32)
    return np.where(counts == 0, 1, counts).astype(np.float32)
