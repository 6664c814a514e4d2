"""The names that keys have on their way: before and after each renaming of a mapping, and as conversions take them.

Where no keys are given, rules are tried on names that are made up of the patterns, and then on others that no candidate
was made from: a rule may hold a part that was only made up, or match in places that none of these names has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.guards import GuardDecision, Verdict
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform, has_range
from treealign.mapping.transforms import Convert
from treealign.tree.segments import Capture


class Stage(NamedTuple):
    """A renaming, and the names of all keys before and after it, in the same order."""

    transform: Transform
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def changed(self) -> list[tuple[str, str]]:
        """The names that it touches, with what it makes of them."""
        return [(a, b) for a, b in zip(self.before, self.after, strict=True) if a != b]


class Journey(NamedTuple):
    """What a mapping does with the keys of a checkpoint.

    Attributes
    ----------
    keys : tuple of str
        The keys of the checkpoint that reach the model.
    renamings : tuple of Stage
        All renamings, in order.
    conversions : tuple of (Convert, steps)
        Each with its groups, under the names that all renamings gave their keys.
    steps : tuple of Step
        From checkpoint to model.
    """

    keys: tuple[str, ...]
    renamings: tuple[Stage, ...]
    conversions: tuple[tuple[Convert, tuple[Step, ...]], ...]
    steps: tuple[Step, ...]

    @property
    def renamed(self) -> tuple[str, ...]:
        """The names after all renamings, in the order of `keys`."""
        return self.renamings[-1].after if self.renamings else self.keys

    @property
    def targets(self) -> tuple[str, ...]:
        """The keys of the model that are filled."""
        return tuple(key for step in self.steps for key in step.targets)


def follow(mapping: ConversionMapping, keys: Sequence[str], model_keys: Sequence[str] | None) -> Journey:
    """Follow keys through a mapping; those that do not reach the model are left out.

    Raises
    ------
    MappingError
        A renaming follows a conversion of the same key, which transformers cannot do; or as `map_keys`.
    """
    decision = mapping.decide(keys)
    known = None if model_keys is None else frozenset(model_keys)
    steps = [s for s in mapping.plan(keys, decision) if known is None or known.issuperset(s.targets)]
    for step in steps:
        step.refuse_incomplete()
    used = tuple(key for step in steps for key in step.sources)
    touched = {at for step in steps for at in step.transforms}
    _refuse_late(mapping, steps)
    stages = _renamings(mapping, used, decision, touched)
    names = dict(zip(used, stages[-1].after if stages else used, strict=True))
    entering = [step._replace(sources=tuple(names[key] for key in step.sources)) for step in steps]
    conversions = tuple(
        (transform, tuple(step for step in entering if at in step.transforms))
        for at, transform in enumerate(mapping)
        if isinstance(transform, Convert) and at in touched
    )
    return Journey(used, tuple(stages), conversions, tuple(steps))


def _renamings(
    mapping: ConversionMapping, keys: tuple[str, ...], decision: GuardDecision, touched: set[int]
) -> list[Stage]:
    found, names, taken = list[Stage](), keys, list[int]()
    for at, transform in enumerate(mapping):
        if isinstance(transform, Convert) or at not in touched:
            continue
        taken.append(at)
        if isinstance(decision.decided[at], Verdict):
            mapped = ConversionMapping([transform]).map_keys(names, GuardDecision((decision.decided[at],)))
            after = tuple(mapped[name][0] for name in names)
        else:
            # evidence for each group is about the keys as they were at first
            part = ConversionMapping(tuple(mapping)[i] for i in taken)
            mapped = part.map_keys(keys, GuardDecision(tuple(decision.decided[i] for i in taken)))
            after = tuple(mapped[key][0] for key in keys)
        found.append(Stage(transform, names, after))
        names = after
    return found


def _refuse_late(mapping: ConversionMapping, steps: Sequence[Step]) -> None:
    transforms = tuple(mapping)
    converts = {at for at, transform in enumerate(transforms) if isinstance(transform, Convert)}
    late = {
        at: step.sources[0]
        for step in steps
        for at in step.transforms
        if at not in converts and any(c < at for c in converts.intersection(step.transforms))
    }
    if late:
        raise MappingError(
            "transformers renames before it converts, and here a renaming follows a conversion",
            facts=[f"{transforms[at]!r} touches {key}" for at, key in sorted(late.items())],
            hint="put the renamings before the Converts",
        )


KEYS = "pass the checkpoint or the model (--checkpoint, --model): a rule may do for its keys"
# what `sides` makes up names of, and what else could stand there
_OTHER = {"weight": "other", "part": "another"}
_PLACE = "elsewhere"
SAMPLES = 4  # values of an index without end that are made up
_NUMBER = re.compile("[0-9]+")


def _otherwise(name: str) -> str:
    return ".".join(_OTHER.get(part, part) for part in name.split("."))


def stage_elsewhere(stage: Stage) -> Stage:
    """A renaming on names with other parts where parts were made up."""
    names = tuple(map(_otherwise, stage.before))
    return stage._replace(before=names, after=tuple((stage.transform.map_key(name) or (name,))[0] for name in names))


def elsewhere(convert: Convert, steps: Sequence[Step]) -> tuple[list[Step], list[str], list[str]]:
    """A conversion on such names, and on other indices, with the names of both sides; some it leaves alone.

    Those stand in another place, or their index lies beyond what the pattern takes.
    """
    made = [step._replace(sources=tuple(map(_otherwise, step.sources))) for step in steps]
    made += [step._replace(sources=names) for step in steps for names in _renumbered(convert, step.sources)]
    # a pattern that holds such a part wants it
    held = [done for step in made if (done := _converted(convert, step)) is not None]
    (back,) = ConversionMapping([convert]).reverse
    beyond = [step.sources for step in made if all(convert.map_key(name) is None for name in step.sources)]
    alone = [*_untouched(convert, (s.sources for s in steps)), *(name for names in beyond for name in names)]
    names = [*(name for step in held for name in step.sources), *alone]
    keys = [*(name for step in held for name in step.targets), *_untouched(back, (s.targets for s in steps))]
    return held, names, keys


def _converted(convert: Convert, step: Step) -> Step | None:
    """The step with the targets that its sources have, all the same."""
    found = {convert.map_key(name) for name in step.sources}
    targets = found.pop()
    return None if found or targets is None else step._replace(targets=targets)


def _renumbered(convert: Convert, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Names with another index where all have the same: such as were not made up, and those beyond a range."""
    split = [name.split(".") for name in names]
    for at, segment in enumerate(split[0]):
        number = _NUMBER.search(segment)
        if number is None or any(len(other) <= at or other[at] != segment for other in split):
            continue
        for index in sorted(_others(convert)):
            changed = f"{segment[: number.start()]}{index}{segment[number.end() :]}"
            yield tuple(".".join((*parts[:at], changed, *parts[at + 1 :])) for parts in split)


def _others(convert: Convert) -> set[int]:
    """Indices that are not made up, within ranges and beyond them."""
    patterns = [*convert._patterns[0], *([convert.scope] if convert.scope else [])]
    captures = [c for pattern in patterns for c in pattern.captures.values() if isinstance(c, Capture)]
    inside = {c.low + c.shift + SAMPLES for c in captures}
    beyond = {at + c.shift for c in captures if has_range(c) for at in (c.low - 1, (c.high or 0) + 1)}
    return {index for index in inside | beyond if index >= 0}


def _untouched(transform: Transform, names: Iterator[tuple[str, ...]]) -> Iterator[str]:
    for name in dict.fromkeys(f"{_PLACE}.{name}" for each in names for name in each):
        if transform.map_key(name) is None:
            yield name
