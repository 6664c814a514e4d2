"""What a synthesis has to do, folded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from treealign.formats.cached import cached_property
from treealign.synthesize.absorbing import Absorption
from treealign.synthesize.conversions import ConversionTemplate, fold_conversions
from treealign.synthesize.leaves import join_names, join_templates
from treealign.synthesize.lines import Line
from treealign.synthesize.problem import Problem
from treealign.synthesize.result import Conversion
from treealign.synthesize.series import merge_series
from treealign.synthesize.templates import Template, Values, fold_name, fold_pairs
from treealign.tree.grammar import is_literal
from treealign.tree.keys import natural_key
from treealign.tree.keytree import KeyTree
from treealign.tree.segments import Name


@dataclass(frozen=True)
class Task:
    """The matches of an alignment, and the trees whose keys they match."""

    pairs: Sequence[tuple[str, str]]
    conversions: Sequence[Conversion]
    checkpoint: KeyTree
    model: KeyTree

    @cached_property
    def templates(self) -> tuple[Template, ...]:
        """The one-to-one matches, in an order that does not depend on theirs."""
        found = merge_series(fold_pairs(self.pairs, self.checkpoint, self.model))
        return tuple(sorted(found, key=lambda t: (t.samples, repr(t.source))))

    @cached_property
    def converted(self) -> tuple[ConversionTemplate, ...]:
        """The matches whose tensors change."""
        found = fold_conversions(self.conversions, self.checkpoint, self.model)
        return tuple(sorted(found, key=lambda t: (repr(t.sources), t.cases[0].shared)))

    @cached_property
    def problem(self) -> Problem:
        """What the renamings have to do."""
        conversions = tuple(map(Absorption, self.converted))
        return Problem(
            templates=join_templates(self.changed, ((c.template, c.lattice) for c in conversions)),
            fixed=join_names(self._fixed),
            checkpoint_only=join_names(self._checkpoint_only),
            model_only=join_names(self._model_only),
            conversions=conversions,
        )

    @cached_property
    def changed(self) -> tuple[Template, ...]:
        """The one-to-one matches of which the two names differ."""
        return tuple(t for t in self.templates if t.changed)

    @cached_property
    def _fixed(self) -> tuple[tuple[Name, Values], ...]:
        return tuple((t.source, t.values) for t in self.templates if not t.changed)

    @cached_property
    def _checkpoint_only(self) -> tuple[tuple[Name, Values], ...]:
        return tuple(_unmatched(self.checkpoint, self._left))

    @cached_property
    def _model_only(self) -> tuple[tuple[Name, Values], ...]:
        return tuple(_unmatched(self.model, self._right))

    @cached_property
    def checkpoint_names(self) -> list[tuple[Name, Values]]:
        """Everything that the checkpoint has."""
        changed = [(t.source, t.values) for t in self.changed]
        converted = [(name, t.values) for t in self.converted for name in t.sources]
        return [*changed, *self._fixed, *self._checkpoint_only, *converted]

    @cached_property
    def model_names(self) -> list[tuple[Name, Values]]:
        """Everything that the model has."""
        changed = [(t.target, t.values) for t in self.changed]
        produced = [(name, t.values) for t in self.converted for name in t.targets]
        return [*changed, *self._fixed, *self._model_only, *produced]

    @cached_property
    def renamed_lines(self) -> list[Line]:
        """The names that no conversion may touch, on its way to the model."""
        return [*self.model_lines, *(Line(v.seen(n), v) for n, v in self._checkpoint_only)]

    @cached_property
    def model_lines(self) -> list[Line]:
        """The model's names; those that conversions make carry their number."""
        changed = [(t.target, t.values) for t in self.changed]
        others = [Line(v.seen(n), v) for n, v in (*changed, *self._fixed, *self._model_only)]
        made = ((n, name, t.values) for n, t in enumerate(self.converted) for name in t.targets)
        return [*others, *(Line(v.seen(name), v, n) for n, name, v in made)]

    @cached_property
    def lone(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A matched key that only the checkpoint has, and one that only the model has, as patterns."""
        pairs = [pair for t in self.changed for pair in t.samples]
        made = [c for t in self.converted for c in t.samples]
        left = [a for a, _ in pairs] + [c.checkpoint[0] for c in made]
        right = [b for _, b in pairs] + [c.model[0] for c in made]
        return _first(left, self.model), _first(right, self.checkpoint)

    @cached_property
    def _left(self) -> set[str]:
        return {c for c, _ in self.pairs} | {key for c in self.conversions for key in c.checkpoint}

    @cached_property
    def _right(self) -> set[str]:
        return {m for _, m in self.pairs} | {key for c in self.conversions for key in c.model}


def _first(keys: Iterable[str], other: KeyTree) -> tuple[str, ...]:
    """A pattern for the first of the keys that the other tree lacks."""
    lacking = [k for k in keys if k not in other and _is_pattern(k)]
    return (f"{min(lacking, key=natural_key)}$",) if lacking else ()


def _is_pattern(key: str) -> bool:
    """Whether a key can stand in a key pattern as it is."""
    return all(map(is_literal, key.split(".")))


def _unmatched(tree: KeyTree, matched: set[str]) -> Iterator[tuple[Name, Values]]:
    if len(matched) == len(tree):
        return
    for f in tree.folds:
        positions = [p for p in f.positions if tree.keys[p] not in matched]
        if positions:
            yield fold_name(f, positions)
