"""Guesses that keep modules whole, and that keep to the blocks around them.

A bias has few shapes to be told by and a weight may be found late, reshaped or by its place in a list; each is guessed
by itself, and the leaves of one module may go to two. Modules that are torn so are assigned anew, as wholes: each to
one that has the same leaves, so that most of what was guessed stays.

Where one side ends a stage with what the other begins the next with, the order of the layers leads each of a row of
equal modules to the place of the one before it. What is certain of the blocks that they stand in says where these are:
each module goes to the place nearest to that.

Nothing becomes certain by either.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import replace
from operator import itemgetter

import networkx as nx
import numpy as np

from treealign.align.converting.rearrangements import layout_changes
from treealign.align.hinted import speaks_of
from treealign.align.links import Group, Link, part_of, parted, piece_of
from treealign.align.matching.in_step import EVIDENCE, IN_STEP, is_loose, parameter_name
from treealign.align.patterns import Pattern, Shape
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import doubted
from treealign.mapping.operations import Operation

WHOLE = Reason("names", "its module was put together of leaves that were guessed apart")
MOST = 128  # modules of either side that are looked at together
Operations = tuple[Operation, ...]
Module = tuple[int, str]  # a side and a path
Sides = tuple[list[Module], list[Module]]
Worth = Callable[[Module, Module], float]


def keep_modules_whole(state: State) -> State:
    """Assign modules whose leaves were guessed apart anew, as wholes."""
    if not state.shapes:
        return state
    modules = _Modules(state)
    return _moved(state, modules, [modules.assigned(*some, modules.agreed) for some in modules.torn()], WHOLE)


def keep_to_blocks(state: State) -> State:
    """Assign equal modules anew, each to the place nearest to what is certain of its block."""
    if not state.shapes:
        return state
    modules = _Modules(state)
    return _moved(state, modules, [modules.assigned(*some, modules.closeness) for some in modules.rows()], IN_STEP)


def _moved(state: State, modules: _Modules, found: list[dict[int, int]], why: Reason) -> State:
    moved = {i: j for pairs in found for i, j in pairs.items() if modules.now.get(i) != j}
    if not moved:
        return state
    links = (
        *(part for link in state.links for part in _without(link, moved, set(moved.values()))),
        *modules.links(moved, why),
    )
    left, right = (parted(side, [(x.left, x.right)[n] for x in links]) for n, side in enumerate(state.patterns))
    return replace(state, links=links, patterns=(left, right))


class _Modules:
    """The modules of both sides, and which leaves of each are guessed to belong to which.

    What is certain stays, and so does what was said by the user, and what was joined or cut for more than its sizes.
    """

    def __init__(self, state: State) -> None:
        self.keys = tuple(tree.keys for tree in state.trees)
        owners = ({at: p for p in side for at in p.cells.values()} for side in state.patterns)
        self.owner: tuple[dict[int, Pattern], ...] = tuple(owners)
        self.now: dict[int, int] = {}
        self.sure: dict[int, int] = {}
        taken: tuple[set[int], set[int]] = set(), set()
        for link in state.known:
            fixed = not is_loose(link) or any(speaks_of(h, link.left, link.right) for h in state.hints)
            for group in link.expand():
                for n in (0, 1):
                    taken[n].update(group[n] if fixed else ())
                if len(group.left) == len(group.right) == 1:
                    (self.sure if fixed else self.now)[group.left[0]] = group.right[0]
        self.free = tuple(owner.keys() - gone for owner, gone in zip(self.owner, taken, strict=True))
        self.leaves: dict[Module, dict[tuple[str, ...], int]] = defaultdict(dict)
        for side in (0, 1):
            for at in self.owner[side]:
                self.leaves[self.module(side, at)][parameter_name(self.keys[side][at].rpartition(".")[2])] = at
        self.votes: Counter[tuple[Module, Module]] = Counter()
        for worth, pairs in ((MOST, self.sure), (1, self.now)):
            for i, j in pairs.items():
                self.votes[self.module(0, i), self.module(1, j)] += worth
        self.places: dict[str, list[int]] = defaultdict(list)  # of what is certain below each module of the checkpoint
        for i, j in sorted(self.sure.items(), key=itemgetter(1)):
            for node in _above(self.keys[0][i]):
                self.places[node].append(j)

    def module(self, side: int, at: int) -> Module:
        """The module of a leaf."""
        return side, self.keys[side][at].rpartition(".")[0]

    def torn(self) -> Iterator[Sides]:
        """Modules whose leaves are guessed to be of several, with all that share leaves, as many on either side."""
        # given to the class, networkx imports all that edges may be: a lock that a forked child waits for
        graph: nx.Graph[Module] = nx.Graph()
        graph.add_edges_from(self.votes)
        for members in nx.connected_components(graph):
            sides = [sorted(m for m in members if m[0] == n) for n in (0, 1)]
            if 1 < len(sides[0]) == len(sides[1]) <= MOST:
                yield sides[0], sides[1]

    def rows(self) -> Iterator[Sides]:
        """Modules of one name that are equal and free, as many on either side, all of blocks that are known in part."""
        found: dict[object, Sides] = defaultdict(lambda: ([], []))
        for module, leaves in self.leaves.items():
            side = module[0]
            if leaves.keys() and all(at in self.free[side] for at in leaves.values()):
                shapes = ((name, shape_of(self.owner[side][at], at)) for name, at in leaves.items())
                found[frozenset(shapes)][side].append(module)
        for mine, theirs in found.values():
            names = ({_own_name(path) for _, path in side} for side in (mine, theirs))
            as_many = 1 < len(mine) == len(theirs) <= MOST and all(len(side) == 1 for side in names)
            if as_many and all(self._block(path) for _, path in mine):
                yield sorted(mine), sorted(theirs)

    def _block(self, path: str) -> list[int]:
        """Where the certain leaves of the nearest block around a module stand in the model."""
        return next((self.places[node] for node in _above(path) if node in self.places), [])

    def agreed(self, mine: Module, theirs: Module) -> float:
        """How many leaves of two modules are guessed to be of one."""
        return self.votes[mine, theirs]

    def closeness(self, mine: Module, theirs: Module) -> float:
        """How near a module of the model is to what is certain of the block of one of the checkpoint."""
        around, ends = self._block(mine[1]), sorted(self.leaves[theirs].values())
        at = bisect_left(around, ends[0])
        before, behind = around[max(at - 1, 0) : at], around[at : at + 1]
        return -min([ends[0] - near for near in before] + [near - ends[-1] for near in behind], default=0)

    def assigned(self, mine: list[Module], theirs: list[Module], worth: Worth) -> dict[int, int]:
        """The leaves of these modules, each module as a whole, as is worth most; nothing where that cannot be."""
        from scipy.optimize import linear_sum_assignment

        table = np.full((len(mine), len(theirs)), -np.inf)
        for n, here in enumerate(mine):
            for m, there in enumerate(theirs):
                if self._fit(here, there):
                    table[n, m] = worth(here, there) + self.votes[here, there] / len(self.owner[0]) / MOST
        try:
            rows, columns = linear_sum_assignment(table, maximize=True)
        except ValueError:  # no module is left for one
            return {}
        ends = ((self.leaves[mine[n]], self.leaves[theirs[m]]) for n, m in zip(rows, columns, strict=True))
        return {at: there[name] for here, there in ends for name, at in here.items() if at in self.free[0]}

    def _fit(self, mine: Module, theirs: Module) -> bool:
        """Whether all leaves of one module can be those of the other."""
        here, there = self.leaves[mine], self.leaves[theirs]
        return here.keys() == there.keys() and all(self._may_be(at, there[name]) for name, at in here.items())

    def _may_be(self, i: int, j: int) -> bool:
        if i in self.free[0] and j in self.free[1]:
            return self.change(i, j) is not None
        return self.sure.get(i) == j

    def change(self, i: int, j: int) -> Operations | None:
        """What makes one leaf the other: nothing, another number or order of dimensions; None if not told."""
        p, q = (part_of(self.owner[n][at], {at}) for n, at in enumerate((i, j)))
        if p.signature == q.signature:
            return ()
        ways = list(layout_changes(p, q))
        return ways[0] if len(ways) == 1 else None

    def links(self, moved: Mapping[int, int], why: Reason) -> list[Link]:
        """The pairs as links, one for each two patterns and operation; each may have the place of any like it."""
        found: dict[tuple[Pattern, Pattern, Operations], list[Group]] = defaultdict(list)
        for i, j in sorted(moved.items()):
            found[self.owner[0][i], self.owner[1][j], self.change(i, j) or ()].append(Group((i,), (j,)))
        made = []
        for (p, q, operations), groups in found.items():
            left, right = (part_of(one, {g[n][0] for g in groups}) for n, one in enumerate((p, q)))
            made.append(Link((left,), (right,), operations, tuple(groups), evidence=(EVIDENCE,)))
        rivals = [[link for link in made if _alike(link, one)] for one in made]
        return [
            doubted(link, why, (tuple(o.left[0] for o in some), tuple(o.right[0] for o in some)))
            for link, some in zip(made, rivals, strict=True)
        ]


def _above(path: str) -> Iterator[str]:
    """The modules around a path, the innermost first; not the root."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _own_name(path: str) -> str:
    return next((name for name in reversed(path.split(".")) if not name.isdecimal()), "")


def shape_of(p: Pattern, at: int) -> Shape:
    """The shape of one leaf of a pattern."""
    return next(p.shapes[key] for key, leaf in p.cells.items() if leaf == at)


def _alike(link: Link, other: Link) -> bool:
    return link.left[0].segments[-1] == other.left[0].segments[-1] and len(link.left[0]) == len(other.left[0])


def _without(link: Link, moved: Mapping[int, int], taken: Set[int]) -> list[Link]:
    """What is left of a link of which leaves were placed otherwise."""
    groups = list(link.expand())
    kept = [g for g in groups if moved.keys().isdisjoint(g.left) and taken.isdisjoint(g.right)]
    return [link] if len(kept) == len(groups) else [piece_of(link, kept)] if kept else []
