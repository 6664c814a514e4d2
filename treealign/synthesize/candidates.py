"""Candidate rules: each content in every context that is worth a thought.

For a set of occurrences of one content there is a most general context, and more special ones: segments to the left,
one to the right, the whole way from the root, a scope with a gap. The shortest that matches nothing wrong wins. Where
none does, the occurrences are parted by what tells them apart (the neighbour on either side, the depth), and parts
that are fine alone are tried together, as a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import NamedTuple

from treealign.synthesize.contents import Content, Occurrence
from treealign.synthesize.generalize import exact_run, general_run, held_in, limited_captures, plain_captures
from treealign.synthesize.lattice import columns
from treealign.synthesize.problem import Problem, State, Verdict
from treealign.synthesize.rules import Rule, Run
from treealign.synthesize.templates import Values
from treealign.synthesize.words import WORD
from treealign.tree.grammar import Choice
from treealign.tree.segments import Capture, Name

_DEEPEST = 4
_MOST_GROUPS = 40
_ENOUGH = 2
_MOST_PARTS = 4


@dataclass(frozen=True)
class Candidate:
    """A rule and what it does; without a rule, a `Convert`, or a rule that is still to be found.

    Attributes
    ----------
    cost : float
        What makes one rule worse than another that does the same.
    """

    rule: Rule | None
    verdict: Verdict
    cost: float


@dataclass(frozen=True)
class _Place:
    """Where an occurrence stands: what is to its left and right, in names of the one side or the other."""

    occurrence: Occurrence
    lefts: tuple[Name, Name]
    rights: tuple[Name, Name]
    values: Values


def explore(problem: Problem, content: Content) -> list[Candidate]:
    """The candidates for one content."""
    return _Explorer(problem, content).run()


class _Explorer:
    """Finds the candidates of one content."""

    def __init__(self, problem: Problem, content: Content) -> None:
        self._problem, self._content = problem, content
        captures = plain_captures(len(columns(content.old)))
        self._old, self._new = self._runs(captures)
        self._seen: dict[frozenset[Occurrence], bool] = {}
        self._found: list[Candidate] = []
        self._tried: set[Rule] = set()

    def run(self) -> list[Candidate]:
        """The candidates."""
        if self._old is not None and self._new is not None:
            for places in self._roots():
                self._explore(places, 0)
        return self._found

    def _roots(self) -> Iterator[list[_Place]]:
        """Places in which the content may be meant at the same time: in each name it is made once."""
        lattices = self._problem.lattices
        places = [self._place(o) for o in self._content.occurrences]
        offsets: tuple[Callable[[Occurrence], int], ...] = (
            lambda o: o.edit.i - lattices[o.template].start[0],
            lambda o: lattices[o.template].goal[0] - o.edit.i2,
        )
        for offset in offsets:
            groups: dict[int, dict[int, _Place]] = {}
            for p in places:
                groups.setdefault(offset(p.occurrence), {}).setdefault(p.occurrence.template, p)
            yield from (list(group.values()) for group in groups.values())

    def _place(self, o: Occurrence) -> _Place:
        t, e = self._problem.ways[o.template], o.edit
        return _Place(o, (t.target[: e.j], t.source[: e.i]), (t.source[e.i2 :], t.target[e.j2 :]), t.values)

    def _explore(self, places: Sequence[_Place], depth: int) -> bool:
        """Whether some rule for all these places matches nothing else."""
        key = frozenset(p.occurrence for p in places)
        if key in self._seen or len(self._seen) > _MOST_GROUPS:
            return self._seen.get(key, False)
        plain = self._propose(places, self._rules(places))
        self._seen[key] = clean = plain or self._propose(places, self._limited_rules(places))
        if clean and depth == 0 and not (self._content.old and self._content.new):
            self._alone(places)
        if clean or depth == _DEEPEST:
            return clean
        for parts in _partitions(places):
            good = [part for part in parts if self._explore(part, depth + 1)]
            if 1 < len(good) < len(parts):
                self._explore([p for part in good for p in part], depth + 1)
        return False

    def _alone(self, places: Sequence[_Place]) -> None:
        """Levels that come or go in several places may be meant in one of them only."""
        for parts in islice(_partitions(places), 2):
            for part in parts if len(parts) <= _MOST_PARTS else ():
                self._explore(part, _DEEPEST)

    def _propose(self, places: Sequence[_Place], rules: Iterator[tuple[Rule, State]]) -> bool:
        meant = [p.occurrence for p in places]
        states: dict[Rule, State] = {}
        for rule, state in rules:
            if rule not in self._tried:
                states[rule] = state if states.get(rule, state) is state else State.ANY
        self._tried |= states.keys()
        clean = 0
        leaf = any(p.occurrence.edit.i2 == len(self._problem.sources[p.occurrence.template]) for p in places)
        for rule in sorted(states, key=lambda r: _taste(r, leaf, states[r] is State.RIGHT_DONE)):
            verdict = self._problem.assess(rule, meant, states[rule])
            if verdict is None or not verdict.uses:
                continue
            cost = _taste(rule, verdict.leaf, verdict.late) + 8.0 * verdict.guarded + 2.0 * verdict.loose
            self._found.append(Candidate(rule, verdict, cost + 3.0 * (not verdict.clean)))
            clean += verdict.clean
            if clean == _ENOUGH:
                break
        return clean > 0

    def _rules(self, places: Sequence[_Place]) -> Iterator[tuple[Rule, State]]:
        for side in (0, 1):
            lefts = Names(list({p.lefts[side]: None for p in places}))
            rights = Names(list({p.rights[side]: None for p in places}))
            for rule in self._in_contexts(lefts, rights, self._old, self._new):
                yield rule, _state(places, rule, side)

    def _limited_rules(self, places: Sequence[_Place]) -> Iterator[tuple[Rule, State]]:
        """Rules whose captures carry ranges."""
        held = [pair for p in places for pair in self._held(p)]
        old, new = self._runs(limited_captures(held))
        values = [p.values for p in places]
        for side in (0, 1):
            lefts, rights = [p.lefts[side] for p in places], [p.rights[side] for p in places]
            names = [(Names(lefts), Names(rights))] if held else []
            for left, right in (*names, (Names(lefts, values), Names(rights, values))):
                for rule in self._in_contexts(left, right, old, new):
                    yield rule, _state(places, rule, side)

    def _runs(self, captures: Mapping[int, Capture | Choice]) -> tuple[Run | None, Run | None]:
        """What is replaced, and by what, as patterns."""
        plain = plain_captures(len(columns(self._content.old)))
        known: dict[int, Capture | Choice] = {**plain, **captures, WORD: Choice("w", self._content.words)}
        return exact_run(self._content.old, known), exact_run(self._content.new, known)

    def _held(self, place: _Place) -> Iterator[tuple[int, list[int]]]:
        """What the captures of the content hold in one place."""
        t, e = self._problem.ways[place.occurrence.template], place.occurrence.edit
        return held_in(self._content.old, t.source[e.i : e.i2], place.values)

    def _in_contexts(self, lefts: Names, rights: Names, old: Run | None, new: Run | None) -> Iterator[Rule]:
        assert old is not None and new is not None
        for (scope, gap, left), (right, at_end) in product(lefts_of(lefts), rights_of(rights)):
            if left or right or not gap or (old and new):  # else one side would not say where to look
                yield Rule(scope, gap, left, old, new, right, at_end)


def _taste(rule: Rule, leaf: bool, late: bool) -> float:
    """How unlike a person's it is: long, about a tensor wherever it stands, or about names that are half new."""
    bare = rule.gap and not rule.left and not rule.right
    return rule.length + 2.5 * (leaf and bare) + 1.5 * late


def _state(places: Sequence[_Place], rule: Rule, side: int) -> State:
    """What has to have been done first for a rule with context of one side's names."""
    count = len(rule.right)
    left = bool(rule.scope or rule.left) and any(p.lefts[0] != p.lefts[1] for p in places)
    right = any(p.rights[0][:count] != p.rights[1][:count] for p in places)
    if not left and not (right and side):
        return State.ANY
    return State.RIGHT_DONE if side else State.LEFT_DONE


class Names(NamedTuple):
    """What stands on one side of the places, and what the slots hold if captures shall be limited to it."""

    names: Sequence[Name]
    values: Sequence[Values] | None = None
    listed: bool = False

    def run(self, positions: Iterable[int], name: str) -> Run | None:
        """A pattern for these positions."""
        return general_run(self.names, positions, name, self.values, self.listed)


def lefts_of(lefts: Names, most: int = 3) -> Iterator[tuple[Run, bool, Run]]:
    """Contexts on the left: scope, gap, and kept segments, `most` of them if anything may stand in front."""
    shortest = min(map(len, lefts.names))
    runs: list[Run] = []
    for count in range(min(most, shortest) + 1):
        run = lefts.run(range(-count, 0), "l")
        if run is None:
            break
        runs.append(run)
        yield (), True, run
    if len(set(map(len, lefts.names))) == 1:
        scope = lefts.run(range(shortest), "s")
        if scope is not None:
            yield scope, False, ()
    common = next((at for at in range(shortest) if len({n[at] for n in lefts.names}) > 1), shortest)
    for length in sorted({1, common}):
        if 0 < length <= common:
            scope = lefts.run(range(length), "s")
            if scope is not None:
                yield from ((scope, True, run) for run in runs[:2] if length + len(run) <= shortest)


def rights_of(rights: Names) -> Iterator[tuple[Run, bool]]:
    """Contexts on the right: kept segments, and whether the key ends there."""
    yield (), False
    shortest = min(map(len, rights.names))
    for count in range(1, min(2, shortest) + 1):
        run = rights.run(range(count), "r")
        if run is None:
            return
        yield run, False
    if len(set(map(len, rights.names))) == 1 and shortest < 3:
        run = rights.run(range(shortest), "r")
        if run is not None:
            yield run, True


def _partitions(places: Sequence[_Place]) -> Iterator[list[list[_Place]]]:
    """The places parted by what tells them apart, in one way after the other."""
    features = (
        lambda p: p.lefts[0][-1:],
        lambda p: p.rights[0][:1],
        lambda p: len(p.lefts[0]),
        lambda p: p.lefts[0][:1],
        lambda p: p.rights[0][:2],
        lambda p: p.lefts[0],
    )
    for feature in features:
        parts: dict[Hashable, list[_Place]] = {}
        for p in places:
            parts.setdefault(feature(p), []).append(p)
        if len(parts) > 1:
            yield list(parts.values())
