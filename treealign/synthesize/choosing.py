"""Which contents to make the templates of: the fewest, by a program.

Each template is a way through its lattice, each step of which some content makes. Where the program is too large, each
content has a price instead. What is taken is pruned: contents are given up one by one, the dearest first, where the
templates that took them find a way through what the others took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, count
from math import ceil
from typing import NamedTuple, TypeAlias

from treealign.formats.cached import cached_property
from treealign.synthesize.contents import Occurrence
from treealign.synthesize.lattice import Edit, Lattice, Node
from treealign.synthesize.program import Program, minimum

_MOST_ENTRIES = 30_000  # of programs, one after the other
_ROUNDS = 4
_TASTE = 0.5  # what all preferences together may weigh, against one rule
_LONG = 1e-4  # what a step costs by the square of its length: of ways with as few contents, the one in short steps
_SLIGHT = 1e-3  # of the cost of a content that is taken anyway
_FAR = 1e9

Way: TypeAlias = tuple[tuple[Edit, int], ...]  # the edits of a template in order, and the content that makes each


@dataclass(frozen=True)
class Choice:
    """The way of each template, and whether the program took it."""

    ways: tuple[Way, ...]
    proved: bool

    @property
    def used(self) -> set[int]:
        """The contents that some way takes."""
        return {content for way in self.ways for _, content in way}


class Chooser:
    """Chooses among contents, again and again, as it becomes known how many rules each takes.

    Parameters
    ----------
    lattices : sequence of Lattice
        One for each template.
    makes : sequence of sequences of Occurrence
        The edits that each content makes.
    tastes : sequence of float
        How unlike a person's each content is.
    """

    def __init__(
        self, lattices: Sequence[Lattice], makes: Sequence[Sequence[Occurrence]], tastes: Sequence[float]
    ) -> None:
        makers: list[dict[Edit, list[int]]] = [{} for _ in lattices]
        for number, occurrences in enumerate(makes):
            for o in occurrences:
                makers[o.template].setdefault(o.edit, []).append(number)
        ways = [(lat.start, lat.end, _steps(lat, made)) for lat, made in zip(lattices, makers, strict=True)]
        numbers: dict[tuple[Node, Node, tuple[_Step, ...]], int] = {}
        self._of = [numbers.setdefault(way, len(numbers)) for way in ways]
        self._shapes = [_Shape(*way) for way in numbers]
        self._left = _MOST_ENTRIES
        unit = _TASTE / (max(tastes, default=1.0) * min(len(tastes), len(numbers) + 1) or 1.0)
        self._unit, self._most = unit, 2 * unit * max(tastes, default=1.0)
        self._tastes = [unit * taste for taste in tastes]
        self._solution: _Solution | None = None

    @cached_property
    def _program(self) -> tuple[Program, list[int]]:
        """The program of all ways, and the column of each content: that of its step where it makes one step only."""
        steps = Counter(n for shape in self._shapes for step in shape.steps for n in step.makers)
        every = (step.makers for shape in self._shapes for step in shape.steps)
        alone = {makers[0] for makers in every if len(makers) == 1 and steps[makers[0]] == 1}
        program = Program(len(self._tastes) - len(alone))
        shared = count()
        columns = [-1 if n in alone else next(shared) for n in range(len(self._tastes))]
        for shape in self._shapes:
            _add_shape(program, shape, columns)
        return program, columns

    def learn(self, content: int, taste: float) -> None:
        """Note that a content is more unlike a person's than was thought."""
        self._tastes[content] = min(self._most, max(self._tastes[content], self._unit * taste))

    @property
    def is_small(self) -> bool:
        """Whether there is work for the program."""
        ends = 2 * sum(len(shape.steps) for shape in self._shapes)  # entries of the flows alone
        return ends <= self._left and len(self._program[0].entries) <= self._left

    @property
    def bound(self) -> int:
        """No choice has fewer contents."""
        if not self._shapes:
            return 0
        solved = self._solved([1.0 + t for t in self._tastes])
        return 1 if solved is None else max(1, ceil(solved.bound - _TASTE - 1e-6))

    def choose(self, costs: Sequence[float], once_more: bool = False) -> Choice:
        """The fewest contents, by the number of rules that each is known to take; few, where that is too much work.

        The program may be solved `once_more` when its work is spent: few contents and the fewest may be built unlike.
        """
        weights = [cost + taste for cost, taste in zip(costs, self._tastes, strict=True)]
        if once_more:
            self._left = max(self._left, _MOST_ENTRIES)
        solved = self._solved(weights)
        if solved is not None:
            self._left -= len(self._program[0].entries)
        left = self._priced(weights) if solved is None else self._without_needless(solved.taken, weights)
        prices = {n: _SLIGHT * weights[n] for n in left}
        found = [shape.way(prices, shape.among(left)) for shape in self._shapes]
        return Choice(tuple(found[number] for number in self._of), solved is not None)

    def _solved(self, weights: Sequence[float]) -> _Solution | None:
        """What the program takes, and its bound; None where it is too large.

        Weights never fall. So the last solution is still the lightest if what it takes is as heavy as it was.
        """
        if not self.is_small:
            return None
        last = self._solution
        if last and all(weights[n] == last.weights[n] for n in last.taken):
            return last
        program, columns = self._program
        of = dict(zip(columns, weights, strict=True))
        numbers = {column: n for n, column in enumerate(columns)}

        def pruned(taken: Iterable[int]) -> set[int]:
            return {columns[n] for n in self._without_needless({numbers[column] for column in taken}, weights)}

        solved = minimum(program, [of.get(column, 0.0) for column in range(program.size)], pruned)
        if solved is None:
            return None
        self._solution = _Solution(weights, {numbers[column] for column in solved.chosen}, solved.bound)
        return self._solution

    @cached_property
    def _spread(self) -> Counter[int]:
        """How many shapes each content has a step in."""
        return Counter(n for shape in self._shapes for n in shape.made)

    def _priced(self, weights: Sequence[float]) -> set[int]:
        """Few contents: each template takes its cheapest way, and what many take becomes cheap."""
        prices = [w / max(1, self._spread[n]) for n, w in enumerate(weights)]
        best: set[int] = set()
        for _ in range(_ROUNDS):
            used = Counter(n for shape in self._shapes for n in {n for _, n in shape.way(prices)})
            kept = self._without_needless({*used}, weights)
            if not best or sum(weights[n] for n in kept) < sum(weights[n] for n in best) - 1e-9:
                best = kept
            prices = [w / (used[n] + 1) for n, w in enumerate(weights)]
        return best

    def _without_needless(self, kept: set[int], weights: Sequence[float]) -> set[int]:
        """What is left when contents go that nobody needs, the dearest first."""
        current = [shape.among(kept) for shape in self._shapes]
        having: dict[int, list[int]] = {}
        for at, steps in enumerate(current):
            for number in {n for step in steps for n in step.makers}:
                having.setdefault(number, []).append(at)
        for number in sorted(kept, key=lambda n: (-weights[n], -n)):
            fewer = {at: _without(current[at], number) for at in having.get(number, ())}
            if all(self._shapes[at].is_passable(steps) for at, steps in fewer.items()):
                kept = kept - {number}
                for at, steps in fewer.items():
                    current[at] = steps
        return kept


class _Solution(NamedTuple):
    """What a program took at which weights of the contents, and a weight below which no solution is."""

    weights: Sequence[float]
    taken: set[int]
    bound: float


class _Step(NamedTuple):
    """A step from node to node; one without an edit keeps a segment, others are made by any of some contents."""

    before: Node
    after: Node
    edit: Edit | None = None
    paid: float = 0.0  # for its length
    makers: tuple[int, ...] = ()


class _Shape:
    """A template as the choice sees it: equal ones count once. Its steps stand in the order of their nodes."""

    def __init__(self, start: Node, end: Node, steps: tuple[_Step, ...]) -> None:
        self.start, self.end, self.steps = start, end, steps

    @cached_property
    def made(self) -> dict[int, list[int]]:
        """Of each content the steps that it makes."""
        found: dict[int, list[int]] = {}
        for at, step in enumerate(self.steps):
            for number in step.makers:
                found.setdefault(number, []).append(at)
        return found

    @cached_property
    def _keeping(self) -> dict[int, list[int]]:
        return {at: [] for at, step in enumerate(self.steps) if step.edit is None}

    def among(self, kept: Set[int]) -> list[_Step]:
        """The steps that some of these contents make, and those that make nothing."""
        made = self.made
        able = dict(self._keeping)
        for number in sorted(kept & made.keys()):
            for at in made[number]:
                able.setdefault(at, []).append(number)
        return [_Step(*self.steps[at][:4], tuple(able[at])) for at in sorted(able)]

    def is_passable(self, steps: Iterable[_Step]) -> bool:
        """Whether some of these steps lead from the start to the end."""
        reached = {self.start}
        for before, after, *_ in steps:
            if before in reached:
                reached.add(after)
        return self.end in reached

    def way(self, prices: Mapping[int, float] | Sequence[float], steps: Sequence[_Step] | None = None) -> Way:
        """The cheapest way, each content paid once for each step; empty if there is none."""
        cost = {self.start: 0.0}
        back: dict[Node, tuple[Node, Edit | None, int]] = {}
        for before, after, edit, paid, makers in self.steps if steps is None else steps:
            so_far = cost.get(before, _FAR)
            if so_far >= _FAR:
                continue
            best = -1
            if makers:
                best = makers[0] if len(makers) == 1 else min(makers, key=prices.__getitem__)
                so_far += paid + prices[best]
            if so_far < cost.get(after, _FAR):
                cost[after], back[after] = so_far, (before, edit, best)
        return tuple(reversed(list(self._walked(back))))

    def _walked(self, back: Mapping[Node, tuple[Node, Edit | None, int]]) -> Iterator[tuple[Edit, int]]:
        node = self.end
        while node in back:
            node, edit, best = back[node]
            if edit is not None:
                yield edit, best


def _without(steps: Sequence[_Step], number: int) -> list[_Step]:
    """The steps that can be made without one content, by the others."""
    left = []
    for step in steps:
        if number not in step.makers:
            left.append(step)
        elif len(step.makers) > 1:
            left.append(_Step(*step[:4], tuple(n for n in step.makers if n != number)))
    return left


def _steps(lat: Lattice, made: Mapping[Edit, Sequence[int]]) -> tuple[_Step, ...]:
    steps = [_Step((i, j), (i + 1, j + 1)) for i, j in lat.kept]
    for e, numbers in made.items():
        paid = _LONG * (e.i2 - e.i + e.j2 - e.j) ** 2
        steps.append(_Step((e.i, e.j), (e.i2, e.j2), e, paid, tuple(numbers)))
    return tuple(sorted(steps, key=lambda s: (s.before, s.after, s.edit is not None)))


def _add_shape(program: Program, shape: _Shape, columns: list[int]) -> None:
    """Flow from start to end, each step carried by a content; a content without a column gets that of its step."""
    balance: dict[Node, list[tuple[int, float]]] = {}
    carried: dict[frozenset[int], list[int]] = {}
    for before, after, edit, _, numbers in shape.steps:
        column = program.column()
        balance.setdefault(before, []).append((column, 1.0))
        balance.setdefault(after, []).append((column, -1.0))
        if edit is None:
            continue
        if columns[numbers[0]] < 0:
            columns[numbers[0]] = column
        else:
            carried.setdefault(frozenset(numbers), []).append(column)
    for makers, own in carried.items():
        # so many steps take so many contents, and of steps side by side one is taken
        fewer = (more for some, more in carried.items() if some < makers) if len(makers) > 1 else ()
        steps = [*own, *chain.from_iterable(fewer)]
        program.row([*((c, -1.0) for c in steps), *((columns[n], 1.0) for n in sorted(makers))], 0.0, float("inf"))
    for node in sorted({*balance, shape.start, shape.end}):
        net = float(node == shape.start) - float(node == shape.end)
        program.row(balance.get(node, []), net, net)
