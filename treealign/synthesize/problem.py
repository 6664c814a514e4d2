"""What has to come out, and what a rule must not touch on the way."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from treealign.formats.cached import cached_property
from treealign.synthesize.absorbing import Absorption
from treealign.synthesize.lattice import Lattice, lattice
from treealign.synthesize.lines import Line, Lines
from treealign.synthesize.rules import Rule
from treealign.synthesize.templates import Template, Values
from treealign.tree.segments import Name


@dataclass(frozen=True)
class Known:
    """A rule, and whether it or its inverse matches a name that must not change."""

    rule: Rule
    fixed: bool
    problem: Problem

    @cached_property
    def final(self) -> bool:
        """Whether it matches a name that only the model has, so that a guard has to tell."""
        return any(True for _ in self.problem._made.find(self.rule.forward))

    @cached_property
    def loose(self) -> int:
        """How many names without a match it or its inverse would change."""
        sides = ((self.problem._loose, self.rule.forward), (self.problem._unfilled, self.rule.backward))
        return sum(1 for lines, side in sides for _ in lines.find(side))


@dataclass(frozen=True)
class Problem:
    """Everything that the names of the two sides demand of a list of rules.

    Attributes
    ----------
    templates : tuple of Template
        The pairs of names that differ.
    fixed, checkpoint_only, model_only : tuple of (Name, Values)
        Names that stay as they are, and those that stand in no match.
    conversions : tuple of Absorption
        The matches whose tensors change.
    """

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
    def starts(self) -> tuple[tuple[tuple[tuple[Name, Name], ...], Values], ...]:
        """Of each template its names at first and at last, as patterns see them, and what its slots hold."""
        plain = (([(t.source, t.target)], t.values) for t in self.templates)
        several = ((c.lines, c.conversion.values) for c in self.conversions)
        return tuple((tuple((v.seen(a), v.seen(b)) for a, b in lines), v) for lines, v in (*plain, *several))

    @property
    def searched(self) -> int:
        """How many names have been looked at so far."""
        return sum(lines.searched for lines in (self._fixed, self._made, self._loose, self._unfilled))

    def known(self, rule: Rule) -> Known:
        """The rule and what it does to names that no move changes: the same for all lists, so asked once."""
        if rule not in self._rules:
            sides = rule.forward, rule.backward
            fixed = any(True for side in sides for _ in self._fixed.find(side))
            self._rules[rule] = Known(rule, fixed, self)
        return self._rules[rule]

    @cached_property
    def _rules(self) -> dict[Rule, Known]:
        return {}

    @cached_property
    def states(self) -> dict[Hashable, int]:
        """A number for each state that a template was found in on its way."""
        return {}

    @cached_property
    def _fixed(self) -> Lines:
        return _lines(self.fixed)

    @cached_property
    def _loose(self) -> Lines:
        return _lines(self.checkpoint_only)

    @cached_property
    def _unfilled(self) -> Lines:
        return _lines(self.model_only)

    @cached_property
    def _made(self) -> Lines:
        made = [(t.target, t.values) for t in self.templates] + list(self.model_only)
        return _lines([*made, *((n, c.conversion.values) for c in self.conversions for n in c.conversion.targets)])


def _lines(names: Iterable[tuple[Name, Values]]) -> Lines:
    return Lines(Line(v.seen(n), v) for n, v in names)
