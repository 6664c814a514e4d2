"""What has to come out, and what a rule does to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple, TypeAlias

from treealign.synthesize.absorbing import Absorption
from treealign.synthesize.contents import Occurrence
from treealign.synthesize.lattice import Edit, Lattice, lattice
from treealign.synthesize.lines import Hit, Line, Lines
from treealign.synthesize.rules import Found, Rule, Run, Side
from treealign.synthesize.templates import PartialMatch, Template, Values
from treealign.tree.segments import Captures, Name

EditsAt: TypeAlias = dict[tuple[int, int], list[Edit]]


class Kind(Enum):
    """What becomes of a name that a rule matches."""

    CHANGED = "changed"  # some edit of its template has to account for it
    FIXED = "fixed"  # it must not be matched
    LOOSE = "loose"  # it is matched with nothing: better left alone


class Row(NamedTuple):
    """If the rule is taken, one of these edits of the template has to be made."""

    template: int
    edits: frozenset[Edit]


@dataclass(frozen=True)
class Verdict:
    """What a rule does to all names.

    Attributes
    ----------
    uses : frozenset of Occurrence
        The edits that it makes.
    rows : tuple of Row
        What else has to be made if it is taken.
    guarded : bool
        Whether it matches names that only the model has, so that a guard has to tell.
    loose : int
        How many templates that match nothing it would rename.
    clean : bool
        Whether it matches nothing but what it is for.
    """

    uses: frozenset[Occurrence]
    rows: tuple[Row, ...]
    guarded: bool
    loose: int
    clean: bool

    @property
    def templates(self) -> set[int]:
        """The templates that have to do with it."""
        return {o.template for o in self.uses} | {row.template for row in self.rows}


@dataclass(frozen=True)
class Problem:
    """Everything that the names of the two sides demand of a list of rules."""

    templates: tuple[Template, ...]
    fixed: tuple[tuple[Name, Values], ...] = ()
    checkpoint_only: tuple[tuple[Name, Values], ...] = ()
    model_only: tuple[tuple[Name, Values], ...] = ()
    conversions: tuple[Absorption, ...] = ()

    @cached_property
    def ways(self) -> tuple[Template, ...]:
        """All templates, those of conversions behind the others."""
        return (*self.templates, *(c.template for c in self.conversions))

    @cached_property
    def lattices(self) -> tuple[Lattice, ...]:
        """The ways to make each template."""
        return (*(lattice(t.source, t.target) for t in self.templates), *(c.lattice for c in self.conversions))

    @cached_property
    def sources(self) -> tuple[Name, ...]:
        """The sources as patterns see them."""
        return tuple(t.values.seen(t.source) for t in self.ways)

    @cached_property
    def targets(self) -> tuple[Name, ...]:
        """The targets as patterns see them."""
        return tuple(t.values.seen(t.target) for t in self.ways)

    def assess(self, rule: Rule, meant: Sequence[Occurrence]) -> Verdict | None:
        """What a rule that is meant for some edits does, or None where it does what no other rule can mend."""
        rows: list[Row] = []
        uses: set[Occurrence] = set()
        clean, loose = True, 0
        for kind, row, used in (*self._forward(rule), *self._backward(rule)):
            if kind is Kind.FIXED or (row is not None and not row.edits):
                return None
            loose += kind is Kind.LOOSE
            if row is not None:
                rows.append(row)
                uses |= {Occurrence(row.template, edit) for edit in used}
                clean = clean and bool(used)
        uses |= {o for o in meant if o not in uses and self._reaches(rule, o)}
        guarded = any(True for _ in self._after.find(rule.forward))
        return Verdict(frozenset(uses), tuple(rows), guarded, loose, clean and not guarded and not loose)

    def _forward(self, rule: Rule) -> Iterator[tuple[Kind, Row | None, list[Edit]]]:
        for kind, line, found in self._hits(self._before, rule.forward):
            if kind is not Kind.CHANGED or found is None:
                yield kind, None, []
                continue
            made = _filled(rule.new, found.captures)
            target, stop = self.targets[line.template], found.at + len(rule.old)
            edits = self._by_source[line.template].get((found.at, stop), [])
            used = [e for e in edits if target[e.j : e.j2] == made]
            near = [e for e in self.lattices[line.template].edits if _touches(e.i, e.i2, found, rule)]
            yield kind, Row(line.template, frozenset((*used, *near))), used

    def _backward(self, rule: Rule) -> Iterator[tuple[Kind, Row | None, list[Edit]]]:
        for kind, line, found in self._hits(self._inverse, rule.backward):
            if kind is not Kind.CHANGED or found is None:
                yield kind, None, []
                continue
            made = _filled(rule.old, found.captures)
            source, stop = self.sources[line.template], found.at + len(rule.new)
            edits = self._by_target[line.template].get((found.at, stop), [])
            used = [e for e in edits if source[e.i : e.i2] == made]
            near = [e for e in self.lattices[line.template].edits if _touches(e.j, e.j2, found, rule)]
            yield kind, Row(line.template, frozenset((*used, *near))), used

    def _hits(self, lines: tuple[Lines, Sequence[Kind]], side: Side) -> Iterator[tuple[Kind, Line, Found | None]]:
        index, kinds = lines
        for number, found in index.find(side):
            line, kind = index.lines[number], kinds[number]
            yield (Kind.FIXED if found is None and kind is Kind.CHANGED else kind), line, found

    def _reaches(self, rule: Rule, o: Occurrence) -> bool:
        """Whether it makes the edit when everything before, or everything behind, has been made."""
        t, e = self.ways[o.template], o.edit
        source, target = self.sources[o.template], self.targets[o.template]
        ways = ((*target[: e.j], *source[e.i :]), (*source[: e.i2], *target[e.j2 :]))
        places = (e.j, e.i)
        for name, at in zip(ways, places, strict=True):
            try:
                found = rule.forward.find(name, t.values)
            except PartialMatch:
                continue
            if found and found[0].at == at and _filled(rule.new, found[0].captures) == target[e.j : e.j2]:
                return True
        return False

    @cached_property
    def _by_source(self) -> tuple[EditsAt, ...]:
        return tuple(_grouped((e, (e.i, e.i2)) for e in lat.edits) for lat in self.lattices)

    @cached_property
    def _by_target(self) -> tuple[EditsAt, ...]:
        return tuple(_grouped((e, (e.j, e.j2)) for e in lat.edits) for lat in self.lattices)

    @cached_property
    def _before(self) -> tuple[Lines, Sequence[Kind]]:
        return _indexed([*self._ways(0), *_kind(Kind.FIXED, self.fixed), *_kind(Kind.LOOSE, self.checkpoint_only)])

    @cached_property
    def _inverse(self) -> tuple[Lines, Sequence[Kind]]:
        return _indexed([*self._ways(1), *_kind(Kind.FIXED, self.fixed), *_kind(Kind.LOOSE, self.model_only)])

    @cached_property
    def _after(self) -> Lines:
        made = [(t.target, t.values) for t in self.templates] + list(self.model_only)
        made += [(name, c.conversion.values) for c in self.conversions for name in c.conversion.targets]
        return Lines(Line(v.seen(n), v) for n, v in made)

    def _ways(self, side: int) -> Iterator[tuple[Kind, Line]]:
        """The names of one side that have to change."""
        for number, t in enumerate(self.templates):
            yield Kind.CHANGED, Line(t.values.seen((t.source, t.target)[side]), t.values, number)
        for number, c in enumerate(self.conversions, len(self.templates)):
            values = c.conversion.values
            for names in c.lines:
                yield Kind.CHANGED, Line(values.seen(names[side]), values, number)


def _kind(kind: Kind, names: Sequence[tuple[Name, Values]]) -> Iterator[tuple[Kind, Line]]:
    return ((kind, Line(v.seen(n), v)) for n, v in names)


def _indexed(lines: Sequence[tuple[Kind, Line]]) -> tuple[Lines, Sequence[Kind]]:
    return Lines(line for _, line in lines), [kind for kind, _ in lines]


def _filled(run: Run, captures: Captures) -> Name:
    return tuple(segment.fill(captures) for segment in run)


def _touches(start: int, stop: int, found: Found, rule: Rule) -> bool:
    """Whether an edit changes what the rule looks at, so that it no longer matches once the edit is made."""
    last = found.stop + 1 if rule.at_end else found.stop
    return start < last and stop > found.first if start != stop else found.first < start < last


def _grouped(items: Iterator[tuple[Edit, tuple[int, int]]]) -> EditsAt:
    groups: EditsAt = {}
    for edit, key in items:
        groups.setdefault(key, []).append(edit)
    return groups


__all__ = ["Hit", "Kind", "Problem", "Row", "Verdict"]
