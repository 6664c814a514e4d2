"""Which rule belongs to which part of a model: the root's own, or those that a class entry says for a part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from treealign.dialects.transformers.calls import Call
from treealign.dialects.transformers.skeleton import Part
from treealign.dialects.transformers.stages import Stage
from treealign.errors import MappingError
from treealign.mapping.convert import Convert
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename


class Ruled(NamedTuple):
    """The rules for one transform.

    Attributes
    ----------
    calls : tuple of Call
        From the root of the model.
    part : str
        The path of the innermost model that holds all keys it touches; empty for the root.
    within : tuple of Call or None
        The same from that part; None where it can only be said from the root.
    """

    calls: tuple[Call, ...]
    part: str = ""
    within: tuple[Call, ...] | None = None


def part_of(keys: Iterable[str], parts: Mapping[str, Part]) -> str:
    """The path of the innermost part that holds all these keys."""
    names = list(keys)
    inside = [path for path in parts if path and all(name.startswith(f"{path}.") for name in names)]
    return max(inside, key=len, default="")


def stage_within(stage: Stage, part: str) -> Stage | None:
    """A renaming as it looks from a part, or None where it says more than that."""
    transform = _transform_within(stage.transform, part)
    if transform is None:
        return None
    level = f"{part}."
    pairs = zip(stage.before, stage.after, strict=True)
    inside = [(a.removeprefix(level), b.removeprefix(level)) for a, b in pairs if a.startswith(level)]
    return Stage(transform, tuple(a for a, _ in inside), tuple(b for _, b in inside))


def _transform_within(transform: Transform, part: str) -> Transform | None:
    under = transform.under
    if under == part or under.startswith(f"{part}."):
        return _with_under(transform, under[len(part) + 1 :])
    if under.startswith("**."):
        return transform
    if under or not isinstance(transform, Rename):
        return None
    if transform.source.startswith("**."):
        return transform
    level = f"{part}."
    if not all(text.startswith(level) for pair in transform.pairs for text in pair):
        return None
    return Rename({old.removeprefix(level): new.removeprefix(level) for old, new in transform.pairs})


def _with_under(transform: Transform, under: str) -> Transform | None:
    if isinstance(transform, PrefixChange):
        return PrefixChange(transform.add, transform.remove, under)
    return Rename(dict(transform.pairs), None, under) if isinstance(transform, Rename) else None


def steps_within(steps: Sequence[Step], part: str) -> tuple[Step, ...]:
    """Conversions as they look from a part."""
    return tuple(
        step._replace(sources=names_within(step.sources, part), targets=names_within(step.targets, part))
        for step in steps
    )


def names_within(names: Iterable[str], part: str) -> tuple[str, ...]:
    """The names below a part, from there."""
    return tuple(name.removeprefix(f"{part}.") for name in names if name.startswith(f"{part}."))


def renaming_part(stage: Stage, parts: Mapping[str, Part]) -> str:
    """The part of all names that a renaming touches, before and after."""
    return part_of((name for pair in stage.changed for name in pair), parts)


def conversion_part(convert: tuple[Convert, tuple[Step, ...]], parts: Mapping[str, Part]) -> str:
    """The part of all names that a conversion takes and gives."""
    return part_of((name for step in convert[1] for name in (*step.sources, *step.targets)), parts)


def or_none(make: Callable[[], tuple[Call, ...]]) -> tuple[Call, ...] | None:
    """What a function makes, or None where transformers cannot say it."""
    try:
        return make()
    except MappingError:
        return None


def by_class(ruled: Sequence[Ruled], parts: Mapping[str, Part]) -> dict[str, tuple[Call, ...]]:
    """Class name to what its entry would say: classes all of whose parts want the same, and all can say it."""
    wanted: dict[str, set[tuple[Call, ...]]] = {}
    for path, part in parts.items():
        if path:
            own = [rule for rule in ruled if rule.part == path]
            calls = tuple(call for rule in own for call in rule.within or ())
            stuck = any(rule.within is None for rule in own)
            wanted.setdefault(part.class_name, set()).add(() if stuck else calls)
    same = {name: next(iter(found)) for name, found in wanted.items() if len(found) == 1}
    return {name: calls for name, calls in same.items() if calls}
