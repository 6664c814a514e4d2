"""Moves for contents at given places: each context that is worth a thought, the one that is shortest to read first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import NamedTuple, TypeAlias

from treealign.synthesize.contents import Content
from treealign.synthesize.generalize import exact_run, general_run, held_in, limited_captures, plain_captures
from treealign.synthesize.lattice import columns
from treealign.synthesize.rules import Move, Rule, Run
from treealign.synthesize.templates import Values
from treealign.synthesize.tracks import Place
from treealign.synthesize.words import WORD
from treealign.tree.grammar import Choice
from treealign.tree.segments import Capture, Name, Slot

_MOST_TRIED = 24  # moves of one kind
_DEEPEST = 12  # segments of a name that are spelt out from end to end

Limits: TypeAlias = "Mapping[int, Capture | Choice]"
Runs: TypeAlias = "tuple[Run, Run]"


class Context(NamedTuple):
    """What stands around what is replaced."""

    scope: Run
    gap: bool
    left: Run
    right: Run
    at_end: bool

    def around(self, runs: Runs) -> Rule:
        """The rule for what is replaced in it."""
        return Rule(self.scope, self.gap, self.left, *runs, self.right, self.at_end)


def moves(contents: Sequence[Content], places: Sequence[Sequence[Place]]) -> Iterator[Move]:
    """Moves that make these contents at once, each at its places, as good to read as may be first.

    Of each kind, without limits, with ranges, with the very indices, only so many are given: what is wrong in many
    contexts is wrong for want of limits, not of more context.
    """
    every = [p for some in places for p in some]
    seen: set[Move] = set()
    for contexts, runs in _ways(contents, places, every):
        found: list[Move] = []
        for context in contexts:
            anchored = bool(context.left or context.right or not context.gap)
            if all(anchored or (old and new) for old, new in runs):  # else one side would not say where to look
                found.append(tuple(context.around(pair) for pair in runs))
        new = (m for m in sorted(found, key=lambda move: sum(map(_taste, move))) if m not in seen)
        yield from islice(new, _MOST_TRIED)
        seen.update(found)


def _taste(rule: Rule) -> float:
    """How unlike a person's it is: long, or about a tensor wherever it stands."""
    return rule.length + 1.5 * (rule.gap and not rule.left and not rule.right)


def _ways(
    contents: Sequence[Content], places: Sequence[Sequence[Place]], every: Sequence[Place]
) -> Iterator[tuple[Iterator[Context], list[Runs]]]:
    """Contexts and what stands in them: without limits, with ranges, with the very indices that there are."""
    plain = Names(list(dict.fromkeys(p.left for p in every))), Names(list(dict.fromkeys(p.right for p in every)))
    values = [p.values for p in every]
    for listed in (None, False, True):
        runs = [_runs(c, some, listed) for c, some in zip(contents, places, strict=True)]
        made = [pair for pair in runs if pair is not None]
        if len(made) < len(contents):
            continue
        yield _contexts(*plain), made
        if listed is not None:
            lefts, rights = (Names(n, values, listed) for n in ([p.left for p in every], [p.right for p in every]))
            yield _contexts(lefts, rights), made
            yield _whole(lefts, rights), made


def _contexts(lefts: Names, rights: Names) -> Iterator[Context]:
    for (scope, gap, left), (right, at_end) in product(lefts_of(lefts), rights_of(rights)):
        yield Context(scope, gap, left, right, at_end)


def _whole(lefts: Names, rights: Names) -> Iterator[Context]:
    """The names from end to end."""
    lengths = {(len(a), len(b)) for a, b in zip(lefts.names, rights.names, strict=True)}
    before, behind = lengths.pop()
    if not lengths and max(before, behind) <= _DEEPEST:
        scope, right = lefts.run(range(before), "s"), rights.run(range(behind), "r")
        if scope is not None and right is not None:
            yield Context(scope, False, (), right, True)


def _runs(content: Content, places: Sequence[Place], listed: bool | None) -> Runs | None:
    """What is replaced, and by what, as patterns."""
    word = {WORD: Choice("w", content.words)} if content.words else {}  # stands last: no index is limited by it
    count = len(columns(content.old)) - bool(content.words)
    limits: Limits = plain_captures(count)
    if listed is not None:
        held = [pair for p in places for pair in held_in(content.old, p.old, p.values)]
        free = _unshifted(content) if listed else frozenset()
        limits = {**limits, **limited_captures(held, free)}
    old, new = exact_run(content.old, {**limits, **word}), exact_run(content.new, {**limits, **word})
    return None if old is None or new is None else (old, new)


def _unshifted(content: Content) -> frozenset[int]:
    slots = [p for name in (content.old, content.new) for s in name if not isinstance(s, str) for p in s]
    moved = {p.column for p in slots if isinstance(p, Slot) and p.shift}
    return frozenset(p.column for p in slots if isinstance(p, Slot)) - moved


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
