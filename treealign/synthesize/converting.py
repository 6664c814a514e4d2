"""Conversions written as `Convert` transforms, one for all that differ only in where they stand and in sizes.

Renamings come first, so a `Convert` looks for what they have made of its sources. What stands on both sides in front
of and behind what changes is context: as little of it is written as tells the sources and targets from everything else
and holds the captures that sizes depend on.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import NamedTuple

from treealign.mapping.transforms import Convert
from treealign.synthesize.contexts import Names, lefts_of, rights_of
from treealign.synthesize.conversions import ConversionTemplate, signature, single_cases
from treealign.synthesize.generalize import exact_run, limited_captures
from treealign.synthesize.lines import Line, Lines
from treealign.synthesize.rules import Move, Run, Side, step
from treealign.synthesize.sizing import Sized, sized
from treealign.synthesize.templates import PartialMatch, Values
from treealign.synthesize.writing import naming, spell, spell_all
from treealign.tree.grammar import Choice
from treealign.tree.segments import Capture, Captures, Name, Slot

_LAST = 100  # what only fits with limits is tried last
_DEEPEST = 8  # segments that sizes may depend on


@dataclass(frozen=True)
class Renamed:
    """A template of conversions after the renamings: `sources` are what a `Convert` will find."""

    template: ConversionTemplate
    sources: tuple[Name, ...]

    def context(self, kept: int) -> tuple[int, int]:
        """How many segments in front are context, and how many behind, `kept` at the most."""
        names = [*self.sources, *self.template.targets]
        shortest = min(map(len, names))
        if len(set(names)) == 1:
            return shortest - min(2, shortest), 0  # only the tensor changes: say which module's which
        head = _alike(names, self.template.shared)
        tail = min(kept, _alike([n[::-1] for n in names], self.template.shared))
        while head + tail >= shortest:
            head, tail = (head, tail - 1) if tail else (head - 1, 0)
        return head, tail


def _alike(names: Sequence[Name], shared: int) -> int:
    """How many segments all names begin with, before one that only one side captures."""
    found = 0
    for column in zip(*names, strict=False):
        if len(set(column)) > 1 or any(p.column >= shared for p in _slots(column[:1])):
            break
        found += 1
    return found


def _slots(name: Name) -> Iterator[Slot]:
    return (p for s in name if not isinstance(s, str) for p in s if isinstance(p, Slot))


def rename(templates: Iterable[ConversionTemplate], moves: Sequence[Move]) -> Iterator[tuple[int, Renamed]]:
    """What renamings make of the sources of conversions, with the number of each in the order in which they came."""
    for number, template in enumerate(templates):
        yield from ((number, renamed) for renamed in _renamed(template, moves))


def _renamed(template: ConversionTemplate, moves: Sequence[Move]) -> Iterator[Renamed]:
    names: list[Name] = []
    try:
        for name in template.sources:
            for move in moves:
                name = step(move, name, template.values)  # noqa: PLW2901  on its way
            names.append(name)
    except PartialMatch:
        for part in single_cases(template):
            yield from _renamed(part, moves)
    else:
        yield _both_sided(template, tuple(names))


def _both_sided(template: ConversionTemplate, names: tuple[Name, ...]) -> Renamed:
    """The template, an index that a renaming has written out in the sources written out in the targets, too."""
    sources = {p.column for name in names for p in _slots(name)}
    loose = {p.column for name in template.targets for p in _slots(name)} ^ sources
    if not any(column < template.shared for column in loose):
        return Renamed(template, names)
    several = frozenset({"0", "1"})
    columns = [
        held if n in loose and n < template.shared else several for n, held in enumerate(template.values.columns)
    ]
    values = Values(tuple(columns))
    targets = tuple(values.seen(name) for name in template.targets)
    return Renamed(replace(template, targets=targets), tuple(values.seen(name) for name in names))


class _Shape(NamedTuple):
    """What changes, as patterns, and where it stands in one template."""

    sources: tuple[Run, ...]
    targets: tuple[Run, ...]
    left: Name
    right: Name
    lone: tuple[str, ...]  # the captures that run over a group


class Converting:
    """Writes conversions.

    Parameters
    ----------
    before : iterable of Line
        The names when renaming is done, and the model's; `template` numbers the conversions that a name belongs to.
    after : iterable of Line
        The model's names.
    """

    def __init__(self, before: Iterable[Line], after: Iterable[Line]) -> None:
        self._before, self._after = Lines(before), Lines(after)
        self._numbers: list[int] = []

    def write(self, renamed: Sequence[tuple[int, Renamed]]) -> list[Convert]:
        """The conversions as transforms, in an order that does not depend on theirs."""
        self._numbers = [number for number, _ in renamed]
        given = [r for _, r in renamed]
        groups = _grouped(given, range(len(given)), 1)
        return list(chain.from_iterable(self._attempt(given, group, 1) for group in groups))

    def _attempt(self, renamed: Sequence[Renamed], group: Sequence[int], kept: int) -> Iterator[Convert]:
        """One transform for the group, or one for each smaller group that has one."""
        made = self._one(renamed, group, kept)
        if made is not None:
            yield made
        elif kept:
            for part in _grouped(renamed, group, 0):
                yield from self._attempt(renamed, part, 0)
        elif len(group) > 1:
            for number in group:
                yield from self._attempt(renamed, [number], 0)
        elif _captures_shared(renamed[group[0]]):
            yield from self._apart(renamed[group[0]], self._numbers[group[0]])
        else:
            yield from filter(None, [self._one(renamed, group, 0, forced=True)])

    def _apart(self, renamed: Renamed, number: int) -> Iterator[Convert]:
        """One transform for each case: no pattern tells all of them from the rest."""
        parts = [_spelt_out(renamed, case) for case in single_cases(renamed.template)]
        numbers, self._numbers = self._numbers, [number] * len(parts)
        yield from chain.from_iterable(self._attempt(parts, [n], 0) for n in range(len(parts)))
        self._numbers = numbers

    def _one(self, renamed: Sequence[Renamed], group: Sequence[int], kept: int, forced: bool = False) -> Convert | None:
        """One transform for the group that touches nothing else, or, if `forced`, as little else as may be."""
        counts = [max(column) for column in zip(*(_counts(renamed[n].template) for n in group), strict=True)]
        shapes = [_shape(renamed[n], kept, counts) for n in group]
        first = shapes[0]
        lefts = lefts_of(Names([s.left for s in shapes]), most=_DEEPEST)
        contexts = product(lefts, rights_of(Names([s.right for s in shapes])))
        sides = [
            [Side(scope, gap, left, old, right, at_end) for old in (*first.sources, *first.targets)]
            for (scope, gap, left), (right, at_end) in contexts
        ]
        if len(group) == 1:
            sides += _limited(renamed[group[0]], first)
        for made in sorted(sides, key=_length, reverse=forced):
            sources, targets = made[: len(first.sources)], made[len(first.sources) :]
            own = {self._numbers[n] for n in group}
            touching = _touch_others(self._before, sources, own) or _touch_others(self._after, targets, own)
            if touching and not forced:
                continue
            held = [h for n in group if (h := _held(sources[0], renamed[n])) is not None]
            if len(held) == len(group):
                fitting = sized([renamed[n].template for n in group], held, first.lone)
                if fitting is not None:
                    return _spelt(sources, targets, fitting)
        return None


def _captures_shared(renamed: Renamed) -> bool:
    """Whether an index of both sides stands as a capture in any name, be it that it is ever the same."""
    names = (*renamed.sources, *renamed.template.targets)
    return any(p.column < renamed.template.shared for name in names for p in _slots(name))


def _spelt_out(renamed: Renamed, case: ConversionTemplate) -> Renamed:
    """The only case of a template, its indices written out; what runs over a group stays open."""
    several = frozenset({"0", "1"})
    columns = case.values.columns
    values = Values((*columns[: case.shared], *(several for _ in columns[case.shared :])))
    targets = tuple(values.seen(name) for name in case.targets)
    return Renamed(replace(case, targets=targets), tuple(values.seen(name) for name in renamed.sources))


def _limited(renamed: Renamed, shape: _Shape) -> list[list[Side]]:
    """The whole context with its captures limited to what they hold: extra layers elsewhere have no counterpart."""
    columns = renamed.template.values.columns
    captures = {
        column: _called(capture, f"around{column}")
        for column, capture in limited_captures((k, map(int, held)) for k, held in enumerate(columns)).items()
    }
    left, right = exact_run(shape.left, captures), exact_run(shape.right, captures)
    if left is None or right is None:
        return []
    return [[Side((), False, left, old, right, True) for old in (*shape.sources, *shape.targets)]]


def _grouped(renamed: Sequence[Renamed], numbers: Iterable[int], kept: int) -> list[list[int]]:
    """Conversions that do the same to the same names, but for what stands around them."""
    groups: dict[Hashable, list[int]] = {}
    for n in numbers:
        shape, operations = _shape(renamed[n], kept), renamed[n].template.cases[0].operations
        key = (shape.sources, shape.targets, renamed[n].template.lows, signature(operations))
        groups.setdefault(key, []).append(n)
    return [group for _, group in sorted(groups.items(), key=lambda item: repr(item[0]))]


def _counts(template: ConversionTemplate) -> list[int]:
    """How far each of the captures runs that only one side has."""
    return [len(held) for held in template.values.columns[template.shared :]]


def _shape(renamed: Renamed, kept: int, counts: Sequence[int] = ()) -> _Shape:
    """What changes; captures that run over a group carry their range where `counts` are given."""
    head, tail = renamed.context(kept)
    template = renamed.template
    inner = [n[head : len(n) - tail] for n in (*renamed.sources, *template.targets)]
    captures: dict[int, Capture] = {}
    for slot in (s for name in inner for s in _slots(name)):
        captures.setdefault(slot.column, _capture(template, slot.column, f"c{len(captures)}", counts))
    runs = [run for name in inner if (run := exact_run(name, captures)) is not None]
    count = len(renamed.sources)
    name = renamed.sources[0]
    lone = tuple(captures[c].name for c in range(template.shared, len(template.values.columns)))
    return _Shape(tuple(runs[:count]), tuple(runs[count:]), name[:head], name[len(name) - tail :], lone)


def _capture(template: ConversionTemplate, column: int, name: str, counts: Sequence[int]) -> Capture:
    if column < template.shared or not counts:
        return Capture(name)
    number = column - template.shared
    return Capture(name, 0, template.lows[number], template.lows[number] + counts[number] - 1)


def _length(sides: Sequence[Side]) -> tuple[float, str]:
    """How much there is to read; something that begins with a bare index wants a word in front."""
    first = sides[0]
    bare = not first.left and (first.gap or not first.scope) and any(s.old[0].literal is None for s in sides)
    segments = len(first.scope) + len(sides) * (len(first.left) + len(first.right))
    segments += _LAST * any(isinstance(p, Capture) and p.limited for s in first.left for p in s.parts)
    return segments + 1.5 * first.gap + 3.0 * bare + 1.5 * first.at_end, repr(first)


def _touch_others(lines: Lines, sides: Iterable[Side], group: set[int]) -> bool:
    """Whether a pattern matches a name of something else, or one of its own in part or twice."""
    for side in sides:
        for hit in lines.find(side):
            if hit.found is None or lines.lines[hit.line].template not in group:
                return True
    return False


def _held(side: Side, renamed: Renamed) -> Captures | None:
    """What the captures around a conversion hold; None where it is not found where it stands."""
    found = side.find(renamed.sources[0], renamed.template.values)
    return found[0].captures if len(found) == 1 else None


def _spelt(sources: Sequence[Side], targets: Sequence[Side], fitting: Sized) -> Convert:
    first = sources[0]
    scope = first.scope
    runs = [[(*s.left, *s.old, *s.right) for s in side] for side in (sources, targets)]
    names = naming([scope, *runs[0], *runs[1]])
    front, back = "**." if first.gap else "", "$" if first.at_end else ""
    texts = [f"{front}{text}{back}" for text in spell_all([*runs[0], *runs[1]], names)]
    operations, counts = fitting.named(names)
    count = len(sources)
    return Convert(texts[:count], texts[count:], operations, under=spell(scope, names), counts=counts)


def _called(capture: Capture | Choice, name: str) -> Capture | Choice:
    return capture._replace(name=name) if isinstance(capture, Choice) else replace(capture, name=name)
