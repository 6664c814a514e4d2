"""Tensors that an operation changes under their own names: what says that it was done to them already.

Names that are renamed tell that a checkpoint is not converted. A tensor that has its new name already, where a renaming
finds nothing to do or finds only its siblings, was converted, or never had the old name: whether it is to be turned,
cut or re-ordered once more is a question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from treealign.errors import MappingError, UndecidedError
from treealign.mapping.conversion_mapping import ConversionMapping, Converted
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename
from treealign.tree.fold import fold_names

CONVERTED_HINT = "--converted yes (converted=True) if it was, --converted no (converted=False) if it was not"
_NUMBER = re.compile(r"[0-9]+")


def kind_of(key: str) -> str:
    """A key with all numbers alike."""
    return _NUMBER.sub("0", key)


def is_in_place(step: Step) -> bool:
    """Whether tensors keep their names while operations change them."""
    return bool(step.operations) and not step.absent and set(step.sources) == set(step.targets)


def not_repeating(
    mapping: ConversionMapping, steps: Sequence[Step], converted: Converted, where: str = "", hint: str = CONVERTED_HINT
) -> tuple[Step, ...]:
    """The steps, none of which changes in place what was changed already.

    Parameters
    ----------
    mapping : ConversionMapping
        What the steps come from.
    steps : sequence of Step
        What is to be done.
    converted : bool or GuardDecision, optional
        What is known: what is done in place is left out where it was done, that is where it is True. A decision was
        made of all keys, of which these may be a part.
    where, hint : str
        The checkpoint, and what to do, for the error.

    Raises
    ------
    UndecidedError
        Keys have their new names already, and would be changed in place; nothing is known.
    """
    if converted is True:
        kept = ([Step((key,), (key,)) for key in step.sources] if is_in_place(step) else [step] for step in steps)
        return tuple(step for some in kept for step in some)
    in_place = list(filter(is_in_place, steps)) if converted is None else []
    found = dict.fromkeys(key for step in _repeating(mapping, steps, in_place) for key in step.sources)
    if found:
        raise UndecidedError(
            "these keys have the names of what was converted already, and nothing says whether their numbers were",
            where=where,
            facts=fold_names(found, limit=10),
            hint=hint,
        )
    return tuple(steps)


def _repeating(mapping: ConversionMapping, steps: Sequence[Step], in_place: Sequence[Step]) -> Iterator[Step]:
    if not in_place:
        return
    renamed = _renamed(mapping, steps)
    try:
        back = mapping.reverse.plan([key for step in in_place for key in step.targets], converted=False)
    except MappingError:  # the way back makes one key of two: what stands there did not come by it
        return
    undone = {key: step for step in back for key in step.sources}
    for step in in_place:
        if any(_is_telling(mapping, undone[key], step, renamed) for key in step.targets):
            yield step


def _renamed(mapping: ConversionMapping, steps: Iterable[Step]) -> dict[int, set[str]]:
    """The kinds of the keys that each renaming touches, by its position."""
    found: dict[int, set[str]] = {}
    for step in steps:
        for at in step.transforms:
            if isinstance(mapping.transforms[at], PrefixChange | Rename):
                found.setdefault(at, set()).update(map(kind_of, step.sources))
    return found


def _is_telling(mapping: ConversionMapping, undone: Step, step: Step, renamed: Mapping[int, set[str]]) -> bool:
    """Whether a renaming that does nothing to a key speaks of it: its siblings have the old name, or nothing has."""
    kinds = set(map(kind_of, undone.targets))
    positions = {len(mapping.transforms) - 1 - at for at in undone.transforms}.difference(step.transforms)
    if renamed:
        return any(not kinds.isdisjoint(renamed.get(at, ())) for at in positions)
    return any(_writes(mapping.transforms[at]) for at in positions)


def _writes(transform: Transform) -> bool:
    """Whether it leaves words or levels that tell of it; where one was removed, it may never have been."""
    return isinstance(transform, Rename) or (isinstance(transform, PrefixChange) and transform.add is not None)
