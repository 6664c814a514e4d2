"""Names that no candidate for a rule was made from: whether a rule says more, or less, than the transform it is for.

Where no keys are given, rules are tried on names that are made up of the patterns. A rule may then hold a part that was
only made up, or match in places that none of these names has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from treealign.dialects.transformers.stages import Stage
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.convert import Convert
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform

KEYS = "pass the checkpoint or the model (--checkpoint, --model): a rule may do for its keys"
# what `sides` makes up names of, and what else could stand there
_OTHER = {"weight": "other", "part": "another"}
_PLACE = "elsewhere"


def _otherwise(name: str) -> str:
    return ".".join(_OTHER.get(part, part) for part in name.split("."))


def stage_elsewhere(stage: Stage) -> Stage:
    """A renaming on names with other parts where parts were made up."""
    names = tuple(map(_otherwise, stage.before))
    return stage._replace(before=names, after=tuple((stage.transform.map_key(name) or (name,))[0] for name in names))


def elsewhere(convert: Convert, steps: Sequence[Step]) -> tuple[list[Step], list[str], list[str]]:
    """A conversion on such names, and the names of both sides; some in another place, which it leaves alone."""
    made = [
        step._replace(sources=tuple(map(_otherwise, step.sources)), targets=tuple(map(_otherwise, step.targets)))
        for step in steps
    ]
    # a pattern that holds such a part wants it
    held = [step for step in made if all(convert.map_key(name) for name in step.sources)]
    (back,) = ConversionMapping([convert]).reverse
    names = [*(name for step in held for name in step.sources), *_untouched(convert, (s.sources for s in steps))]
    keys = [*(name for step in held for name in step.targets), *_untouched(back, (s.targets for s in steps))]
    return held, names, keys


def _untouched(transform: Transform, names: Iterator[tuple[str, ...]]) -> Iterator[str]:
    for name in dict.fromkeys(f"{_PLACE}.{name}" for each in names for name in each):
        if transform.map_key(name) is None:
            yield name
