"""Rules of transformers read for a checkpoint and its model: renamings by what they do, converters with sizes.

Each rule is read for itself. A renaming that is a key pattern on these names is read as it is written; any other by
the pairs of names that it makes. A converter is read group by group, with sizes. What was read is then run as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from treealign.dialects.transformers.collecting import Both, Collected, Names, Shapes, Taken, collect
from treealign.dialects.transformers.converters import Group, groups_of, refuse_other_numbers
from treealign.dialects.transformers.skeleton import skeleton
from treealign.errors import MappingError, PatternError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.synthesize import Conversion, synthesize
from treealign.synthesize.guarding import guard
from treealign.synthesize.task import Task
from treealign.synthesize.verifying import verify
from treealign.tree.fold import fold_names
from treealign.tree.keytree import KeyTree

AsWritten = Callable[[Any, list[str]], Sequence[Transform]]
BASE = "the prefix of the base model"


@dataclass
class Found:
    """What has been read so far: each rule with its transforms, or with the reason why it has none."""

    read: list[tuple[Any, tuple[Transform, ...]]] = field(default_factory=list)
    unread: list[tuple[Any, str]] = field(default_factory=list)
    notes: list[tuple[Any, str]] = field(default_factory=list)
    conversions: list[Conversion] = field(default_factory=list)
    findings: tuple[str, ...] = ()

    @property
    def transforms(self) -> list[Transform]:
        """All of them, in the order in which they apply."""
        return [transform for _, transforms in self.read for transform in transforms]


def read_whole(rules: Sequence[Any], both: Both, as_written: AsWritten) -> tuple[ConversionMapping, Found]:
    """The mapping, and what was read of each rule.

    Parameters
    ----------
    rules : sequence of WeightTransform
        As transformers has them for the model; they are left as they are.
    both : Both
        What they are for.
    as_written : callable
        Reads one renaming as the key pattern that it is on some names, or raises a `PatternError`.
    """
    collected, found = collect(rules, both.checkpoint, both.model, both.prefix), Found()
    names: Names = {key: key for key in both.checkpoint}
    for at, after in collected.stages:
        rule = rules[at] if at >= 0 else BASE
        _read(found, rule, partial(_renaming, rule, names, after, as_written))
        names = after
    _read_converters(found, rules, collected, names, both)
    return _whole(found, collected, both), found


def _read(found: Found, rule: Any, read: Callable[[], Sequence[Transform]]) -> None:
    try:
        found.read.append((rule, tuple(read())))
    except (PatternError, MappingError) as error:
        found.unread.append((rule, error.what))


# -- renamings ---------------------------------------------------------------------------------------------------------


def _renaming(rule: Any, before: Names, after: Names, as_written: AsWritten) -> Sequence[Transform]:
    pairs, reached = {old: after[key] for key, old in before.items()}, dict[str, str]()
    for old, new in pairs.items():
        if reached.setdefault(new, old) != old:
            raise PatternError(f"it makes {new} of both {reached[new]} and {old}")
    if rule != BASE:
        try:
            return as_written(rule, list(pairs))
        except PatternError:
            pass
    return _by_effect(list(pairs.items()))


def _by_effect(pairs: Sequence[tuple[str, str]]) -> Sequence[Transform]:
    """The shortest list that makes these names of those."""
    left, right = (_tree(names) for names in zip(*pairs, strict=True))
    made = _bare(synthesize(pairs, (), left, right).mapping)
    mapped = ConversionMapping(made).map_keys(left.keys, converted=False)
    astray = [old for old, new in pairs if mapped[old] != (new,)]
    if astray:
        raise PatternError(f"no key patterns do what it does to {', '.join(fold_names(astray, 3))}")
    return made


def _tree(names: Iterable[str], shapes: Shapes | None = None) -> KeyTree:
    return KeyTree.from_leaves([(name, (shapes or {}).get(name), None) for name in dict.fromkeys(names)])


def _bare(mapping: ConversionMapping) -> list[Transform]:
    """Without guards: those are about whole checkpoints, not about names on their way."""
    return [transform.with_guard() for transform in mapping]


# -- converters --------------------------------------------------------------------------------------------------------


def _read_converters(found: Found, rules: Sequence[Any], collected: Collected, names: Names, both: Both) -> None:
    known = {key: shape for key, shape in (both.model or {}).items() if shape is not None}
    model = None if both.model is None else skeleton(known, both.parts)
    for at in sorted({taken.rule for taken in collected.taken}):
        taken = [each for each in collected.taken if each.rule == at]
        _read(found, rules[at], partial(_converter, found, (rules[at], rules), taken, names, both, model))


def _converter(
    found: Found, among: tuple[Any, Sequence[Any]], taken: Sequence[Taken], names: Names, both: Both, model: Any
) -> Sequence[Transform]:
    rule, rules = among
    groups = groups_of(rule, taken, names, both.checkpoint, model)
    _refuse_misfits(groups, both.model or {})
    made = _converting(groups, names, both)
    notes = refuse_other_numbers(rule, groups, both.parts, rules)
    found.notes += [(rule, note) for note in notes]
    found.conversions += [Conversion(g.keys, g.targets, g.operations) for g in groups]
    return made


def _refuse_misfits(groups: Sequence[Group], wanted: Shapes) -> None:
    for key, shape in ((key, shape) for group in groups for key, shape in group.made.items()):
        if wanted.get(key, shape) != shape:
            raise PatternError(f"it makes {shape} for {key}, which has {wanted[key]}")


def _converting(groups: Sequence[Group], names: Names, both: Both) -> Sequence[Transform]:
    """The shortest list that does this to the names on their way, and nothing to any other."""
    taken = {name for group in groups for name in group.names}
    others = [(name, name) for name in names.values() if name not in taken]
    pairs = [*others, *((g.names[0], g.targets[0]) for g in groups if not g.operations)]
    conversions = [Conversion(g.names, g.targets, g.operations) for g in groups if g.operations]
    shapes = {names[key]: shape for key, shape in both.checkpoint.items()}
    left = _tree(names.values(), shapes)
    right = _tree([*(new for _, new in pairs), *(new for c in conversions for new in c.model)], _made(groups, shapes))
    made = _bare(synthesize(pairs, conversions, left, right).mapping)
    _refuse_other_steps(ConversionMapping(made), conversions, pairs, left)
    return made


def _made(groups: Sequence[Group], shapes: Shapes) -> Shapes:
    return {**shapes, **{key: shape for group in groups for key, shape in group.made.items()}}


def _refuse_other_steps(
    mapping: ConversionMapping, conversions: Sequence[Conversion], pairs: Sequence[tuple[str, str]], left: KeyTree
) -> None:
    steps = mapping.plan(left.keys)
    made = {step.sources: (step.targets, step.operations) for step in steps}
    wanted = {c.checkpoint: (c.model, c.operations) for c in conversions} | {(a,): ((b,), ()) for a, b in pairs}
    astray = [sources[0] for sources, outcome in wanted.items() if made.get(sources) != outcome]
    if astray:
        raise PatternError(f"no key patterns do what it does to {', '.join(fold_names(astray, 3))}")


# -- the whole ---------------------------------------------------------------------------------------------------------


def _whole(found: Found, collected: Collected, both: Both) -> ConversionMapping:
    """All of it, guarded, and run on all keys; where rule by rule does not do, the shortest list that does."""
    task = _task(found, collected, both)
    mapping = ConversionMapping(guard(found.transforms, task.checkpoint_names, task.model_names, task.lone))
    if found.unread:
        return mapping
    found.findings = verify(mapping, task)
    if not found.findings:
        return mapping
    again = synthesize(task.pairs, task.conversions, task.checkpoint, task.model)
    if again.findings:
        return mapping
    found.findings = ()
    found.notes.append(("all rules", "together they are read as the shortest list that does and undoes the same"))
    return again.mapping


def _task(found: Found, collected: Collected, both: Both) -> Task:
    # what a converter makes for no key of the model goes nowhere, as any other key does
    landing = [c for c in found.conversions if both.model is None or set(c.model) <= both.model.keys()]
    conversions = [c for c in landing if c.operations]
    plain = [(c.checkpoint[0], c.model[0]) for c in landing if not c.operations]
    ends = {key: end for key, end in collected.ends.items() if both.model is None or end in both.model}
    pairs = [*ends.items(), *plain]
    made = [*(end for _, end in pairs), *(key for c in conversions for key in c.model)]
    right = _tree(made) if both.model is None else _tree(both.model, both.model)
    return Task(pairs, conversions, _tree(both.checkpoint, both.checkpoint), right)
