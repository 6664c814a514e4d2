"""By which steps a checkpoint is converted: what a mapping makes of its keys."""

from __future__ import annotations

from collections.abc import Sequence

from treealign.errors import LoadError, MappingError
from treealign.mapping.conversion_mapping import ConversionMapping, Converted
from treealign.mapping.operations import is_lossy
from treealign.mapping.planning import Step
from treealign.tree.fold import fold_names
from treealign.tree.keytree import KeyTree


def steps_by_mapping(mapping: ConversionMapping, keys: KeyTree, converted: Converted = None) -> tuple[Step, ...]:
    """The steps of a mapping for all keys of a checkpoint, its guards decided once for all of them.

    Raises
    ------
    MappingError
        Two keys reach one name, a guard cannot tell whether its transform was done, or keys that a `Convert` needs are
        absent.
    """
    decision = mapping.decide(keys) if converted is None else converted
    steps = mapping.plan(keys, decision)
    refuse_incomplete(steps)
    return steps


def refuse_incomplete(steps: Sequence[Step]) -> None:
    """Refuse steps that lack keys, all of them in one message.

    Raises
    ------
    MappingError
        Naming the absent keys, and what was to be made of them.
    """
    lacking = [step for step in steps if step.absent]
    if lacking:
        absent = fold_names([key for step in lacking for key in step.absent])
        wanted = fold_names([key for step in lacking for key in step.targets], limit=5)
        raise MappingError(
            "conversions lack keys that the checkpoint does not have",
            facts=[*(f"absent: {key}" for key in absent), *(f"for: {key}" for key in wanted)],
            hint="is the checkpoint complete, and was the mapping made for it?",
        )


def refuse_lossy(steps: Sequence[Step]) -> None:
    """Refuse steps whose result does not give back what went in.

    Raises
    ------
    LoadError
        Naming what they make.
    """
    lossy = [key for step in steps if is_lossy(step.operations) for key in step.targets]
    if lossy:
        raise LoadError(
            "these conversions cannot be undone from their result",
            facts=fold_names(lossy),
            hint="allow lossy conversions, and the originals are kept beside the result",
        )
