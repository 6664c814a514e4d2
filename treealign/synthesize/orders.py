"""Sets of orders of a few groups of rules, as states of one automaton: an order is read group by group.

Of n groups there are n! orders, but hardly ever more than a few states: what may come next depends on what has come
and on the name as it then is, not on the order of what has come. Equal sets have equal numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

Group: TypeAlias = tuple[int, ...]  # rules that work at once; mostly one
Ways: TypeAlias = int  # a set of orders; false if there is none

NONE: Ways = 0
_END: Ways = 1  # the order without groups


class Orders:
    """Sets of orders, numbered as they are met."""

    def __init__(self) -> None:
        self._after: list[dict[Group, Ways]] = [{}, {}]
        self._numbers: dict[tuple[tuple[Group, Ways], ...], Ways] = {(): NONE}
        self._pairs: dict[Ways, tuple[tuple[Group, Group], ...]] = {}

    def end(self, good: bool) -> Ways:
        """The set that holds the order without groups, or the empty one."""
        return _END if good else NONE

    def state(self, after: Iterable[tuple[Group, Ways]]) -> Ways:
        """The orders that begin with one of these groups and go on in one of the ways behind it."""
        key = tuple((group, ways) for group, ways in after if ways != NONE)
        if key not in self._numbers:
            self._numbers[key] = len(self._after)
            self._after.append(dict(key))
        return self._numbers[key]

    def begun(self, ways: Ways, group: Group) -> Ways:
        """What is left of the orders that begin with this group."""
        return self._after[ways].get(group, NONE)

    def members(self, ways: Ways) -> frozenset[Group]:
        """The groups of each order."""
        found: list[Group] = []
        while self._after[ways]:
            group, ways = next(iter(self._after[ways].items()))
            found.append(group)
        return frozenset(found)

    def precedences(self, ways: Ways) -> tuple[tuple[Group, Group], ...]:
        """Pairs of groups of which the first comes first in every order."""
        if ways not in self._pairs:
            self._pairs[ways] = tuple(self._first_pairs(ways))
        return self._pairs[ways]

    def _first_pairs(self, ways: Ways) -> Iterator[tuple[Group, Group]]:
        every = self.members(ways)
        earlier: dict[Group, set[Group]] = {group: set(every) - {group} for group in every}
        seen, waiting = {ways}, [ways]
        while waiting:
            state = waiting.pop()
            left = self.members(state)
            for group, after in self._after[state].items():
                earlier[group] -= left  # it can come before all that are left
                if after not in seen:
                    seen.add(after)
                    waiting.append(after)
        for group in sorted(every):
            yield from ((first, group) for first in sorted(earlier[group]))
