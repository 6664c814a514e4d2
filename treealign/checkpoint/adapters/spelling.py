"""From the names in an adapter's file to those in the model, where each part bears the name of its adapter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile

from treealign.checkpoint.adapters.parts import PREFIX
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.convert import Convert
from treealign.mapping.guards import GuardDecision, Verdict
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename


def in_model_names(
    mapping: ConversionMapping, decision: GuardDecision, steps: Iterable[Step], saved: Mapping[str, str]
) -> tuple[ConversionMapping, GuardDecision, tuple[Step, ...]]:
    """Steps to the names of an adapter's file as steps to the model's, with the transforms that do it.

    Parameters
    ----------
    mapping, decision
        What the steps come from.
    steps : iterable of Step
        To names of the adapter's file.
    saved : mapping of str to str
        Key in the adapter's file to key of the model. A target that is not in it stays.
    """
    listed = tuple(steps)
    # a mapping renames first and converts last: where it converts, the steps stand for themselves
    added = () if any(isinstance(one, Convert) for one in mapping) else _renaming(saved)
    first = len(mapping)
    made = mapping.with_transforms([*mapping, *added])
    decided = GuardDecision((*decision.decided, *[Verdict.APPLY] * len(added)))
    return made, decided, tuple(_translated(step, saved, added, first) for step in listed)


def _translated(step: Step, saved: Mapping[str, str], added: tuple[Transform, ...], first: int) -> Step:
    targets = tuple(saved.get(key, key) for key in step.targets)
    touched = step.transforms
    if len(targets) == 1 and targets != step.targets:
        name, through = _through(added, step.targets[0])
        touched = (*touched, *(first + at for at in through)) if name == targets[0] else ()
    return step._replace(targets=targets, transforms=touched)


def _through(transforms: tuple[Transform, ...], name: str) -> tuple[str, list[int]]:
    touched = []
    for at, transform in enumerate(transforms):
        made = transform.map_key(name)
        if made is not None:
            name = made[0]
            touched.append(at)
    return name, touched


def _renaming(saved: Mapping[str, str]) -> tuple[Transform, ...]:
    """PEFT's levels off, the adapter's name in: one rule for each kind of part."""
    found: dict[Transform, None] = {}
    if any(name.startswith(PREFIX) and not key.startswith(PREFIX) for name, key in saved.items()):
        found[PrefixChange(remove=PREFIX.rstrip("."))] = None
    for name, key in saved.items():
        found |= dict.fromkeys(_inserted(name if key.startswith(PREFIX) else name.removeprefix(PREFIX), key))
    return tuple(found)


def _inserted(name: str, key: str) -> Iterator[Transform]:
    """The rule behind one pair: segments that stand in the model behind the one that both have."""
    old, new = name.split("."), key.split(".")
    head = _common(old, new)
    tail = min(_common(old[::-1], new[::-1]), len(old) - head, len(new) - head)
    before, after = old[head : len(old) - tail], new[head : len(new) - tail]
    if before == after:
        return
    if not head:
        yield Rename(".".join(old), ".".join(new))
        return
    end = "" if tail else "$"
    level = old[head - 1]
    yield Rename(".".join(["**", level, *before]) + end, ".".join(["**", level, *after]) + end)


def _common(one: list[str], other: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
