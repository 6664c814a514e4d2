"""Which contents to make the templates of: few, found by prices, without a program.

Each content has a price; each template takes its cheapest way through its lattice, and what many take becomes cheap.
Then contents are given up one by one where the templates that took them find a way through what the others took. Work
is linear in the steps of all lattices, for each content once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from treealign.formats.cached import cached_property
from treealign.synthesize.contents import Occurrence
from treealign.synthesize.lattice import Edit, Lattice

_ROUNDS = 4
_LONG = 1e-4  # what a step costs by the square of its length: of ways with as few contents, the one in short steps
_SLIGHT = 1e-3  # of the weight of a content that is taken anyway
_FAR = 1e9

Way: TypeAlias = tuple[tuple[Edit, int], ...]  # the edits of a template in order, and the content that makes each
Step: TypeAlias = tuple[tuple[int, int], tuple[int, int], Edit | None, tuple[int, ...]]


@dataclass(frozen=True)
class Choice:
    """The way of each template, and how few contents there could be."""

    ways: tuple[Way, ...]
    bound: int

    @property
    def used(self) -> set[int]:
        """The contents that some way takes."""
        return {content for way in self.ways for _, content in way}


class Chooser:
    """Chooses among contents, again and again, as their prices change.

    Parameters
    ----------
    lattices : sequence of Lattice
        One for each template.
    makes : sequence of sequences of Occurrence
        The edits that each content makes.
    """

    def __init__(self, lattices: Sequence[Lattice], makes: Sequence[Sequence[Occurrence]]) -> None:
        makers: list[dict[Edit, list[int]]] = [{} for _ in lattices]
        for number, occurrences in enumerate(makes):
            for o in occurrences:
                makers[o.template].setdefault(o.edit, []).append(number)
        numbers: dict[Hashable, int] = {}
        self._shapes: list[_Shape] = []
        self._of: list[int] = []  # of each template, the number of its shape
        for lat, made in zip(lattices, makers, strict=True):
            shape = _shape(lat, made)
            self._of.append(numbers.setdefault((shape.start, shape.end, shape.steps), len(numbers)))
            if len(numbers) > len(self._shapes):
                self._shapes.append(shape)
        self._count = len(makes)
        self._spread = [0] * self._count
        for shape in self._shapes:
            for number in shape.contents:
                self._spread[number] += 1

    @property
    def possible(self) -> bool:
        """Whether every template has some way."""
        return all(shape.way(dict.fromkeys(shape.contents, 1.0)) is not None for shape in self._shapes)

    @cached_property
    def size(self) -> int:
        """How many steps there are to choose among."""
        return sum(len(shape.steps) for shape in self._shapes)

    def choose(self, weights: Sequence[float]) -> Choice:
        """Few contents, by weight: what a content is expected to take of rules."""
        prices = [w / max(1, n) for w, n in zip(weights, self._spread, strict=True)]
        best: set[int] | None = None
        for _ in range(_ROUNDS):
            used = self._taken(prices)
            kept = self._without_needless({*used}, weights)
            if best is None or _total(kept, weights) < _total(best, weights) - 1e-9:
                best = kept
            prices = [w / (used[n] + 1) if n in used else w for n, w in enumerate(weights)]
        return self.ways_of(best or set(), weights)

    def ways_of(self, kept: set[int], weights: Sequence[float]) -> Choice:
        """The ways through these contents only."""
        prices = {n: _SLIGHT * weights[n] for n in kept}
        found = [shape.way(prices) or () for shape in self._shapes]
        return Choice(tuple(found[number] for number in self._of), self.bound)

    def _taken(self, prices: Sequence[float]) -> dict[int, int]:
        """How many templates take each content at these prices."""
        taken: dict[int, int] = {}
        for shape in self._shapes:
            for number in {n for _, n in shape.way({n: prices[n] for n in shape.contents}) or ()}:
                taken[number] = taken.get(number, 0) + 1
        return taken

    def _without_needless(self, kept: set[int], weights: Sequence[float]) -> set[int]:
        """What is left when contents go that nobody needs, the dearest and least used first."""
        for number in sorted(kept, key=lambda n: (-weights[n], self._spread[n], -n)):
            rest = kept - {number}
            if all(shape.passes(rest) for shape in self._shapes if number in shape.contents):
                kept = rest
        return kept

    @cached_property
    def bound(self) -> int:
        """Templates that have no content in common each take one at least."""
        seen: set[int] = set()
        count = 0
        for shape in sorted(self._shapes, key=lambda s: (len(s.contents), sorted(s.contents))):
            if shape.start != shape.end and seen.isdisjoint(shape.contents) and not shape.passes(set()):
                seen |= shape.contents
                count += 1
        return count


@dataclass(frozen=True)
class _Shape:
    """A template as the choice sees it: equal ones count once."""

    start: tuple[int, int]
    end: tuple[int, int]
    steps: tuple[Step, ...]

    @cached_property
    def contents(self) -> frozenset[int]:
        return frozenset(n for *_, numbers in self.steps for n in numbers)

    def passes(self, kept: set[int]) -> bool:
        """Whether these contents make the template."""
        reached = {self.start}
        for before, after, edit, numbers in self.steps:
            if before in reached and (edit is None or not kept.isdisjoint(numbers)):
                reached.add(after)
        return self.end in reached

    def way(self, prices: Mapping[int, float]) -> Way | None:
        """The cheapest way, each content paid once for each step that it makes."""
        cost = {self.start: 0.0}
        back: dict[tuple[int, int], tuple[tuple[int, int], Edit | None, int]] = {}
        for before, after, edit, numbers in self.steps:
            if before not in cost:
                continue
            best, paid = -1, cost[before]
            if edit is not None:
                best = numbers[0] if len(numbers) == 1 else min(numbers, key=lambda n: (prices.get(n, _FAR), n))
                paid += _LONG * _length(edit) ** 2 + prices.get(best, _FAR)
            if paid < cost.get(after, _FAR):
                cost[after] = paid
                back[after] = before, edit, best
        return _walked(back, self.start, self.end) if self.end in cost else None


def _length(edit: Edit) -> int:
    return edit.i2 - edit.i + edit.j2 - edit.j


def _walked(
    back: Mapping[tuple[int, int], tuple[tuple[int, int], Edit | None, int]],
    start: tuple[int, int],
    end: tuple[int, int],
) -> Way:
    found: list[tuple[Edit, int]] = []
    while end != start:
        end, edit, number = back[end]
        if edit is not None:
            found.append((edit, number))
    return tuple(reversed(found))


def _shape(lat: Lattice, made: Mapping[Edit, Sequence[int]]) -> _Shape:
    steps: list[Step] = [((i, j), (i + 1, j + 1), None, ()) for i, j in lat.kept]
    steps += [((e.i, e.j), (e.i2, e.j2), e, tuple(numbers)) for e, numbers in made.items()]
    return _Shape(lat.start, lat.end, tuple(sorted(steps, key=lambda s: (s[0], s[1], s[2] is not None))))


def _total(kept: Iterable[int], weights: Sequence[float]) -> float:
    return sum(weights[n] for n in kept)
