"""What loaders that know nothing of classes share: the keys to try an emitted text on, and what it does to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from treealign.dialects.transformers.sides import sides_of
from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import Convert
from treealign.tree.keytree import KeyTree
from treealign.tree.reading import read_tree


class Given(NamedTuple):
    """What is to come out.

    Attributes
    ----------
    keys : tuple of str
        Of the checkpoint; those that reach the model where both are known.
    steps : tuple of Step
        What the mapping does with them.
    shapes : dict
        Key of the checkpoint to its shape, None where it is unknown.
    sampled : bool
        The keys are made up.
    """

    keys: tuple[str, ...]
    steps: tuple[Step, ...]
    shapes: dict[str, tuple[int, ...] | None]
    sampled: bool

    def used(self, mapping: ConversionMapping) -> list[Transform]:
        """The transforms that touch a key, in order."""
        touched = {at for step in self.steps for at in step.transforms}
        return [transform for at, transform in enumerate(mapping) if at in touched]


def given(mapping: ConversionMapping, checkpoint: Any, model: Any) -> Given:
    """Keys for a mapping, from whichever side is given.

    Raises
    ------
    TreealignError
        A side cannot be read, or the mapping cannot be run on it.
    """
    sides = sides_of(mapping, checkpoint, None if model is None else _plain(model))
    return Given(sides.journey.keys, sides.journey.steps, sides.shapes, sides.sampled)


def _plain(model: Any) -> KeyTree:
    """The leaves of a model, without its classes."""
    tree = model if isinstance(model, KeyTree) else read_tree(model)
    return KeyTree.from_leaves(tree.leaves, tied=tree.tied, ordered=tree.ordered)


# -- loaders that only rename ------------------------------------------------------------------------------------------

ELSEWHERE = 'the model\'s own load_weights has to; or emit(mapping, "python"), --to python, converts before'


def renamings(mapping: ConversionMapping, held: Given, loader: str) -> list[Transform]:
    """The transforms that touch a key, in order.

    Raises
    ------
    MappingError
        One of them converts, which the loader cannot.
    """
    used = held.used(mapping)
    converting = [repr(transform) for transform in used if isinstance(transform, Convert)]
    if converting:
        raise MappingError(f"{loader} renames, and this mapping converts", facts=converting, hint=ELSEWHERE)
    return used


def differences(held: Given, run: Callable[[str], str | None]) -> list[str]:
    """Where a loader's own renaming does other than the mapping."""
    wanted = {step.sources[0]: step.targets[0] for step in held.steps}
    made = {key: run(key) for key in wanted}
    return [f"{key} becomes {made[key]}, not {name}" for key, name in wanted.items() if made[key] != name]


def refuse(loader: str, wrong: Sequence[str], transforms: Sequence[Transform]) -> None:
    """Raise if there are differences.

    Raises
    ------
    MappingError
        Naming the keys.
    """
    if wrong:
        raise MappingError(
            f"{loader} would not do what the mapping says",
            facts=[*wrong[:10], *(f"by {transform!r}" for transform in transforms)],
            hint='emit(mapping, "python"), or --to python, gives functions that do',
        )


def heading(held: Given) -> str:
    """What the emitted text was tried on, for its first line."""
    return f"Checked on {counted_keys(len(held.keys), held.sampled)}"


def counted_keys(count: int, sampled: bool) -> str:
    """How many keys, in words."""
    return f"{count:,} {'made up ' if sampled else ''}key{'' if count == 1 else 's'}"
