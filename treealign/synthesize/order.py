"""The order in which rules work, and which of them have to work at once.

A rule may take a match away from another, or give it one; so for each sample key the orders of the rules that touch it
are found, each rule leading back what it has led on, and one order of all rules is searched that is right for every
key. Rules that each need another to come first (a swap) are tied into one simultaneous renaming.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import TypeAlias

from treealign.synthesize.budget import Budget
from treealign.synthesize.orders import NONE, Group, Orders, Ways
from treealign.synthesize.rules import Rule
from treealign.tree.segments import NO_SLOTS, Name, Slots

_MOST_TOUCHING = 6
_MOST_TIED = 4
_MOST_NAMES = 200
_MOST_STEPS = 250  # besides one for each group
_MOST_CONTRADICTIONS = 2000


@dataclass(frozen=True)
class Sample:
    """A key on its way: `target` is None where any name will do from which the way back leads to `source`."""

    source: Name
    target: Name | None


Demand: TypeAlias = tuple[frozenset[int], Sample]  # the rules that touch a sample


@dataclass(frozen=True)
class Order:
    """Groups of rules in order, or, where there is no order, the rules that cannot be right together.

    Attributes
    ----------
    groups : tuple of tuple of int
        Empty where there is no order.
    stuck : frozenset of int
        Rules of which one has to go, or another one come.
    samples : tuple of Sample
        The keys that they cannot make.
    """

    groups: tuple[Group, ...]
    stuck: frozenset[int] = frozenset()
    samples: tuple[Sample, ...] = ()


def order(rules: Sequence[Rule], samples: Iterable[Sample], budget: Budget, explain: bool = True) -> Order:
    """An order in which the rules turn every sample's source into its target and back.

    Where there is none and `explain` is false, the rules that are stuck are not narrowed down, which takes longest.

    Raises
    ------
    OutOfWork
        The budget does not suffice.
    """
    return _Ordering(rules, budget).run(samples, explain)


class _Ordering:
    """What is asked of some rules, and the answers."""

    def __init__(self, rules: Sequence[Rule], budget: Budget) -> None:
        self._rules, self._budget, self._orders = rules, budget, Orders()

    def run(self, samples: Iterable[Sample], explain: bool) -> Order:
        """The order, or what is stuck."""
        demands: dict[Hashable, Demand] = {}
        tied: list[frozenset[int]] = []
        for sample in samples:
            touching = touching_rules(self._rules, sample, self._budget)
            ways = self._good([(r,) for r in touching], sample)
            if ways == NONE:
                tie = self._smallest_tie(touching, sample)
                if not tie:
                    return Order((), touching, (sample,))
                tied.append(tie)
            if len(touching) > 1:
                demands.setdefault(touching if ways == NONE else ways, (touching, sample))
        return self._arrange(demands, tied, explain)

    def _arrange(self, demands: dict[Hashable, Demand], tied: list[frozenset[int]], explain: bool) -> Order:
        """An order, with rules tied as far as they have to be."""
        while True:
            groups = _groups(len(self._rules), tied)
            if tied:
                known = [self._good(_restricted(groups, t), sample) for t, sample in demands.values()]
            else:
                known = [ways for ways in demands if isinstance(ways, int)]
            knots = self._knots(known) if all(known) else []
            if not knots:
                break
            tieable = [k for k in knots if is_exchange([self._rules[r] for r in sorted(k)])]
            if len(tieable) < len(knots) or any(knot <= tie for knot in knots for tie in tied):
                return _stuck(demands, min(knots, key=len))
            tied = [*tied, *knots]
        found = self._search(groups, known) if all(known) else None
        if found is not None:
            return Order(found)
        every = frozenset(n for group in groups for n in group)
        return self._contradiction(groups, known, demands) if explain else _stuck(demands, every)

    def _contradiction(self, groups: Sequence[Group], known: Sequence[Ways], demands: dict[Hashable, Demand]) -> Order:
        """The fewest samples of which no order is right for all."""
        listed = list(demands.values())
        for size in (1, 2, 3):
            for some in islice(combinations(range(len(known)), size), _MOST_CONTRADICTIONS):
                touching = frozenset().union(*(listed[n][0] for n in some))
                if self._search(_restricted(groups, touching), [known[n] for n in some]) is None:
                    return Order((), touching, tuple(listed[n][1] for n in some))
        return _stuck(demands, frozenset(n for group in groups for n in group))

    def _smallest_tie(self, touching: frozenset[int], sample: Sample) -> frozenset[int]:
        """The fewest rules that make the sample if they work at once; none if that does not help."""
        rules = self._rules
        taking = sorted(r for r in touching if any(_hands_over(rules, r, other) for other in touching))
        for size in range(2, min(len(taking), _MOST_TIED) + 1):
            for tie in combinations(taking, size):
                self._budget.spend(size)
                groups = [tie, *((r,) for r in touching if r not in tie)]
                if is_exchange([rules[r] for r in tie]) and self._good(groups, sample):
                    return frozenset(tie)
        return frozenset()

    def _good(self, groups: Sequence[Group], sample: Sample) -> Ways:
        """The orders of these groups that are right for the sample, each bringing back what it has changed."""
        if len(groups) > _MOST_TOUCHING:
            return NONE
        seen: dict[tuple[tuple[Group, ...], Name], Ways] = {}

        def lead(left: tuple[Group, ...], name: Name) -> Ways:
            if not left:
                return self._orders.end(sample.target is None or name == sample.target)
            if (left, name) not in seen:
                self._budget.spend(len(left))
                after: list[tuple[Group, Ways]] = []
                for at, group in enumerate(left):
                    new = step(self._rules, group, name, True)
                    if step(self._rules, group, new, False) == name:
                        after.append((group, lead((*left[:at], *left[at + 1 :]), new)))
                seen[left, name] = self._orders.state(after)
            return seen[left, name]

        return lead(tuple(sorted(groups)), sample.source)

    def _search(self, groups: Sequence[Group], demands: Sequence[Ways]) -> tuple[Group, ...] | None:
        """An order that, restricted to the groups of each demand, is one of its orders.

        What has to come first is known for pairs of groups; mostly that is all there is to know. Where it is not,
        orders are tried one by one, as many as there is work for.
        """
        if not all(demands):
            return None
        orders = self._orders
        before: dict[Group, set[Group]] = {g: set() for g in groups}
        for a, b in self._precedences(demands):
            before[b].add(a)
        of: dict[Group, list[int]] = {g: [] for g in groups}
        for at, ways in enumerate(demands):
            for group in orders.members(ways):
                of[group].append(at)
        steps = iter(range(_MOST_STEPS + len(groups)))
        self._budget.spend(len(demands))

        def extend(done: tuple[Group, ...], left: Sequence[Ways]) -> tuple[Group, ...] | None:
            if len(done) == len(groups):
                return done
            placed = set(done)
            for group in groups:
                if group in placed or not before[group] <= placed or next(steps, None) is None:
                    continue
                self._budget.spend(1 + len(of[group]))
                rest = list(left)
                for at in of[group]:
                    rest[at] = orders.begun(rest[at], group)
                found = extend((*done, group), rest) if all(rest[at] for at in of[group]) else None
                if found is not None:
                    return found
            return None

        return extend((), demands)

    def _precedences(self, demands: Iterable[Ways]) -> Iterator[tuple[Group, Group]]:
        """Pairs of groups of which the first comes first in every order of some demand."""
        for ways in demands:
            yield from self._orders.precedences(ways)

    def _knots(self, demands: Sequence[Ways]) -> list[frozenset[int]]:
        """Sets of rules that have to come before each other, directly or not."""
        import networkx

        graph = networkx.DiGraph(self._precedences(demands))
        knots = [k for k in networkx.strongly_connected_components(graph) if len(k) > 1]
        return sorted((frozenset(n for group in k for n in group) for k in knots), key=sorted)


def _groups(count: int, tied: Iterable[frozenset[int]]) -> list[Group]:
    """Rules as groups: those that are tied, directly or through others, together."""
    of = {n: {n} for n in range(count)}
    for tie in tied:
        joined = set().union(*(of[n] for n in tie))
        for n in joined:
            of[n] = joined
    return sorted({tuple(sorted(group)) for group in of.values()})


def is_exchange(rules: Sequence[Rule]) -> bool:
    """Whether what one rule makes is what another replaces, in one swap or chain."""
    links = sum(a.new == b.old for a in rules for b in rules if a is not b)
    return links >= len(rules) - 1


def _hands_over(rules: Sequence[Rule], a: int, b: int) -> bool:
    """Whether one makes what the other replaces: a rule that takes part in no exchange is no part of a tie."""
    return a != b and (rules[a].new == rules[b].old or rules[b].new == rules[a].old)


def _stuck(demands: dict[Hashable, Demand], knot: frozenset[int]) -> Order:
    return Order((), knot, tuple(s for touching, s in demands.values() if touching & knot))


def touching_rules(rules: Sequence[Rule], sample: Sample, budget: Budget) -> frozenset[int]:
    """The rules that match on some way forward from the source, or back from the target; each works once."""
    found = _touching(rules, sample.source, budget, True)
    return found if sample.target is None else found | _touching(rules, sample.target, budget, False)


def _touching(rules: Sequence[Rule], name: Name, budget: Budget, forward: bool) -> frozenset[int]:
    start: tuple[Name, frozenset[int]] = (name, frozenset())
    seen, waiting = {start}, [start]
    while waiting and len(seen) < _MOST_NAMES:
        name, done = waiting.pop()
        budget.spend(len(rules))
        for n, rule in enumerate(rules):
            new = None if n in done else rule.rewrite(name) if forward else rule.restore(name)
            state = (name if new is None else new, done | {n})
            if new is not None and state not in seen:
                seen.add(state)
                waiting.append(state)
    return frozenset().union(*(done for _, done in seen))


def _restricted(groups: Iterable[Group], rules: frozenset[int]) -> list[Group]:
    return [g for g in groups if not rules.isdisjoint(g)]


def step(rules: Sequence[Rule], group: Group, name: Name, forward: bool, slots: Slots = NO_SLOTS) -> Name:
    """The name after rules that work at once: of several that match, the one that matches first, then the longest."""
    best: tuple[int, int, Name] | None = None
    for n in group:
        new = rules[n].rewrite(name, slots) if forward else rules[n].restore(name, slots)
        if new is None:
            continue
        if len(group) == 1:
            return new
        found = (rules[n].forward if forward else rules[n].backward).find(name, slots)[0]
        if best is None or (found.first, -found.stop) < best[:2]:
            best = (found.first, -found.stop, new)
    return name if best is None else best[2]
