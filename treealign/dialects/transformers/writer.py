"""From a conversion mapping to transformers: source that registers it, or the live rules.

A rule belongs to the root of the model, or to the class of a part that holds all it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from treealign.dialects.given import counted_keys
from treealign.dialects.transformers.converting import convert_calls
from treealign.dialects.transformers.entries import (
    PLACEHOLDER,
    Call,
    Entry,
    existing,
    registry_restored,
    rules_of,
    run_source,
    source_text,
)
from treealign.dialects.transformers.joint_operations import with_towers_together
from treealign.dialects.transformers.proving import prove
from treealign.dialects.transformers.renaming import rename_calls
from treealign.dialects.transformers.sides import Sides, sides_of
from treealign.dialects.transformers.skeleton import Part, classes_of
from treealign.dialects.transformers.stages import Journey, Stage
from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.convert import Convert
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename


def write_source(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> str:
    """Source with the entries, run and proved; see `treealign.emit`."""
    return source_for(rooted_sides(mapping, checkpoint, model, name), name)


def rooted_sides(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> Sides:
    """Keys for a mapping, and a model for the root even where none is given."""
    sides = sides_of(mapping, checkpoint, model)
    if "" not in sides.parts and name is not None:
        _refuse_shared(name)
    root = sides.parts.get("") or Part(name or PLACEHOLDER, None)
    return sides._replace(parts={"": root, **sides.parts})


def entry_name(sides: Sides, name: str | None) -> str:
    """Under which name to register: that of the class where `name` is a model type, which other classes share."""
    root = sides.parts[""]
    return root.class_name if name is None or classes_of(name) else name


def _refuse_shared(name: str) -> None:
    classes = classes_of(name)
    if classes:
        raise MappingError(
            f"{name} is the model type of {len(classes)} classes of transformers: its entry would be one for all",
            facts=[", ".join(classes[:12]) + ", …" * (len(classes) > 12)],
            hint=f"name the class that is meant: name={classes[0]!r} (--name {classes[0]}), or give the model",
        )


def source_for(sides: Sides, name: str | None) -> str:
    """The entries for keys whose root is known, run and proved."""
    title = entry_name(sides, name)
    failure: MappingError | None = None
    for entries, remarks in _plans(sides, title):
        text = source_text(entries, _heading(title, sides), remarks)
        try:
            prove_source(text, sides)
        except MappingError as error:
            failure = failure or error
        else:
            return text
    assert failure is not None
    raise failure


def prove_source(text: str, sides: Sides) -> None:
    """Run source and load and save by what it registered.

    Raises
    ------
    MappingError
        Something comes out otherwise than the mapping says.
    """
    with registry_restored():
        run_source(text)
        prove(rules_of(sides.parts), sides.journey, sides.shapes, sides.parts)


def write_live(mapping: ConversionMapping, checkpoint: Any, model: Any) -> list[Any]:
    """The rules as objects, proved; see `treealign.emit`."""
    sides = sides_of(mapping, checkpoint, model)
    calls = rules_for(sides)
    prove(build(calls), sides.journey, sides.shapes, sides.parts)
    return build(calls)


def rules_for(sides: Sides) -> tuple[Call, ...]:
    """The rules that do what the mapping does, from the root of the model, each checked on its own.

    Raises
    ------
    MappingError
        Something in the mapping has no counterpart that transformers could reverse.
    """
    bare = sides._replace(parts={path: part for path, part in sides.parts.items() if not path})
    return tuple(call for ruled in _ruled(bare) for call in ruled.calls)


def build(calls: Sequence[Call]) -> list[Any]:
    """The objects of transformers."""
    return [call.build() for call in calls]


# -- entries -----------------------------------------------------------------------------------------------------------


def _plans(sides: Sides, name: str) -> Iterator[tuple[list[Entry], list[str]]]:
    """Entries to try: none, if transformers has them; those of parts by class; everything at the root."""
    known = {part.class_name for path, part in sides.parts.items() if path and _has_entry(part)}
    root_known = existing(name) is not None
    if _has_entry(sides.parts[""]) or known:
        yield [], [f"# nothing to register: transformers has these rules for {name} already"]
    ruled = _ruled(sides)
    classes = by_class(ruled, sides.parts)
    # an entry of a part's class works wherever that class is used: the root alone goes first
    nothing: set[str] = set()
    plans = (known, nothing), (nothing, nothing), (known, classes.keys() - known), (nothing, classes.keys())
    for reused, split in plans:
        left = _at_root(ruled, sides, reused | split)
        entries = [Entry(name, left, root_known)] if left or not split else []
        entries += [Entry(c, classes[c], existing(c) is not None) for c in sorted(split)]
        yield entries, [f"# {c} keeps the entry that transformers has" for c in sorted(reused & _touched(ruled, sides))]


def _has_entry(part: Part) -> bool:
    return existing(part.class_name) is not None or existing(part.model_type) is not None


def _touched(ruled: Sequence[Ruled], sides: Sides) -> set[str]:
    return {sides.parts[rule.part].class_name for rule in ruled if rule.part}


def _at_root(ruled: Sequence[Ruled], sides: Sides, elsewhere: set[str]) -> tuple[Call, ...]:
    here = (rule for rule in ruled if not rule.part or sides.parts[rule.part].class_name not in elsewhere)
    return tuple(call for rule in here for call in rule.calls)


def _ruled(sides: Sides) -> list[Ruled]:
    journey, parts = sides.journey, sides.parts
    found, taken = list[Ruled](), list[Call]()
    for stage in journey.renamings:
        part = part_of((name for pair in stage.changed for name in pair), parts)
        found.append(_renamed(stage, part, sides.sampled))
    for convert in with_towers_together(journey.conversions):
        part = part_of((name for step in convert[1] for name in (*step.sources, *step.targets)), parts)
        found.append(_converted(convert, part, sides, taken))
        taken += found[-1].calls
    return found


def _renamed(stage: Stage, part: str, sampled: bool) -> Ruled:
    inner = stage_within(stage, part) if part else None
    within = None if inner is None else or_none(lambda: rename_calls(inner, sampled))
    return Ruled(rename_calls(stage, sampled), part, within)


def _converted(pair: tuple[Convert, tuple[Step, ...]], part: str, sides: Sides, taken: Sequence[Call]) -> Ruled:
    (convert, steps), journey = pair, sides.journey

    def calls(within: str) -> tuple[Call, ...]:
        names, keys = (journey.renamed, journey.targets) if not within else _inside(journey, within)
        inner = steps if not within else steps_within(steps, within)
        return convert_calls(convert, inner, names, keys, sides.config, taken, sides.sampled)

    return Ruled(calls(""), part, or_none(lambda: calls(part)) if part else None)


def _inside(journey: Journey, part: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return names_within(journey.renamed, part), names_within(journey.targets, part)


def _heading(name: str, sides: Sides) -> str:
    count = counted_keys(len(sides.journey.keys), sides.sampled)
    return f"Conversion mapping of {name}: checked on {count}, loaded and saved by transformers."


# -- which part of the model a rule belongs to -------------------------------------------------------------------------


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
