"""The greedy list: contents chosen by price, rules built move by move, and prices mended by what the contents took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from itertools import chain

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
_WORK = 30_000  # names looked at, some 25 µs each


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
        self._chooser = Chooser(problem.lattices, [*(c.occurrences for c in contents), *groups.values()])

    @property
    def size(self) -> int:
        """How many steps of all lattices there are to choose among."""
        return self._chooser.size

    @property
    def bound(self) -> int:
        """No list has fewer transforms."""
        return self._chooser.bound

    def lists(self) -> list[tuple[list[Rule], list[Group]]]:
        """Rules and the groups in which they work, the shortest list first."""
        weights = [*map(_weight, self._contents), *[1.0] * self._converts]
        found: list[tuple[int, Built]] = []
        tried: list[Choice] = []
        left = _WORK
        for _ in range(_MOST_ROUNDS):
            choice = self._chooser.choose(weights)
            if choice in tried or left <= 0:
                break
            tried.append(choice)
            built = build(self._problem, self._contents, choice, left)
            left -= built.work
            converts = sum(n >= len(self._contents) for n in choice.used)
            if not built.stuck:
                found.append((built.size + converts, built))
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
