"""Conversions among the renamings: what renamings may do to their sources, and what a `Convert` makes up for.

A `Convert` names its sources and targets from some point on, so renamings need only lead to such a point; and one
`Convert` does all conversions that look the same from there on. Taking one costs as much as a renaming does.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from treealign.formats.cached import cached_property
from treealign.synthesize.contents import Occurrence
from treealign.synthesize.conversions import ConversionTemplate, signature
from treealign.synthesize.lattice import Edit, Lattice, whole_lattice
from treealign.synthesize.templates import Template
from treealign.tree.segments import Name, Segment, Slot


@dataclass(frozen=True)
class Absorption:
    """A conversion as the way of its first source to the name under which a `Convert` could best take it."""

    conversion: ConversionTemplate

    @property
    def kind(self) -> Hashable:
        """Equal for conversions that one `Convert` may do."""
        c = self.conversion
        return signature(c.cases[0].operations), len(c.sources), c.lows

    @cached_property
    def heads(self) -> tuple[Name, Name]:
        """What all sources begin with, and what all targets do, before what only one side captures."""
        c = self.conversion
        names = (*c.sources, *c.targets)
        rest = 2 if len(set(names)) == 1 else 1 + _kept(names)
        left, right = (_common(side, c.shared, rest) for side in (c.sources, c.targets))
        return left, right

    @cached_property
    def template(self) -> Template:
        """The way of the first source."""
        source, target = self.lines[0]
        return Template(source, target, self.conversion.values, ())

    @cached_property
    def lines(self) -> list[tuple[Name, Name]]:
        """All sources, and what they would become."""
        left, right = self.heads
        return [(name, (*right, *name[len(left) :])) for name in self.conversion.sources]

    @cached_property
    def lattice(self) -> Lattice:
        """The ways from head to head, each of which may be left for a `Convert` wherever nothing more is kept."""
        ways = whole_lattice(*self.heads)
        end = (max(len(a) for a, _ in self.lines), max(len(b) for _, b in self.lines))
        absorbed = tuple(Edit(i, end[0], j, end[1]) for i, j in _leaves(ways))
        return Lattice((*ways.edits, *absorbed), ways.kept, ways.start, end, ways.end)

    def points(self) -> Iterator[tuple[Edit, Hashable]]:
        """What makes for different `Convert`s if it is left at some point; renamings may make the sources alike."""
        c = self.conversion
        for edit in set(self.lattice.edits) - set(self.lattice.renamings):
            sides = [n[edit.i :] for n in c.sources], [n[edit.j :] for n in c.targets]
            kept = 0 if len({*sides[0], *sides[1]}) == 1 else _kept([*sides[0], *sides[1]])
            tails = tuple(_renumbered([[n[: len(n) - kept] for n in sides[1]]], c.shared))
            yield edit, (self.kind, tails)


def absorptions(items: Sequence[Absorption], first: int) -> list[tuple[Occurrence, Hashable]]:
    """All points at which conversions may be left; their templates are numbered from `first` on."""
    return [(Occurrence(first + n, edit), key) for n, item in enumerate(items) for edit, key in item.points()]


def _common(names: Sequence[Name], shared: int, rest: int) -> Name:
    """What all names begin with, before their last segments and before what only one side captures."""
    found = 0
    for column in zip(*(n[: max(0, len(n) - rest)] for n in names), strict=False):
        if len(set(column)) > 1 or any(s.column >= shared for s in _slots(column[:1])):
            break
        found += 1
    return names[0][:found]


def _slots(name: Name) -> Iterator[Slot]:
    return (p for s in name if not isinstance(s, str) for p in s if isinstance(p, Slot))


def _leaves(ways: Lattice) -> list[tuple[int, int]]:
    """Nodes at which nothing more is kept: to name less is to name more conversions at once."""
    kept = set(ways.kept)
    nodes = {ways.start, ways.end, *((i + 1, j + 1) for i, j in kept)}
    nodes |= {node for e in ways.edits for node in ((e.i, e.j), (e.i2, e.j2))}
    return sorted(node for node in nodes if node not in kept)


def _kept(names: Sequence[Name]) -> int:
    """Whether all names end alike, in one segment."""
    return int(len({n[-1:] for n in names}) == 1 and min(map(len, names)) > 1)


def _renumbered(sides: Sequence[Sequence[Name]], shared: int) -> Iterator[tuple[Name, ...]]:
    numbers: dict[int, Slot] = {}
    for slot in (s for side in sides for name in side for s in _slots(name)):
        numbers.setdefault(slot.column, Slot(len(numbers) + (1000 if slot.column >= shared else 0)))
    for side in sides:
        yield tuple(tuple(_with(s, numbers) for s in name) for name in side)


def _with(segment: Segment, numbers: dict[int, Slot]) -> Segment:
    if isinstance(segment, str):
        return segment
    return tuple(numbers[p.column]._replace(shift=p.shift) if isinstance(p, Slot) else p for p in segment)
