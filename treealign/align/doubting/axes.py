"""Two indices that could trade places: `stages.0.layers.1.layer.0` for `stages.0.layers.0.layer.1`.

Where two lists inside one another are equally long and of equal shapes, neither shapes nor the numbers by themselves
tell which index of the one side is which of the other. Only their order does: what is outside here is outside there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from treealign.align.links import Link
from treealign.align.matching.nodes import Pair
from treealign.align.matching.places import Places
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import Alternatives, alone
from treealign.formats.cached import cached_property
from treealign.tree.keytree import KeyTree

EXCHANGED = Reason(
    "order", "two of the indices may trade places: the shapes are equal, and the order of the indices does not tell"
)
_RUN = re.compile(r"([0-9]+)", re.ASCII)
Ranks = tuple[int, ...]


def judge_indices(state: State) -> Alternatives:
    """Matches whose indices could trade places and do not stand in the same order on both sides.

    An exchange needs both halves: one with keys of a match that stays certain is none. Linear in the number of cells,
    for links whose keys exist with two indices exchanged.
    """
    left, right = map(_Numbers, state.trees)
    certain = [link for link in state.links if link.certain]
    found = {link: _exchanges(link, left, right) for link in certain if not link.operations and not link.placed}
    ways = {link: each for link, each in found.items() if each}
    if ways:
        places = Places(state)
        partner = {pair.right: pair.left for pair in places.pairs}
        ways = {link: other for link, each in ways.items() if (other := _unrefuted(link, each, partner, places))}
    owner = {at: link for link in certain for p in link.right for at in p.cells.values()} if ways else {}
    doubted = set(ways)
    while settled := {link for link in doubted if not any(_is_open(way, owner, doubted) for way in ways[link])}:
        doubted -= settled
    return {link: alone(link, EXCHANGED) for link in certain if link in doubted}


def _unrefuted(link: Link, ways: Sequence[list[int]], partner: Mapping[int, int], places: Places) -> list[list[int]]:
    """The exchanges but those between members of lists that rise together, as shapes show."""
    pairs = [Pair(g.left[0], g.right[0]) for g in link.expand()]
    return [
        way
        for way in ways
        if not all(
            at in partner and places.rise_apart(pair, Pair(partner[at], at))
            for pair, at in zip(pairs, way, strict=True)
        )
    ]


def _is_open(way: Sequence[int], owner: Mapping[int, Link], doubted: Collection[Link]) -> bool:
    """Whether no match that stays certain has a leaf with which an exchange would trade places."""
    return all(at not in owner or owner[at] in doubted for at in way)


class _Numbers:
    """The numbers in the keys of one side, each with its rank among those at its place."""

    def __init__(self, tree: KeyTree) -> None:
        self.tree = tree

    @cached_property
    def positions(self) -> dict[str, int]:
        """Where each key stands."""
        return {key: at for at, key in enumerate(self.tree.keys)}

    def cut(self, position: int) -> list[str]:
        """A key cut at its numbers: text and numbers by turns."""
        return _RUN.split(self.tree.keys[position])

    @cached_property
    def _ranks(self) -> dict[str, dict[str, int]]:
        found: dict[str, set[str]] = defaultdict(set)
        for key in self.tree.keys:
            pieces = _RUN.split(key)
            for at in range(1, len(pieces), 2):
                found["#".join(pieces[:at:2])].add(pieces[at])
        return {place: {n: r for r, n in enumerate(sorted(values, key=int))} for place, values in found.items()}

    def ranks(self, pieces: Sequence[str]) -> Ranks:
        """The rank of each number of a key that is cut into pieces; -1 where no key of the side has it there."""
        places = ["#".join(pieces[:at:2]) for at in range(1, len(pieces), 2)]
        return tuple(self._ranks.get(p, {}).get(n, -1) for p, n in zip(places, pieces[1::2], strict=True))


def _exchanges(link: Link, left: _Numbers, right: _Numbers) -> list[list[int]]:
    """The leaves of the model that the link would have with two indices exchanged, for each pair of them."""
    first, found = right.cut(next(link.expand()).right[0]), []
    for x, y in combinations(range(1, len(first), 2), 2):
        if not all(_exchanged(right.tree, right.cut(g.right[0]), x, y, g.right[0]) for g in link.expand()):
            continue  # most end at their first key
        groups = [(g.left[0], g.right[0]) for g in link.expand()]
        theirs = [right.cut(j) for _, j in groups]
        other = [_exchanged(right.tree, pieces, x, y, j) or [] for pieces, (_, j) in zip(theirs, groups, strict=True)]
        if other == theirs or any(_is_name(at, theirs, [left.tree.keys[i] for i, _ in groups]) for at in (x, y)):
            continue
        mine = [left.ranks(left.cut(i)) for i, _ in groups]
        if not _in_order(mine, list(map(right.ranks, theirs))) or _in_order(mine, list(map(right.ranks, other))):
            found.append([right.positions["".join(pieces)] for pieces in other])
    return found


def _is_name(at: int, theirs: Sequence[Sequence[str]], mine: Sequence[str]) -> bool:
    """Whether a number is part of a name that the other side spells the same way: `layer_scale_1` is no place."""
    for pieces, key in zip(theirs, mine, strict=True):
        before, behind = pieces[at - 1].rpartition(".")[2], pieces[at + 1].partition(".")[0]
        if not before + behind or f"{before}{pieces[at]}{behind}" not in key.split("."):
            return False
    return True


def _exchanged(tree: KeyTree, pieces: Sequence[str], x: int, y: int, position: int) -> list[str] | None:
    """The key with two numbers exchanged, where it is one of the tree and of the same shape."""
    if x >= len(pieces) or y >= len(pieces):
        return None
    other = list(pieces)
    other[x], other[y] = other[y], other[x]
    key = "".join(other)
    return other if key in tree and tree.leaf(key).shape == tree.leaves[position].shape else None


def _in_order(mine: Sequence[Ranks], theirs: Sequence[Ranks]) -> bool:
    """Whether the indices of the side with fewer are some of the other's, in the same order, in all keys."""
    fewer, more = sorted((mine, theirs), key=lambda rows: len(rows[0]))
    if len({len(row) for row in fewer}) > 1 or len({len(row) for row in more}) > 1:
        return False
    return any(
        all(tuple(row[n] for n in chosen) == short for short, row in zip(fewer, more, strict=True))
        for chosen in combinations(range(len(more[0])), len(fewer[0]))
    )
