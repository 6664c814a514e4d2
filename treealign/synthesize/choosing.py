"""Which contents to make the templates of: the fewest, by a program.

Each template is a way through its lattice, each step of which some content makes. Where the program is too large, each
content has a price instead. What is taken is pruned: contents are given up one by one, the dearest first, where the
templates that took them find a way through what the others took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from math import ceil
from typing import TypeAlias

from treealign.formats.cached import cached_property
from treealign.synthesize.contents import Occurrence
from treealign.synthesize.lattice import Edit, Lattice
from treealign.synthesize.program import Program, minimum

_MOST_ENTRIES = 30_000  # of programs, one after the other
_ROUNDS = 4
_TASTE = 0.5  # what all preferences together may weigh, against one rule
_LONG = 1e-4  # what a step costs by the square of its length: of ways with as few contents, the one in short steps
_SLIGHT = 1e-3  # of the cost of a content that is taken anyway
_FAR = 1e9

Node: TypeAlias = tuple[int, int]
Way: TypeAlias = tuple[tuple[Edit, int], ...]  # the edits of a template in order, and the content that makes each
Step: TypeAlias = tuple[Node, Node, Edit | None, tuple[int, ...]]


@dataclass(frozen=True)
class Choice:
    """The way of each template, and a number of transforms below which no choice is."""

    ways: tuple[Way, ...]
    bound: int

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
        return len(self._program[0].entries) <= self._left

    @property
    def bound(self) -> int:
        """No choice has fewer contents."""
        solved = self._solved([1.0 + t for t in self._tastes]) if self._shapes else (set[int](), 0)
        return 1 if solved is None else solved[1]

    def choose(self, costs: Sequence[float]) -> Choice:
        """The fewest contents, by the number of rules that each is known to take; few, where that is too much work."""
        weights = [cost + taste for cost, taste in zip(costs, self._tastes, strict=True)]
        solved = self._solved(weights)
        kept, bound = (self._priced(weights), 1) if solved is None else solved
        prices = {n: _SLIGHT * weights[n] for n in self._without_needless(kept, weights)}
        found = [shape.way(prices) for shape in self._shapes]
        return Choice(tuple(found[number] for number in self._of), bound)

    def _solved(self, weights: Sequence[float]) -> tuple[set[int], int] | None:
        """The contents that the program takes, and its bound; None where it is too large."""
        program, columns = self._program
        if not self.is_small:
            return None
        self._left -= len(program.entries)
        of = dict(zip(columns, weights, strict=True))
        solved = minimum(program, [of.get(column, 0.0) for column in range(program.size)])
        if solved is None:
            return None
        taken = {*solved.chosen}
        bound = max(1, ceil(solved.bound - _TASTE - 1e-6))
        return {n for n, column in enumerate(columns) if column in taken}, bound

    def _priced(self, weights: Sequence[float]) -> set[int]:
        """Few contents: each template takes its cheapest way, and what many take becomes cheap."""
        spread = Counter(n for shape in self._shapes for n in shape.contents)
        prices = {n: w / max(1, spread[n]) for n, w in enumerate(weights)}
        best: set[int] = set()
        for _ in range(_ROUNDS):
            used = Counter(n for shape in self._shapes for n in {n for _, n in shape.way(prices)})
            kept = self._without_needless({*used}, weights)
            if not best or sum(weights[n] for n in kept) < sum(weights[n] for n in best) - 1e-9:
                best = kept
            prices = {n: w / (used[n] + 1) for n, w in enumerate(weights)}
        return best

    def _without_needless(self, kept: set[int], weights: Sequence[float]) -> set[int]:
        """What is left when contents go that nobody needs, the dearest first."""
        for number in sorted(kept, key=lambda n: (-weights[n], -n)):
            rest = kept - {number}
            if all(shape.way(dict.fromkeys(rest, 0.0)) for shape in self._shapes if number in shape.contents):
                kept = rest
        return kept


@dataclass(frozen=True)
class _Shape:
    """A template as the choice sees it: equal ones count once."""

    start: Node
    end: Node
    steps: tuple[Step, ...]

    @cached_property
    def contents(self) -> frozenset[int]:
        return frozenset(n for *_, numbers in self.steps for n in numbers)

    def way(self, prices: Mapping[int, float]) -> Way:
        """The cheapest way through contents that have a price, each paid once for each step; empty if there is none."""
        cost = {self.start: 0.0}
        back: dict[Node, tuple[Node, Edit | None, int]] = {}
        for before, after, edit, numbers in self.steps:
            if before not in cost:
                continue
            best, paid = -1, cost[before]
            if edit is not None:
                able = [n for n in numbers if n in prices]
                if not able:
                    continue
                best = min(able, key=lambda n: (prices[n], n))
                paid += _LONG * (edit.i2 - edit.i + edit.j2 - edit.j) ** 2 + prices[best]
            if paid < cost.get(after, _FAR):
                cost[after] = paid
                back[after] = before, edit, best
        return _walked(back, self.end) if self.end in cost else ()


def _walked(back: Mapping[Node, tuple[Node, Edit | None, int]], end: Node) -> Way:
    found: list[tuple[Edit, int]] = []
    while end in back:
        end, edit, number = back[end]
        if edit is not None:
            found.append((edit, number))
    return tuple(reversed(found))


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
