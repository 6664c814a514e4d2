"""Settle by place: numbers of two lists that run alike, and a leaf alone of its shape in a container that is known.

Libraries cut one network into lists whose names say nothing (`features.3.conv.0.1` here, `blocks.1.0.bn1` there). A
place in a list is a rank, and a rank counts only where the other members of both lists correspond, too. So a match is
settled when everything that it could be exchanged for is refuted:

- by *containers*: the certain leaves of two nodes are the same, and most of what either holds, or both hold the same;
  no leaf goes from within one to outside the other;
- by *modules*: all leaves of a module go to one module, and that of the other has not the same leaves;
- by *numbers*: on both sides the two stand in one list each, in the same order, and what the members of these lists
  hold (or of those around them) is another thing when read backwards. One list maps to another as a whole.

What is left over takes no place only where a container keeps it out. And a match must belong at all: its list runs
alike on both sides, its container is known, the field has one word for both names and they stand in one container, or
it has no name at all and nothing is left over anywhere. A name that speaks against a match keeps it open.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product

from treealign.align import verdict
from treealign.align.doubting.lists import ORDER, SERIES, may_run_alike
from treealign.align.doubting.other_tower import OTHER_TOWER
from treealign.align.links import Link
from treealign.align.matching.agreement import KINDS, NUMBERS, WORDS, names_exclude
from treealign.align.matching.certainty import RIVALLED, SHAPE_ONLY
from treealign.align.matching.in_step import IN_STEP, dense, may_be_called, words_of
from treealign.align.matching.nodes import LEAVES, Pair, Size, by_module, certain_below, known_nodes
from treealign.align.matching.numbered import (
    Path,
    Row,
    kept_numbers,
    nodes_above,
    number_in,
    parting,
    rows_above,
    within,
)
from treealign.align.state import State
from treealign.mapping.operations import Reshape

PLACED = "its place: no other leaf could take it"
SILENT = frozenset(
    {IN_STEP, SHAPE_ONLY, RIVALLED, WORDS, KINDS, NUMBERS, ORDER, OTHER_TOWER}
)  # names say nothing, and nothing against it
BUDGET = 2_000_000  # nodes and pairs to be looked at: what takes more stays open


def settle_places(state: State) -> State:
    """Settle what nothing but its place speaks for, where that is enough; as often as something is settled by it."""
    budget = BUDGET
    while state.shapes and budget > 0 and any(map(_may_settle, state.links)):
        places = Places(state, budget)
        settled = {link: _settled(link) for link in state.links if _may_settle(link) and places.hold(link)}
        budget = places.budget
        if not settled:
            break
        state = replace(state, links=tuple(settled.get(link, link) for link in state.links))
    return state


def _may_settle(link: Link) -> bool:
    if link.certain or link.reason not in SILENT or not SILENT.issuperset(link.beneath) or not _keeps_shape(link):
        return False
    return not names_exclude(link.left[0], link.right[0])


def _keeps_shape(link: Link) -> bool:
    """A rename, at most with sizes of one more or less."""
    if len(link.left) > 1 or len(link.right) > 1:
        return False
    return all(isinstance(o, Reshape) and dense(o.before) == dense(o.after) for o in link.operations)


def _settled(link: Link) -> Link:
    return verdict.settled(replace(link, evidence=(*link.evidence, PLACED), placed=True))


class Places:
    """All pairs of leaves, and which of them could be exchanged."""

    def __init__(self, state: State, budget: int = BUDGET) -> None:
        self.paths = tuple([tuple(key.split(".")) for key in tree.keys] for tree in state.trees)
        self.sizes = tuple([dense(leaf.shape or ()) for leaf in tree.leaves] for tree in state.trees)
        certain, loose = (_pairs(state.known, wanted) for wanted in (True, False))
        self.pairs = [*certain, *loose]
        self.budget = budget - sum(len(self.paths[0][p.left]) + len(self.paths[1][p.right]) for p in self.pairs)
        self.free, self.left_over = self._free(state)
        self.rivals: dict[Size, list[Pair]] = defaultdict(list)
        for pair in loose:
            self.rivals[self.sizes[0][pair.left]].append(pair)
        self.leaves = tuple(map(by_module, self.paths))
        self.certain = certain_below(certain, self.paths)
        self.known = known_nodes(self.certain, self.paths, self.sizes)
        self.below: dict[Path, list[Pair]] = defaultdict(list)
        for pair in self.pairs:
            for node in nodes_above(self.paths[0][pair.left]):
                self.below[node].append(pair)
        self.told: dict[tuple[Row, Row], bool] = {}

    def _free(self, state: State) -> tuple[tuple[Mapping[Size, list[int]], ...], bool]:
        """Leaves of either side, by their sizes, of which nothing is known; and whether any are in no match at all."""
        found: tuple[dict[Size, list[int]], ...] = defaultdict(list), defaultdict(list)
        taken = tuple({pair[side] for pair in self.pairs} for side in (0, 1))
        linked: tuple[set[int], set[int]] = set(), set()
        for link in state.known:
            for group in link.expand():
                for side in (0, 1):
                    linked[side].update(group[side])
                    taken[side].update(group[side] if link.certain else ())
        wanted = [{at for p in patterns for at in p.cells.values()} for patterns in state.patterns]
        for side in (0, 1):
            for at in wanted[side] - taken[side]:
                found[side][self.sizes[side][at]].append(at)
        return found, any(wanted[side] - taken[side] - linked[side] for side in (0, 1))

    def hold(self, link: Link) -> bool:
        """Whether each leaf of a link belongs where it is, and nothing could take its place."""
        return all(self._holds(Pair(g.left[0], g.right[0])) for g in link.expand())

    def _holds(self, pair: Pair) -> bool:
        size = self.sizes[0][pair.left]
        rivals = self.rivals[size]
        self.budget -= len(rivals)
        if self.budget < 0:
            return False
        around = self._known_around(pair)
        if not (around or self._in_list(pair) or self._is_called_alike(pair) or self._is_unnamed(pair)):
            return False
        kept_out = all(
            any(not within(self.paths[side][at], nodes[side]) for nodes in around)
            for side in (0, 1)
            for at in self.free[side].get(size, ())
            if self._may_be((pair.right, pair.left)[side], at, side)
        )
        return kept_out and all(self._apart(pair, other, around) for other in rivals if other != pair)

    def rise_apart(self, pair: Pair, other: Pair) -> bool:
        """Whether two pairs part in two lists of which shapes show that they rise together."""
        parted = self._parted(pair, other)
        return parted is not None and self._alike(*parted)

    def _parted(self, pair: Pair, other: Pair) -> tuple[Row, Row] | None:
        """The lists in which two pairs part on either side, if they stand in the same order there."""
        mine, theirs = (parting(*(self.paths[side][at] for at in (pair[side], other[side]))) for side in (0, 1))
        return (mine[0], theirs[0]) if mine is not None and theirs is not None and mine[1] == theirs[1] else None

    def _may_be(self, leaf: int, other: int, side: int) -> bool:
        """Whether a leaf of the one side may be a leaf of the other, by what they are called."""
        mine, theirs = self.paths[1 - side][leaf][-1], self.paths[side][other][-1]
        return may_be_called(mine, theirs)

    def _apart(self, pair: Pair, other: Pair, around: Sequence[tuple[Path, Path]]) -> bool:
        """Whether two pairs cannot exchange their leaves."""
        a, b = (self.paths[side][pair[side]] for side in (0, 1))
        c, d = (self.paths[side][other[side]] for side in (0, 1))
        if not (may_be_called(a[-1], d[-1]) and may_be_called(c[-1], b[-1])):
            return True
        if self._module(0, a) == self._module(1, b) != self._module(1, d):
            return True
        if any(not within(c, left) and not within(d, right) for left, right in around):
            return True
        if any(not within(a, left) and not within(b, right) for left, right in self._known_around(other)):
            return True
        parted = self._parted(pair, other)
        return parted is not None and (self._keep_numbers(*parted, pair, other) or self._run_alike(*parted))

    def _keep_numbers(self, left: Row, right: Row, *pairs: Pair) -> bool:
        """Whether pairs bear the numbers that all which is certain of these members bears on both sides."""
        known = ((self.paths[0][p.left], self.paths[1][p.right]) for p in self.certain[0].get(left.node, ()))
        kept = kept_numbers(left, right, known)
        return all(
            number_in(left, self.paths[0][p.left]) == number_in(right, self.paths[1][p.right]) in kept for p in pairs
        )

    def _module(self, side: int, path: Path) -> Counter[Size]:
        """The sizes of all leaves of the module that holds a leaf."""
        return Counter(self.sizes[side][at] for at in self.leaves[side][path[:-1]])

    def _known_around(self, pair: Pair) -> list[tuple[Path, Path]]:
        """Nodes of either side that hold a pair, and are known to correspond."""
        left, right = (self.paths[side][pair[side]] for side in (0, 1))
        return [
            (node, there) for node in nodes_above(left) for there in self.known.get(node, ()) if within(right, there)
        ]

    def _is_called_alike(self, pair: Pair) -> bool:
        """Whether the field has one word for the modules of both leaves, and what holds the one holds the other."""
        left, right = (self.paths[side][pair[side]] for side in (0, 1))
        if not words_of(left[-2:-1]) or words_of(left[-2:-1]) != words_of(right[-2:-1]):
            return False
        mine, theirs = self.certain[0].get(left[:-2], set()), self.certain[1].get(right[:-2], set())
        return len(mine & theirs) >= LEAVES and (mine <= theirs or theirs <= mine)

    def _is_unnamed(self, pair: Pair) -> bool:
        """Whether nothing is left over, and a leaf has only numbers for a name, in a list of which some is known."""
        for side in () if self.left_over else (0, 1):
            path = self.paths[side][pair[side]][:-1]
            node = path
            while node and node[-1].isdecimal():
                node = node[:-1]
            if node != path and node in self.certain[side]:
                return True
        return False

    def _in_list(self, pair: Pair) -> bool:
        """Whether both leaves stand in lists that run alike."""
        left, right = (self.paths[side][pair[side]] for side in (0, 1))
        return any(self._alike(a, b) for a, b in product(rows_above(left), rows_above(right)))

    def _run_alike(self, left: Row, right: Row) -> bool:
        """Whether two lists run the same way: they do, or, where names say nothing else, those around them."""
        if self._alike(left, right):
            return True
        around = product([left, *rows_above(left.node)], [right, *rows_above(right.node)])
        return may_run_alike(left.path, right.path) and any(self._alike(a, b) for a, b in around)

    def _alike(self, left: Row, right: Row) -> bool:
        """Whether two lists rise together, and what their members hold shows it."""
        if (left, right) not in self.told:
            self.told[left, right] = self._rise(left, right)
        return self.told[left, right]

    def _rise(self, left: Row, right: Row) -> bool:
        held: tuple[dict[int, Counter[Size]], dict[int, Counter[Size]]] = defaultdict(Counter), defaultdict(Counter)
        places = set()
        for pair in self.below[left.node]:
            self.budget -= 1
            mine, theirs = (number_in(row, self.paths[n][pair[n]]) for n, row in enumerate((left, right)))
            if mine is None or theirs is None:
                continue
            places.add((mine, theirs))
            for side, number in enumerate((mine, theirs)):
                held[side][number][self.sizes[0][pair.left]] += 1
        there = [b for _, b in sorted(places)]
        if min(map(len, held)) < SERIES or there != sorted(there):
            return False
        members = ([by[n] for n in sorted(by)] for by in held)
        return all(row != row[::-1] for row in members)


def _pairs(links: Iterable[Link], certain: bool) -> list[Pair]:
    """Leaves that keep their shape, of links that are certain, or of those that are not."""
    found = []
    for link in links:
        if link.certain == certain and _keeps_shape(link):
            found += [Pair(g.left[0], g.right[0]) for g in link.expand()]
    return found
