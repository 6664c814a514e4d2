"""The greedy list: contents chosen by price, rules built move by move, and prices mended by what the contents took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from itertools import chain

from treealign.formats.cached import cached_property
from treealign.synthesize.absorbing import absorptions
from treealign.synthesize.building import Built, build
from treealign.synthesize.choosing import Choice, Chooser
from treealign.synthesize.contents import Content, Occurrence, holds
from treealign.synthesize.orders import Group
from treealign.synthesize.problem import Problem
from treealign.synthesize.rules import Rule
from treealign.tree.keys import is_index
from treealign.tree.segments import Segment

_MOST_ROUNDS = 3


class Greedy:
    """Lists for a problem, one after the other.

    Parameters
    ----------
    problem : Problem
        Restricted to the contents.
    contents : sequence of Content
        What rules may replace.
    """

    def __init__(self, problem: Problem, contents: Sequence[Content]) -> None:
        self._problem, self._contents = problem, contents
        groups: dict[object, list[Occurrence]] = {}
        for occurrence, key in absorptions(problem.conversions, len(problem.templates)):
            groups.setdefault(key, []).append(occurrence)
        self._converts = len(groups)
        self.work = 0  # names looked at so far
        self._chooser = Chooser(problem.lattices, [*(c.occurrences for c in contents), *groups.values()])

    @property
    def size(self) -> int:
        """How many steps of all lattices there are to choose among."""
        return self._chooser.size

    @property
    def bound(self) -> int:
        """No list has fewer transforms."""
        return self._chooser.bound

    @cached_property
    def _weights(self) -> list[float]:
        return [*map(_weight, self._contents), *[1.0] * self._converts]

    @cached_property
    def _first(self) -> Choice:
        return self._chooser.choose(self._weights)

    @property
    def estimate(self) -> int:
        """How many transforms there are if each content takes one."""
        return len(self._first.used)

    def lists(self, work: int, below: int) -> list[tuple[list[Rule], list[Group]]]:
        """Rules and the groups in which they work, the shortest list first, found by looking at so many names.

        Only lists of fewer than `below` transforms are looked for, and then only such as are shorter than the others.
        """
        weights = list(self._weights)
        found: list[tuple[int, Built]] = []
        tried: list[Choice] = []
        for _ in range(_MOST_ROUNDS):
            choice = self._chooser.choose(weights) if tried else self._first
            if choice in tried or self.work >= work:
                break
            tried.append(choice)
            converts = sum(n >= len(self._contents) for n in choice.used)
            built = build(self._problem, self._contents, choice, work - self.work, below - converts)
            self.work += built.work
            if built.done and built.size + converts < below:
                below = built.size + converts
                found.append((below, built))
            counts = {**built.taken, **{n: built.taken.get(n, 0) + 2 for n in built.stuck}}
            dear = {n: count for n, count in counts.items() if count > 1 and n < len(self._contents)}
            if not dear:
                break
            for n, count in dear.items():
                for dearer in self._swallowing(n, choice.used):
                    weights[dearer] = max(weights[dearer], float(count))
        return [_numbered(built) for _, built in sorted(found, key=lambda item: item[0])]

    def _swallowing(self, number: int, used: Set[int]) -> Iterator[int]:
        """The contents that make, in one with more, what this one makes: those leave it to be made elsewhere alone."""
        own = {o.template: o.edit for o in self._contents[number].occurrences}
        for n, content in enumerate(self._contents):
            if n in used and any(o.template in own and holds(o.edit, own[o.template]) for o in content.occurrences):
                yield n


def _numbered(built: Built) -> tuple[list[Rule], list[Group]]:
    groups: list[Group] = []
    for move in built.moves:
        first = sum(map(len, groups))
        groups.append(tuple(range(first, first + len(move))))
    return list(chain.from_iterable(built.moves)), groups


def _weight(content: Content) -> float:
    """How many rules a content is expected to take; what is told by numbers alone is told badly."""
    sides = (content.old, content.new)
    bare = sum(bool(side) and all(map(_is_number, side)) for side in sides)
    length = len(content.old) + len(content.new) + len(content.words)
    return 1.0 + 0.01 * length + bare + 0.1 * sum(not side for side in sides)


def _is_number(segment: Segment) -> bool:
    return is_index(segment) if isinstance(segment, str) else len(segment) == 3 and not (segment[0] or segment[2])
