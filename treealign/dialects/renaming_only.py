"""What loaders that only rename share: the renamings of a mapping that do something, and whether pairs do the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from treealign.dialects.given import Given
from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import Convert
from treealign.tree.fold import fold_names

ELSEWHERE = 'the model\'s own load_weights has to; or emit(mapping, "python"), --to python, converts before'


def renamings(mapping: ConversionMapping, held: Given, loader: str) -> list[Transform]:
    """The transforms that touch a key, in order.

    Raises
    ------
    MappingError
        One of them converts, which the loader cannot.
    """
    touched = {at for step in held.steps for at in step.transforms}
    used = [transform for at, transform in enumerate(mapping) if at in touched]
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


def shown(keys: Sequence[str]) -> list[str]:
    """Keys for a message."""
    return fold_names(keys, limit=5)
