"""Which contents to make the templates of: the fewest, by a program.

Each template is a way through its lattice, each step of which some content makes. Where the program is too large, each
content has a price instead. What is taken is pruned: contents are given up one by one, the dearest first, where the
templates that took them find a way through what the others took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain, count
from math import ceil
from typing import TypeAlias

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
Step: TypeAlias = tuple[Node, Node, Edit | None, tuple[int, ...]]


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
        shapes = [_shape(lat, made) for lat, made in zip(lattices, makers, strict=True)]
        numbers: dict[_Shape, int] = {}
        self._of = [numbers.setdefault(shape, len(numbers)) for shape in shapes]
        self._shapes = list(numbers)
        self._left = _MOST_ENTRIES
        unit = _TASTE / (max(tastes, default=1.0) * min(len(tastes), len(numbers) + 1) or 1.0)
        self._unit, self._most = unit, 2 * unit * max(tastes, default=1.0)
        self._tastes = [unit * taste for taste in tastes]

    @cached_property
    def _program(self) -> tuple[Program, list[int]]:
        """The program of all ways, and the column of each content: that of its step where it makes one step only."""
        steps = Counter(n for shape in self._shapes for *_, numbers in shape.steps for n in numbers)
        every = (numbers for shape in self._shapes for *_, numbers in shape.steps)
        alone = {numbers[0] for numbers in every if len(numbers) == 1 and steps[numbers[0]] == 1}
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
        solved = self._solved([1.0 + t for t in self._tastes]) if self._shapes else (set[int](), 0)
        return 1 if solved is None else solved[1]

    def choose(self, costs: Sequence[float]) -> Choice:
        """The fewest contents, by the number of rules that each is known to take; few, where that is too much work."""
        weights = [cost + taste for cost, taste in zip(costs, self._tastes, strict=True)]
        solved = self._solved(weights)
        if solved is not None:
            self._left -= len(self._program[0].entries)
        kept = self._priced(weights) if solved is None else solved[0]
        shapes = [shape.among(kept) for shape in self._shapes]
        left = _without_needless(shapes, kept, weights)
        prices = {n: _SLIGHT * weights[n] for n in left}
        found = [shape.among(left).way(prices) for shape in shapes]
        return Choice(tuple(found[number] for number in self._of), solved is not None)

    def _solved(self, weights: Sequence[float]) -> tuple[set[int], int] | None:
        """The contents that the program takes, and its bound; None where it is too large."""
        if not self.is_small:
            return None
        program, columns = self._program
        of = dict(zip(columns, weights, strict=True))
        solved = minimum(program, [of.get(column, 0.0) for column in range(program.size)])
        if solved is None:
            return None
        taken = {*solved.chosen}
        bound = max(1, ceil(solved.bound - _TASTE - 1e-6))
        return {n for n, column in enumerate(columns) if column in taken}, bound

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
            kept = _without_needless([shape.among(used.keys()) for shape in self._shapes], {*used}, weights)
            if not best or sum(weights[n] for n in kept) < sum(weights[n] for n in best) - 1e-9:
                best = kept
            prices = [w / (used[n] + 1) for n, w in enumerate(weights)]
        return best


def _without_needless(shapes: Sequence[_Shape], kept: set[int], weights: Sequence[float]) -> set[int]:
    """What is left when contents go that nobody needs, the dearest first; the shapes have steps of these only."""
    having: dict[int, list[int]] = {}
    for at, shape in enumerate(shapes):
        for number in shape.made:
            having.setdefault(number, []).append(at)
    current = list(shapes)
    for number in sorted(kept, key=lambda n: (-weights[n], -n)):
        fewer = [(at, current[at].among(kept - {number})) for at in having.get(number, ())]
        if all(shape.is_passable for _, shape in fewer):
            kept = kept - {number}
            for at, shape in fewer:
                current[at] = shape
    return kept


@dataclass(frozen=True)
class _Shape:
    """A template as the choice sees it: equal ones count once."""

    start: Node
    end: Node
    steps: tuple[Step, ...]

    @cached_property
    def made(self) -> dict[int, list[int]]:
        """Of each content the steps that it makes."""
        found: dict[int, list[int]] = {}
        for at, step in enumerate(self.steps):
            for number in step[3]:
                found.setdefault(number, []).append(at)
        return found

    @cached_property
    def _keeping(self) -> list[int]:
        return [at for at, step in enumerate(self.steps) if step[2] is None]

    def among(self, kept: Set[int]) -> _Shape:
        """The same with the steps only that some of these contents make."""
        made = self.made
        able: dict[int, list[int]] = {}
        for number in sorted(kept & made.keys()):
            for at in made[number]:
                able.setdefault(at, []).append(number)
        chosen = sorted([*self._keeping, *able])
        return replace(self, steps=tuple((*self.steps[at][:3], tuple(able.get(at, ()))) for at in chosen))

    @property
    def is_passable(self) -> bool:
        """Whether there is a way at all."""
        reached = {self.start}
        for before, after, *_ in self.steps:
            if before in reached:
                reached.add(after)
        return self.end in reached

    @cached_property
    def _rows(self) -> tuple[dict[Node, int], list[tuple[int, int, float, int, tuple[int, ...]]]]:
        """The nodes numbered, and of each step its nodes, what its length costs, and who makes it: one, or several."""
        numbers = {node: n for n, node in enumerate(dict.fromkeys((self.start, *(s[1] for s in self.steps), self.end)))}
        rows = []
        for before, after, e, makers in self.steps:
            if before in numbers:
                paid = 0.0 if e is None else _LONG * (e.i2 - e.i + e.j2 - e.j) ** 2
                alone = makers[0] if len(makers) == 1 else -1
                rows.append((numbers[before], numbers[after], paid, alone, makers))
        return numbers, rows

    def way(self, prices: Mapping[int, float] | Sequence[float]) -> Way:
        """The cheapest way, each content paid once for each step; empty if there is none."""
        numbers, rows = self._rows
        cost = [_FAR] * len(numbers)
        back: list[tuple[int, int, int]] = [(-1, -1, -1)] * len(numbers)  # the node before, the row, and who makes it
        cost[numbers[self.start]] = 0.0
        for at, (before, after, paid, best, makers) in enumerate(rows):
            so_far = cost[before]
            if so_far >= _FAR:
                continue
            if makers:
                if best < 0:
                    best = min(makers, key=prices.__getitem__)  # noqa: PLW2901  of several the cheapest
                so_far += paid + prices[best]
            if so_far < cost[after]:
                cost[after], back[after] = so_far, (before, at, best)
        return tuple(reversed(list(self._walked(back, numbers[self.end]))))

    def _walked(self, back: Sequence[tuple[int, int, int]], node: int) -> Iterator[tuple[Edit, int]]:
        passed = [step for step in self.steps if step[0] in self._rows[0]]
        while back[node][0] >= 0:
            node, at, best = back[node]
            edit = passed[at][2]
            if edit is not None:
                yield edit, best


def _shape(lat: Lattice, made: Mapping[Edit, Sequence[int]]) -> _Shape:
    steps: list[Step] = [((i, j), (i + 1, j + 1), None, ()) for i, j in lat.kept]
    steps += [((e.i, e.j), (e.i2, e.j2), e, tuple(numbers)) for e, numbers in made.items()]
    return _Shape(lat.start, lat.end, tuple(sorted(steps, key=lambda s: (s[0], s[1], s[2] is not None))))


def _add_shape(program: Program, shape: _Shape, columns: list[int]) -> None:
    """Flow from start to end, each step carried by a content; a content without a column gets that of its step."""
    balance: dict[Node, list[tuple[int, float]]] = {}
    carried: dict[frozenset[int], list[int]] = {}
    for before, after, edit, numbers in shape.steps:
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
