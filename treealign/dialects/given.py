"""What loaders that know nothing of classes share: the keys to try an emitted text on, and what it does to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from treealign.dialects.transformers.sides import Sides, sides_of
from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import Convert
from treealign.tree.keytree import KeyTree
from treealign.tree.reading import read_tree


def given(mapping: ConversionMapping, checkpoint: Any, model: Any) -> Sides:
    """Keys for a mapping, from whichever side is given; of a model the leaves, without its classes.

    Raises
    ------
    TreealignError
        A side cannot be read, or the mapping cannot be run on it.
    """
    if model is not None:
        tree = model if isinstance(model, KeyTree) else read_tree(model)
        model = KeyTree.from_leaves(tree.leaves, tied=tree.tied, ordered=tree.ordered)
    return sides_of(mapping, checkpoint, model)


# -- loaders that only rename ------------------------------------------------------------------------------------------

ELSEWHERE = 'the model\'s own load_weights has to; or emit(mapping, "python"), --to python, converts before'


def renamings(mapping: ConversionMapping, held: Sides, loader: str) -> list[Transform]:
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


def differences(held: Sides, run: Callable[[str], str | None]) -> list[str]:
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


def heading(held: Sides) -> str:
    """What the emitted text was tried on, for its first line."""
    return f"Checked on {counted_keys(len(held.keys), held.sampled)}"


def counted_keys(count: int, sampled: bool) -> str:
    """How many keys, in words."""
    return f"{count:,} {'made up ' if sampled else ''}key{'' if count == 1 else 's'}"
