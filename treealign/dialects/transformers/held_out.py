"""Names that no candidate for a rule was made from: whether a rule says more, or less, than the transform it is for.

Where no keys are given, rules are tried on names that are made up of the patterns. A rule may then hold a part that was
only made up, or match in places that none of these names has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from treealign.dialects.transformers.stages import Stage
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.convert import Convert
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform, has_range
from treealign.tree.segments import Capture

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
