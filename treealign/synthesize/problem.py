"""What has to come out, and what a rule does to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from treealign.formats.cached import cached_property
from treealign.synthesize.absorbing import Absorption
from treealign.synthesize.contents import Content, Occurrence
from treealign.synthesize.lattice import Edit, Lattice, edits_between, lattice, lattice_after, restricted
from treealign.synthesize.lines import Line, Lines
from treealign.synthesize.peeling import first_edit
from treealign.synthesize.rules import Found, Rule, Run, Side
from treealign.synthesize.templates import PartialMatch, Template, Values
from treealign.synthesize.verdicts import Row, State, Verdict
from treealign.tree.segments import Captures, Name

_MOST_IDLE = 6
EditsAt: TypeAlias = dict[tuple[int, int], list[Edit]]


class _Names(NamedTuple):
    """Names of one side: those that change, those that must not, and those that match nothing."""

    changing: Lines
    fixed: Lines
    loose: Lines


class _Hit(NamedTuple):
    line: Line
    found: Found


class _Matched(NamedTuple):
    """What one side of a rule matches: the first name of each template, and how many names that match nothing."""

    hits: dict[int, _Hit]
    loose: int


@dataclass(frozen=True)
class Problem:
    """Everything that the names of the two sides demand of a list of rules."""

    templates: tuple[Template, ...]
    fixed: tuple[tuple[Name, Values], ...] = ()
    checkpoint_only: tuple[tuple[Name, Values], ...] = ()
    model_only: tuple[tuple[Name, Values], ...] = ()
    conversions: tuple[Absorption, ...] = ()
    worth: tuple[frozenset[Edit], ...] | None = None
    first: Edit | None = None

    @cached_property
    def ways(self) -> tuple[Template, ...]:
        """All templates, those of conversions behind the others."""
        return (*self.templates, *(c.template for c in self.conversions))

    @cached_property
    def lattices(self) -> tuple[Lattice, ...]:
        """The ways to make each template."""
        first, worth = self.first, self.worth
        if first is None:
            whole = (*(lattice(t.source, t.target) for t in self.templates), *(c.lattice for c in self.conversions))
        else:
            plain = (lattice_after(t.source, t.target, first) for t in self.templates)
            whole = (*plain, *(c.lattice.by_way_of(first) for c in self.conversions))
        return whole if worth is None else restricted(whole, worth)

    def peeled(self) -> Problem:
        """The same problem where levels that all names of the checkpoint begin with are changed first, by one rule.

        That may be one rule more than the fewest; but such a list is easy to read, and far fewer ways are left.
        """
        first = None if self.fixed else first_edit(side for lines, _ in self.starts for side in lines)
        if first is None or not all(first in c.lattice.renamings for c in self.conversions):
            return self
        return replace(self, first=first)

    def restricted(self, contents: Iterable[Content]) -> Problem:
        """The same problem with the edits of these contents only."""
        worth: list[set[Edit]] = [set() for _ in self.ways]
        for content in contents:
            for template, edit in content.occurrences:
                worth[template].add(edit)
        return replace(self, worth=tuple(map(frozenset, worth)))

    @cached_property
    def sources(self) -> tuple[Name, ...]:
        """The sources as patterns see them."""
        return tuple(t.values.seen(t.source) for t in self.ways)

    @cached_property
    def targets(self) -> tuple[Name, ...]:
        """The targets as patterns see them."""
        return tuple(t.values.seen(t.target) for t in self.ways)

    @property
    def searched(self) -> int:
        """How many names have been looked at so far."""
        halfway = (self._left_done, self._right_done, self._after)
        return sum(lines.searched for lines in (*self._before, *self._inverse, *halfway))

    @cached_property
    def starts(self) -> tuple[tuple[tuple[tuple[Name, Name], ...], Values], ...]:
        """Of each template its names at first and at last, as patterns see them, and what its slots hold."""
        plain = (([(t.source, t.target)], t.values) for t in self.templates)
        several = ((c.lines, c.conversion.values) for c in self.conversions)
        return tuple((tuple((v.seen(a), v.seen(b)) for a, b in lines), v) for lines, v in (*plain, *several))

    @cached_property
    def renaming_edits(self) -> tuple[frozenset[Edit], ...]:
        """Of each template the edits that renamings can make."""
        return tuple(frozenset(lat.renamings) for lat in self.lattices)

    def is_fixed(self, side: Side) -> bool:
        """Whether it matches a name that must not change."""
        return any(True for _ in self._before.fixed.find(side))

    def is_final(self, side: Side) -> bool:
        """Whether it matches a name that only the model has, so that a guard has to tell."""
        return any(True for _ in self._after.find(side))

    def loose(self, rule: Rule) -> int:
        """How many names without a match it or its inverse would change."""
        sides = ((self._before.loose, rule.forward), (self._inverse.loose, rule.backward))
        return sum(1 for lines, side in sides for _ in lines.find(side))

    def assess(self, rule: Rule, meant: Sequence[Occurrence], state: State = State.ANY) -> Verdict | None:
        """What a rule that is meant for some edits does, or None where it does what no other rule can mend.

        `state` says what has to have been done to the names before it works.
        """
        before = self._matched(self._before, rule.forward)
        after = before and self._matched(self._inverse, rule.backward)
        if before is None or after is None:
            return None
        made = (
            {n: set(self._made(rule, hit, True)) for n, hit in before.hits.items()},
            {n: set(self._made(rule, hit, False)) for n, hit in after.hits.items()},
        )
        idle = sum(not edits for side in made for edits in side.values())
        if idle > _MOST_IDLE and idle > 2 * len(meant):
            return None  # others would have to come first in too many places: nobody would write that
        both = made[0].keys() & made[1].keys()
        # it would work there, and so would its inverse: whatever comes first on one way comes last on the other
        rows = [Row(n, frozenset(made[0][n] & made[1][n])) for n in both]
        rows += [self._row(rule, hit, made[0][n], True) for n, hit in before.hits.items() if n not in both]
        rows += [self._row(rule, hit, made[1][n], False) for n, hit in after.hits.items() if n not in both]
        rows += self._rows_halfway(rule, state, both)
        if not all(row.edits for row in rows):
            return None
        uses = {Occurrence(n, edit) for side in made for n, edits in side.items() for edit in edits}
        uses |= {o for o in meant if o not in uses and self._reaches(rule, o)}
        guarded = any(True for _ in self._after.find(rule.forward))
        loose = before.loose + after.loose
        clean = not guarded and not loose and all(edits for side in made for edits in side.values())
        leaf = any(o.edit.i2 == len(self.sources[o.template]) for o in uses)
        return Verdict(frozenset(uses), tuple(rows), guarded, loose, clean, leaf, state is State.RIGHT_DONE)

    def _matched(self, names: _Names, side: Side) -> _Matched | None:
        """The templates that one side of a rule matches, or None if it matches what it must not."""
        if any(True for _ in names.fixed.find(side)):
            return None
        hits: dict[int, _Hit] = {}
        for number, found in names.changing.find(side):
            line = names.changing.lines[number]
            if found is None:
                return None
            hits.setdefault(line.template, _Hit(line, found))
        return _Matched(hits, sum(1 for _ in names.loose.find(side)))

    def _row(self, rule: Rule, hit: _Hit, used: Iterable[Edit], forward: bool) -> Row:
        """One of the edits that the rule makes there, or one that takes away the match."""
        return Row(hit.line.template, self._near(rule, hit.line, hit.found, forward).union(used))

    def _rows_halfway(self, rule: Rule, state: State, done: Set[int]) -> Iterator[Row]:
        """What has to be made because of names that are halfway when the rule works."""
        if state is State.ANY:
            return
        forward = state is State.LEFT_DONE
        lines, side = (self._left_done, rule.forward) if forward else (self._right_done, rule.backward)
        for number, found in lines.find(side):
            line = lines.lines[number]
            if found is None:
                yield Row(line.template, frozenset())
            elif line.template not in done and found.at + line.offset >= line.begin:
                hit = _Hit(line, found)
                yield self._row(rule, hit, self._made(rule, hit, forward), forward)

    def _made(self, rule: Rule, hit: _Hit, forward: bool) -> list[Edit]:
        """The edits that the rule, or its inverse, makes there."""
        line, found = hit
        at = found.at + line.offset
        made = _filled(rule.new if forward else rule.old, found.captures)
        if forward:
            other, edits = self.targets[line.template], self._by_source[line.template]
            return [e for e in edits.get((at, at + len(rule.old)), []) if other[e.j : e.j2] == made]
        other, edits = self.sources[line.template], self._by_target[line.template]
        return [e for e in edits.get((at, at + len(rule.new)), []) if other[e.i : e.i2] == made]

    def _near(self, rule: Rule, line: Line, found: Found, forward: bool) -> frozenset[Edit]:
        """The edits that take away the match."""
        first = max(found.first + line.offset, line.begin - 1)
        last = found.stop + line.offset + rule.at_end
        place = (line.template, first, last, line.begin, forward)
        if place not in self._nearby:
            self._nearby[place] = frozenset(edits_between(self.lattices[line.template].edits, *place[1:]))
        return self._nearby[place]

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
    def _nearby(self) -> dict[tuple[int, int, int, int, bool], frozenset[Edit]]:
        return {}  # what has been asked for

    @cached_property
    def _by_source(self) -> tuple[EditsAt, ...]:
        return tuple(_grouped((e, (e.i, e.i2)) for e in lat.edits) for lat in self.lattices)

    @cached_property
    def _by_target(self) -> tuple[EditsAt, ...]:
        return tuple(_grouped((e, (e.j, e.j2)) for e in lat.edits) for lat in self.lattices)

    @cached_property
    def _before(self) -> _Names:
        return _Names(Lines(self._ways(0)), _lines(self.fixed), _lines(self.checkpoint_only))

    @cached_property
    def _inverse(self) -> _Names:
        return _Names(Lines(self._ways(1)), _lines(self.fixed), _lines(self.model_only))

    @cached_property
    def _after(self) -> Lines:
        made = [(t.target, t.values) for t in self.templates] + list(self.model_only)
        return _lines([*made, *((n, c.conversion.values) for c in self.conversions for n in c.conversion.targets)])

    @cached_property
    def _left_done(self) -> Lines:
        """Names of which everything to the left of some kept segment has been changed."""
        return Lines(self._halfway(False))

    @cached_property
    def _right_done(self) -> Lines:
        """Names of which everything to the right of some kept segment has been changed."""
        return Lines(self._halfway(True))

    def _halfway(self, right: bool) -> Iterator[Line]:
        for number, (t, lat) in enumerate(zip(self.templates, self.lattices, strict=False)):
            source, target = self.sources[number], self.targets[number]
            kept = {*lat.kept, lat.end}
            for i, j in sorted(node for node in kept if (node[0] - 1, node[1] - 1) not in kept):
                if source[:i] != target[:j]:
                    name = (*source[:i], *target[j:]) if right else (*target[:j], *source[i:])
                    yield Line(name, t.values, number, j - i if right else i - j, j if right else i)

    def _ways(self, side: int) -> Iterator[Line]:
        """The names of one side that have to change."""
        for number, t in enumerate(self.templates):
            yield Line(t.values.seen((t.source, t.target)[side]), t.values, number)
        for number, c in enumerate(self.conversions, len(self.templates)):
            for names in c.lines:
                yield Line(c.conversion.values.seen(names[side]), c.conversion.values, number)


def _lines(names: Iterable[tuple[Name, Values]]) -> Lines:
    return Lines(Line(v.seen(n), v) for n, v in names)


def _filled(run: Run, captures: Captures) -> Name:
    return tuple(segment.fill(captures) for segment in run)


def _grouped(items: Iterator[tuple[Edit, tuple[int, int]]]) -> EditsAt:
    groups: EditsAt = {}
    for edit, key in items:
        groups.setdefault(key, []).append(edit)
    return groups


__all__ = ["Problem", "Row", "State", "Verdict"]
