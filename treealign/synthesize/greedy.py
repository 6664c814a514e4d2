"""Lists of rules: contents chosen by a program, rules built move by move, costs mended by what the contents took."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence, Set
from functools import lru_cache
from operator import itemgetter
from typing import TypeVar

from treealign.formats.cached import cached_property
from treealign.synthesize.absorbing import absorptions
from treealign.synthesize.building import Builder, Built, Memory
from treealign.synthesize.choosing import Choice, Chooser, Way
from treealign.synthesize.contents import Content, Occurrence, holds
from treealign.synthesize.problem import Problem
from treealign.synthesize.rules import Move
from treealign.tree.keys import is_index
from treealign.tree.segments import Segment

T = TypeVar("T")
_MOST_ROUNDS = 5
_BARE = 1.0  # of a rule, for each side of a content that is told by numbers alone
_STEP = 0.3  # of a rule, by which a content becomes dearer
_MANY = 1_000_000  # rules


class Greedy:
    """Lists for a problem, one after the other.

    Parameters
    ----------
    problem : Problem
    contents : sequence of Content
        What rules may replace.
    """

    def __init__(self, problem: Problem, contents: Sequence[Content]) -> None:
        self._problem, self._contents = problem, contents
        groups: dict[Hashable, list[Occurrence]] = {}
        for occurrence, key in absorptions(problem.conversions, len(problem.templates)):
            groups.setdefault(key, []).append(occurrence)
        makes = [*(c.occurrences for c in contents), *groups.values()]
        tastes = [*map(_taste, contents), *map(_haste, groups.values())]
        self._chooser = Chooser(problem.lattices, makes, tastes)
        self._costs = [*(1.0 + _BARE * _bare(c) for c in contents), *[1.0] * len(groups)]
        self._hard = frozenset[int]()  # contents that took several moves
        self._memory = Memory()
        self.is_small = self._chooser.is_small

    @cached_property
    def _first(self) -> Choice:
        return self._chooser.choose(self._costs)

    @property
    def expected(self) -> int:
        """How many transforms there are if each content that is chosen first takes one."""
        return len(self._first.used)

    @cached_property
    def bound(self) -> int:
        """No list made of these contents has fewer transforms.

        Renamings may do to the sources of conversions whatever they like: no more is known of these than how many
        `Convert` there are at least.
        """
        problem, own = self._problem, len(self._problem.templates)
        if not problem.conversions:
            return self._chooser.bound
        converts = len({c.kind for c in problem.conversions})
        makes = [[o for o in c.occurrences if o.template < own] for c in self._contents]
        return converts + Chooser(problem.lattices[:own], makes, [*map(_taste, self._contents)]).bound

    def best(self, work: int, accept: Callable[[Sequence[Move]], T | None], most: int = _MANY) -> T | None:
        """What the shortest list becomes that is accepted, of those of `most` transforms found with so much work.

        Where a list that touches names without a match is not accepted, one is tried that touches none.
        """
        if self.expected > most:
            return None  # each content takes one transform at least
        for (size, _), built, ways in sorted(self._lists(work), key=itemgetter(0)):
            if size > most:
                break
            made = accept(built.moves)
            if made is None and built.loose:
                strict = Builder(self._problem, self._contents, ways, self._hard, Memory(), strict=True).build(
                    work, _MANY
                )
                made = accept(strict.moves) if strict.done else None
            if made is not None:
                return made
        return None

    def _lists(self, work: int) -> Iterator[tuple[tuple[int, float], Built, Sequence[Way]]]:
        """Lists of which none is longer than those before, with how many transforms they are and how much to read.

        What took several moves is made first the next time. Where that did not help, what swallows it becomes dearer,
        little by little, so that sooner or later it is made otherwise. And how long the rules of a content are is known
        now, so that of lists of equal length one is found that is easy to read.
        """
        below, choice, tried = _MANY, self._first, set[tuple[Choice, frozenset[int]]]()
        hard = set[int]()
        rounds_left = _MOST_ROUNDS
        while rounds_left:
            rounds_left -= 1
            if (choice, self._hard) not in tried:
                tried.add((choice, self._hard))
                converts = sum(n >= len(self._contents) for n in choice.used)
                builder = Builder(self._problem, self._contents, choice.ways, self._hard, self._memory)
                built = builder.build(work, below + 1 - converts)
                work -= built.work
                if built.done:
                    below = built.size + converts
                    yield (below, sum(built.lengths.values())), built, choice.ways
                for n, length in built.lengths.items():
                    if n < len(self._contents):
                        self._chooser.learn(n, length)
                hard = {n for n in built.hard if n < len(self._contents)}
            # what is left to find then is no shorter
            fewest = not hard and choice.proved and not self._chooser.is_small
            if work <= 0 or fewest or not rounds_left:
                return
            if hard and not self._hard:
                self._hard |= hard
                continue
            for dearer in {n for number in hard for n in self._swallowing(number, choice.used)}:
                self._costs[dearer] += _STEP
            self._hard |= hard
            if rounds_left > 1:
                choice = self._chooser.choose(self._costs)
            if rounds_left == 1 or (not hard and (choice, self._hard) in tried):
                # once more by the program, where its work was spent and prices led to more than it would take
                if below <= self.expected or self._chooser.is_small or not self._first.proved:
                    return
                choice, rounds_left = self._chooser.choose(self._costs, once_more=True), 1

    def _swallowing(self, number: int, used: Set[int]) -> Iterator[int]:
        """The contents that make, in one with more, what this one makes."""
        own = {o.template: o.edit for o in self._contents[number].occurrences}
        for n, content in enumerate(self._contents):
            if n in used and any(o.template in own and holds(o.edit, own[o.template]) for o in content.occurrences):
                yield n


def _taste(content: Content) -> float:
    """How unlike a person's it is: long, or told by numbers alone."""
    return len(content.old) + len(content.new) + 0.3 * len(content.words) + 2.0 * _bare(content)


def _bare(content: Content) -> int:
    """How many of its sides are numbers alone: what is one number here is another elsewhere."""
    return sum(bool(side) and all(map(_is_number, side)) for side in (content.old, content.new))


def _haste(group: Sequence[Occurrence]) -> float:
    """How much of the names a `Convert` leaves to itself: renamings made for others are made for its sources too."""
    return float(max(o.edit.i2 - o.edit.i + o.edit.j2 - o.edit.j for o in group))


@lru_cache(maxsize=4096)
def _is_number(segment: Segment) -> bool:
    return is_index(segment) if isinstance(segment, str) else len(segment) == 3 and not (segment[0] or segment[2])
