"""Which transforms of a mapping do nothing for a checkpoint: dead, shadowed, or made good by those that follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.guards import GuardDecision
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform
from treealign.tree.keytree import KeyTree


def reach(transform: Transform, checkpoint: KeyTree) -> tuple[str, ...]:
    """The keys that a transform, alone, would touch."""
    alone = ConversionMapping([transform])
    return tuple(key for key, trace in alone.trace(checkpoint, False).items() if trace.transforms)


def droppable(mapping: ConversionMapping, checkpoint: KeyTree, steps: Sequence[Step]) -> dict[int, tuple[str, ...]]:
    """The transforms without which every key ends the same, by their place in the mapping, with the keys they touch.

    Parameters
    ----------
    mapping : ConversionMapping
        Forward.
    checkpoint : KeyTree
        What it was made for.
    steps : sequence of Step
        What it does there.

    Notes
    -----
    One key of each template tells, as a rule, that a transform is needed; only where none does are all keys tried.
    """
    used = sorted({at for step in steps for at in step.transforms})
    if not used:
        return {}
    decision = mapping.decide(checkpoint)
    step_of = {key: step for step in steps for key in step.sources}
    samples = list(_samples(checkpoint, step_of))
    found = {}
    for at in used:
        few = [key for key in samples if at in step_of[key].transforms]
        if _same_without(mapping, decision, at, few, step_of):
            keys = [key for key, step in step_of.items() if at in step.transforms]
            if _same_without(mapping, decision, at, keys, step_of):
                found[at] = tuple(keys)
    return found


def _samples(checkpoint: KeyTree, step_of: dict[str, Step]) -> Iterator[str]:
    """One key of each template, for each set of transforms that touched keys of the template."""
    keys = checkpoint.keys
    for fold in checkpoint.folds:
        yield from {step_of[keys[position]].transforms: keys[position] for position in fold.positions}.values()


def _same_without(
    mapping: ConversionMapping,
    decision: GuardDecision,
    at: int,
    keys: Sequence[str],
    step_of: dict[str, Step],
) -> bool:
    rest = ConversionMapping(t for index, t in enumerate(mapping) if index != at)
    decided = GuardDecision(tuple(d for index, d in enumerate(decision.decided) if index != at))
    try:
        made = {key: step for step in rest.plan(keys, decided) for key in step.sources}
    except MappingError:
        return False
    # what is turned under its own name has the same name without, and another shape
    return all(_does(made[key]) == _does(step_of[key]) for key in keys)


def _does(step: Step) -> tuple[Any, ...]:
    return step.targets, step.operations
