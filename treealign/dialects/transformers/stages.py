"""The names that keys have on their way: before and after each renaming of a mapping, and as conversions take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.guards import GuardDecision, Verdict
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import Convert


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
    conversions = tuple(
        (transform, tuple(_entering(step, names) for step in steps if at in step.transforms))
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


def _entering(step: Step, names: dict[str, str]) -> Step:
    return step._replace(sources=tuple(names[key] for key in step.sources))


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
