"""Running transforms over folded keys.

A transform looks only at states that have the rarest of the words it needs, so that many literal transforms over many
names cost what they touch, not one times the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import is_
from typing import NamedTuple

from treealign.errors import MappingError
from treealign.mapping.convert import Convert
from treealign.mapping.folded import Entry, State, expand, settle, start
from treealign.mapping.guards import Decided, Groups, GuardDecision, Verdict, captured_texts, refuse_unsure
from treealign.mapping.injectivity import check_injective
from treealign.mapping.scope import Rewritten, Transform
from treealign.mapping.transforms import PrefixChange
from treealign.tree.fold import Fold
from treealign.tree.segments import Captures, Name, Segment, Slots


class Moving:
    """States in order; each may be replaced by several, which stand in its place."""

    def __init__(self, states: Sequence[State]) -> None:
        self._states = list(states)
        self._next = [*range(1, len(self._states)), -1]  # the number of the state behind each, -1 behind the last
        self._having: dict[Segment, set[int]] = {}
        for number in range(len(self._states)):
            self._note(number)

    def __iter__(self) -> Iterator[State]:
        number = 0 if self._states else -1
        while number >= 0:
            yield self._states[number]
            number = self._next[number]

    def touchable(self, transform: Transform) -> Iterator[State]:
        """The states that have all words without which the transform touches nothing."""
        return (self._states[number] for number in self._numbers(transform))

    def advance(self, transform: Transform, step: Callable[[State], Iterable[State]]) -> None:
        """Put what a step makes of each state that the transform may touch in its place."""
        for number in self._numbers(transform):
            before = self._states[number]
            made = list(step(before))
            if len(made) == 1 and made[0] is before:
                continue
            self._states[number] = made[0]
            self._note(number)
            for state in reversed(made[1:]):
                self._states.append(state)
                self._next.append(self._next[number])
                self._next[number] = len(self._states) - 1
                self._note(len(self._states) - 1)

    def _note(self, number: int) -> None:
        for word in self._states[number].words:
            self._having.setdefault(word, set()).add(number)

    def _numbers(self, transform: Transform) -> list[int]:
        found: set[int] = set()
        for words in dict.fromkeys(transform.words):
            some = min((self._having.get(word, set()) for word in words), key=len, default=None)
            numbers = range(len(self._states)) if some is None else some
            found.update(n for n in numbers if words <= self._states[n].words)
        return sorted(found)


class Run(NamedTuple):
    """The states that keys end in, and whether they are the same without the names that the model has."""

    states: list[State]
    unaided: bool


def run(
    transforms: Sequence[Transform],
    keys: Sequence[str],
    folds: Sequence[Fold],
    decision: GuardDecision,
    model_keys: frozenset[str] | None = None,
) -> Run:
    """The states that folded keys end in.

    Raises
    ------
    MappingError
        A guard cannot tell, the decision was made for another mapping, or two keys reach one name.
    """
    moving = Moving(start(folds))
    for _ in _passes(transforms, keys, moving, decision):
        pass
    alone = list(moving)
    states = alone if model_keys is None else [s for state in alone for s in _kept_own(state, keys, model_keys)]
    refuse_unsure(transforms, ((i, keys[p]) for s in states for i in s.unsure for p in s.rows.positions))
    check_injective(transforms, keys, states)
    return Run(states, all(map(is_, alone, states)))


def several_positions(
    transforms: Sequence[Transform], keys: Sequence[str], folds: Sequence[Fold], decision: GuardDecision
) -> dict[int, list[str]]:
    """The keys on which a transform could work at more than one position, by the transform's position in the list."""
    found: dict[int, list[str]] = {}
    moving = Moving(start(folds))
    for index, transform in _passes(transforms, keys, moving, decision):
        for state in moving.touchable(transform):
            for part, count in settle(state, partial(_most_positions, transform)):
                if count > 1:
                    found.setdefault(index, []).extend(keys[position] for position in part.rows.positions)
    return found


def _most_positions(transform: Transform, state: State) -> int:
    return max(transform.positions(name, state.rows) for name in state.names)


def _passes(
    transforms: Sequence[Transform], keys: Sequence[str], moving: Moving, decision: GuardDecision
) -> Iterator[tuple[int, Transform]]:
    """Each transform that is not skipped, before it works on the states."""
    if len(decision.decided) != len(transforms):
        made, own = len(decision.decided), len(transforms)
        raise MappingError(f"the decision was made for {made} transforms; this mapping has {own}")
    for index, transform in enumerate(transforms):
        decided = decision.decided[index]
        if decided is not Verdict.SKIP:
            yield index, transform
            moving.advance(transform, partial(_advance, index=index, transform=transform, decided=decided, keys=keys))


def _advance(state: State, index: int, transform: Transform, decided: Decided, keys: Sequence[str]) -> Iterator[State]:
    if state.entry is not None and isinstance(transform, Convert):
        yield state
        return
    absent_only = decided is Verdict.APPLY_WHERE_ABSENT
    for part, found in settle(state, lambda s: _rewrite(s, transform, absent_only)):
        if found is None:
            yield part
        elif isinstance(decided, Groups):
            yield from _by_group(part, found, index, transform, decided, keys)
        else:
            yield _rewritten(part, found, index, transform, unsure=decided is Verdict.UNKNOWN)


def _rewrite(state: State, transform: Transform, absent_only: bool) -> Rewritten | None:
    """What becomes of a state's names together; None where none of them is touched."""
    slots = state.rows
    if len(state.names) == 1:
        return _rewrite_name(state.names[0], transform, absent_only, slots)
    names: list[Name] = []
    captures: Captures | None = None
    for name in state.names:
        found = _rewrite_name(name, transform, absent_only, slots)
        names += found.names if found else (name,)
        captures = found.captures if found and captures is None else captures
    return None if captures is None else Rewritten(tuple(names), captures)


def _rewrite_name(name: Name, transform: Transform, absent_only: bool, slots: Slots) -> Rewritten | None:
    if absent_only and isinstance(transform, PrefixChange) and transform.has_levels(name, slots):
        return None
    return transform.rewrite(name, slots)


def _rewritten(state: State, found: Rewritten, index: int, transform: Transform, unsure: bool) -> State:
    return replace(
        state,
        names=found.names,
        touched=(*state.touched, index),
        unsure=(*state.unsure, index) if unsure else state.unsure,
        entry=Entry(index, state.names[0], found.names) if isinstance(transform, Convert) else state.entry,
    )


def _by_group(
    state: State, found: Rewritten, index: int, transform: Transform, groups: Groups, keys: Sequence[str]
) -> Iterator[State]:
    verdicts = [
        groups.verdict(transform, keys[position], captured_texts(found.captures, row))
        for position, row in zip(state.rows.positions, state.rows.indices, strict=True)
    ]
    for verdict in dict.fromkeys(verdicts):
        part = state.parted([one is verdict for one in verdicts])[0]
        unsure = verdict is Verdict.UNKNOWN
        yield part if verdict is Verdict.SKIP else _rewritten(part, found, index, transform, unsure)


def _kept_own(state: State, keys: Sequence[str], model_keys: frozenset[str]) -> Iterator[State]:
    """Keys whose own name the model has, and whose new names it has not, stay as they are.

    Where it has exactly one of the two, that also settles what a guard could not.
    """
    if not state.touched:
        yield state
        return
    columns = [expand(name, state.rows.indices) for name in state.names]
    new = [not model_keys.isdisjoint(names) for names in zip(*columns, strict=True)]
    own = [keys[position] in model_keys for position in state.rows.positions]
    kinds = list(zip(own, new, strict=True))
    if not state.unsure and (True, False) not in kinds:
        yield state
        return
    for kind in sorted(set(kinds)):
        part = state.parted([one == kind for one in kinds])[0]
        if kind == (True, False):
            yield part.untouched()
        else:
            yield replace(part, unsure=()) if kind == (False, True) else part
