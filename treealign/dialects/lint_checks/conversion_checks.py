"""Findings about the converters of an entry, read with their sizes: numbers that are lost, and fewer that would do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from treealign.dialects.lint_checks.models import Case, Shapes
from treealign.dialects.lint_checks.rule_checks import Said, rule_text
from treealign.dialects.transformers.reader import RulesReading, read_rules
from treealign.dialects.transformers.writer import write_live
from treealign.errors import TreealignError
from treealign.synthesize import Conversion, synthesize
from treealign.tree.keytree import KeyTree

_MOST_KEYS = 3000  # beyond that no shorter list is looked for


def converters_in(case: Case) -> frozenset[int]:
    """The entry's own converters that take something when what was saved is loaded."""
    rules = case.rules()
    return frozenset(n for n in case.loading.touched if n < case.own and hasattr(rules[n], "operations"))


def conversions(case: Case) -> Iterator[Said]:
    """Converters that saving does not undo, on numbers; and fewer rules that convert and rename the same."""
    if case.given or case.failure or not case.loading.converted:
        return
    rules = case.rules()
    try:
        reading = read_rules(rules, checkpoint=_tree(case.saved), model=case.meta)
    except TreealignError:
        # what cannot be read at all is looked at by its names and shapes only
        return
    own = {id(rule): n for n, rule in enumerate(rules[: case.own])}
    for rule, note in reading.notes:
        if id(rule) in own:
            yield Said("reversal", own[id(rule)], note)
    if not (reading.unread or reading.notes or reading.findings):
        yield from _smaller(case, reading)


def _smaller(case: Case, reading: RulesReading) -> Iterator[Said]:
    """Only where every rule in use is the entry's own: what other entries say is not its business."""
    used = case.loading.touched.keys()
    apart = any(n >= case.own for n in used) or len(reading.read) != len(used)
    if len(used) < 2 or apart or len(case.saved) > _MOST_KEYS or case.loading.collisions():
        return
    try:
        made = _shortest(case, reading)
    except TreealignError:
        return
    if 0 < len(made) < len(used):
        says = f"{len(made)} rules do what {len(used)} do"
        yield Said("smaller", None, says, tuple(map(rule_text, made)))


def _shortest(case: Case, reading: RulesReading) -> list[Any]:
    """The rules for the shortest mapping that does the same; transformers has loaded and saved by them."""
    steps = [s for s in reading.mapping.plan(list(case.saved)) if case.model.keys() >= {*s.targets}]
    left, right = _tree(case.saved), _tree(case.model)
    pairs = [(step.sources[0], step.targets[0]) for step in steps if not step.operations]
    groups = [Conversion(step.sources, step.targets, step.operations) for step in steps if step.operations]
    found = synthesize(pairs, groups, left, right)
    return [] if found.findings else write_live(found.mapping, left, right)


def _tree(shapes: Shapes) -> KeyTree:
    return KeyTree.from_leaves([(key, shape, None) for key, shape in shapes.items()])
