"""A list of rules built move by move: from the top of the names down, each move right for all names as they then are.

Nothing is ever taken back, so the work is bounded by the number of contents times that of contexts, and what comes of
it depends on the matches alone. Where no move makes a content everywhere, it waits for the others; where nothing else
is left to do, it is made in as many places as one move can.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from treealign.synthesize.choosing import Way
from treealign.synthesize.contents import Content
from treealign.synthesize.contexts import moves
from treealign.synthesize.parting import cycles, in_step, partitions
from treealign.synthesize.problem import Problem
from treealign.synthesize.rules import Move
from treealign.synthesize.tracks import Effect, Place, Tracks

_MOST_PARTS = 12
_DEEPEST = 3


@dataclass(frozen=True)
class Built:
    """A list as far as it was built.

    Attributes
    ----------
    moves : tuple of Move
        In order.
    taken, lengths : dict
        How many moves each content took, and how much there is to read of them.
    work : int
        How many names were looked at.
    stuck : tuple of int
        The contents for which no move was found.
    done : bool
        Whether all are made.
    loose : bool
        Whether some move touches names that match nothing.
    """

    moves: tuple[Move, ...]
    taken: dict[int, int]
    lengths: dict[int, float]
    work: int
    stuck: tuple[int, ...]
    done: bool
    loose: bool

    @property
    def size(self) -> int:
        """How many rules they are."""
        return sum(map(len, self.moves))

    @property
    def hard(self) -> frozenset[int]:
        """The contents that took several moves, or for which none was found."""
        return frozenset((*self.stuck, *(n for n, count in self.taken.items() if count > 1)))


class Known(NamedTuple):
    """The best move for some places, and the tracks on which it depended, as they were."""

    move: Move | None
    seen: dict[int, int]


class _Kept:
    """What an iterator gives, however often it is asked."""

    def __init__(self, items: Iterator[Move]) -> None:
        self._given: list[Move] = []
        self._rest = items

    def __iter__(self) -> Iterator[Move]:
        at = 0
        while at < len(self._given) or self._has_more():
            yield self._given[at]
            at += 1

    def _has_more(self) -> bool:
        count = len(self._given)
        self._given += islice(self._rest, 1)
        return len(self._given) > count


@dataclass(frozen=True)
class Memory:
    """What was found for the same contents in other lists."""

    best: dict[Hashable, Known] = field(default_factory=dict)
    moves: dict[Hashable, _Kept] = field(default_factory=dict)


class Builder:
    """Moves that make every template by its way.

    Parameters
    ----------
    problem : Problem
    contents : sequence of Content
        What rules may replace.
    ways : sequence of Way
        The edits of each template, and the content that makes each.
    first : set of int
        Contents that are tried before others.
    memory : Memory
        Of other lists of these contents.
    strict : bool
        Whether no move may touch names that match nothing.
    """

    def __init__(
        self,
        problem: Problem,
        contents: Sequence[Content],
        ways: Sequence[Way],
        first: Set[int],
        memory: Memory,
        strict: bool = False,
    ) -> None:
        self._first_ones, self._strict, self._loose = first, strict, False
        self._problem, self._contents = problem, list(contents)
        self._tracks = Tracks(problem, ways, len(contents))
        self._before, self._most = problem.searched, 0
        self._moves: list[Move] = []
        self._taken: dict[int, int] = {}
        self._lengths: dict[int, float] = {}
        self._memory = memory

    def build(self, work: int, below: int) -> Built:
        """The moves, as far as fewer than `below` are found by looking at so many names."""
        self._most = work
        stuck: tuple[int, ...] = ()
        # each content that is left takes one rule at least
        while (left := self._tracks.left()) and sum(map(len, self._moves)) + len(left) < below:
            if self._spent() or not (
                self._pass(self._whole) or self._first(self._in_part) or self._exchange() or self._coarser()
            ):
                stuck = tuple(left)
                break
        return Built(tuple(self._moves), self._taken, self._lengths, self._work, stuck, not left, self._loose)

    @property
    def _work(self) -> int:
        """How many names have been looked at."""
        return self._problem.searched - self._before + self._tracks.searched

    def _spent(self) -> bool:
        return self._work > self._most

    def _waiting(self) -> list[int]:
        """The contents that are still to be made, in the order in which they are looked at."""
        found: dict[int, tuple[int, int]] = {}
        for number in self._tracks.left():
            places = [(p.track, len(p.left)) for p in self._tracks.places(number)]
            found[number] = min(depth for _, depth in places), len({track for track, _ in places})
        return sorted(found, key=lambda n: (n not in self._first_ones, found[n][0], -found[n][1], n))

    def _pass(self, make: Callable[[int], bool]) -> bool:
        """Whether some content could be made; those that stand above it and had to wait have their turn again then."""
        failed: list[int] = []
        made = False
        for number in self._waiting():
            if not make(number):
                failed.append(number)
                continue
            made = True
            while (again := next((n for n in failed if make(n)), None)) is not None:
                failed.remove(again)
        return made

    def _first(self, make: Callable[[int], bool]) -> bool:
        return any(make(number) for number in self._waiting())

    def _whole(self, number: int) -> bool:
        """Whether one move makes the content wherever it is still to be made."""
        places = self._tracks.places(number)
        found = self._best([number], [places]) if places else None
        return found is not None and self._make(*found, [number])

    def _in_part(self, number: int) -> bool:
        """Whether a move makes the content somewhere."""
        parts = self._parts(number, self._tracks.places(number), 0)
        found = max(parts, key=lambda e: len(e[1].made), default=None)
        return found is not None and self._make(*found, [number])

    def _make(self, move: Move, effect: Effect, numbers: Sequence[int]) -> bool:
        self._tracks.make(effect)
        self._loose |= effect.loose > 0
        self._moves.append(move)
        for number in numbers:
            self._taken[number] = self._taken.get(number, 0) + 1
            self._lengths[number] = self._lengths.get(number, 0.0) + sum(rule.length for rule in move)
        return True

    def _best(self, numbers: Sequence[int], places: Sequence[Sequence[Place]]) -> tuple[Move, Effect] | None:
        """The best move that makes these contents at all these places.

        What was wrong stays so while the names that showed it are as they were, so the same move is still the best
        unless others have come to stand in its way.
        """
        wanted = frozenset((p.track, p.edit) for some in places for p in some)
        key = (*numbers, wanted)
        known = self._memory.best.get(key)
        if known and self._tracks.is_as_before(known.seen):
            if known.move is None:
                return None
            effect = self._tracks.effect(known.move)
            if effect and wanted <= {*effect.made}:
                return known.move, effect
        self._tracks.looked_at = {track for track, _ in wanted}
        found = self._searched(numbers, places, wanted)
        self._memory.best[key] = Known(found and found[0], self._tracks.seen)
        return found

    def _searched(
        self, numbers: Sequence[int], places: Sequence[Sequence[Place]], wanted: frozenset[tuple[int, int]]
    ) -> tuple[Move, Effect] | None:
        second: tuple[Move, Effect] | None = None
        for move in self._candidates(numbers, places):
            effect = self._tracks.effect(move)
            if effect is None or not wanted <= {*effect.made} or (self._strict and effect.loose):
                continue
            if not effect.guarded and not effect.loose:
                return move, effect
            second = second or (move, effect)
        return second

    def _candidates(self, numbers: Sequence[int], places: Sequence[Sequence[Place]]) -> Iterator[Move]:
        """Moves for these contents, thought of once as long as the names are as they were, in this list or another."""
        key = (*numbers, *(tuple((p.track, p.edit, self._tracks.state(p.track)) for p in some) for some in places))
        if key not in self._memory.moves:
            self._memory.moves[key] = _Kept(moves([self._contents[n] for n in numbers], places))
        return iter(self._memory.moves[key])

    def _parts(self, number: int, places: Sequence[Place], depth: int) -> Iterator[tuple[Move, Effect]]:
        """Moves for some of the places: for those that something tells apart, and for several such parts."""
        for parts in partitions(places):
            if self._spent():
                return
            found = [(part, self._best([number], [part])) for part in parts[:_MOST_PARTS]]
            good = [part for part, best in found if best is not None]
            yield from (best for _, best in found if best is not None)
            if 1 < len(good) < len(parts):
                joined = self._best([number], [[p for part in good for p in part]])
                if joined is not None:
                    yield joined
            if good:
                return
        if depth < _DEEPEST:
            for parts in partitions(places):
                yield from (e for part in parts[:2] for e in self._parts(number, part, depth + 1))
                return

    def _exchange(self) -> bool:
        """Whether contents that hand over names to each other, in a circle, are made at once."""
        for cycle in cycles(self._contents, self._tracks.left()):
            places = [self._tracks.places(n) for n in cycle]
            for some in in_step(places):
                found = self._best(cycle, some)
                if found is not None:
                    return self._make(*found, cycle)
        return False

    def _coarser(self) -> bool:
        """Whether several edits that wait for each other can be made as one, what is kept between them included."""
        merged = next(self._tracks.merged(), None)
        if merged is None:
            return False
        wanted = merged[1].old, merged[1].new
        for number, content in list(self._tracks.merged()):
            if (content.old, content.new) == wanted:
                self._tracks.merge(number, len(self._contents))
        self._contents.append(merged[1])
        self._memory = Memory()  # in other lists this number is another content's
        return True
