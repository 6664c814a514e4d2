"""Whether a checkpoint was converted already: what its names, its files and its shapes say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from treealign.checkpoint.conversion.marks import Mark, mark_of, marks_of
from treealign.checkpoint.sources import Source
from treealign.errors import MappingError, UndecidedError
from treealign.mapping.conversion_mapping import ConversionMapping, Converted
from treealign.mapping.guards import GuardDecision, Verdict, decide
from treealign.mapping.operations import output_shapes
from treealign.mapping.planning import Step
from treealign.mapping.repeating import CONVERTED_HINT, kind_of, not_repeating
from treealign.mapping.transforms import PrefixChange
from treealign.tree.fold import fold_names
from treealign.tree.keytree import KeyTree


def says_converted(source: Source, mapping: ConversionMapping, reverse: bool) -> bool:
    """Whether the files say that this conversion made them.

    Raises
    ------
    UndecidedError
        Some of them say so, and others do not.
    """
    wanted = mark_of(mapping, reverse)
    marks = marks_of(source.layout)
    if marks is None:
        raise UndecidedError(
            "some of the files say that they were converted, and others do not", where=source.path, hint=CONVERTED_HINT
        )
    return wanted in marks and wanted.undone not in marks[marks.index(wanted) :]


def levels_decided(
    transforms: ConversionMapping, keys: KeyTree, decision: GuardDecision, where: str, *, told: bool
) -> GuardDecision:
    """The decision, with what the keys say of levels that are added without a guard.

    Where keys of one kind stand with the level and without it, somebody has added it to a part of them: those that have
    it stay. Where all of them have it, they do not say whether they are to have it once more.

    Parameters
    ----------
    transforms, keys, decision, where
        What is to be done, to what, what was decided about guards, and the checkpoint, for the error.
    told : bool
        Whether the files say that they were not converted.

    Raises
    ------
    UndecidedError
        The keys do not say.
    """
    decided = list(decision.decided)
    for at, transform in enumerate(transforms):
        if decided[at] is Verdict.APPLY and isinstance(transform, PrefixChange) and transform.add is not None:
            names = [tuple(name.split(".")) for name in _before(transforms, at, keys, decided)]
            here = [name for name in names if transform.rewrite(name) is not None]
            have = [name for name in here if transform.has_levels(name)]
            lack = {kind_of(".".join(name)) for name in here} - {kind_of(".".join(name)) for name in have}
            if not transform.guarded and have and len(have) == len(here) and not told:
                raise UndecidedError(
                    "these keys do not say whether they were converted already",
                    where=where,
                    facts=[f"{transform!r} adds what stands there", *fold_names(map(".".join, have), limit=5)],
                    hint=CONVERTED_HINT,
                )
            bare = {kind_of(".".join(_without(transform, name))) for name in have}
            if bare & lack:
                decided[at] = Verdict.APPLY_WHERE_ABSENT
    return GuardDecision(tuple(decided))


def _before(transforms: ConversionMapping, at: int, keys: KeyTree, decided: Sequence[object]) -> Iterator[str]:
    """The names of all keys when a transform takes its turn."""
    first = ConversionMapping(tuple(transforms)[:at])
    if not at:
        return iter(keys.keys)
    made = first.map_keys(keys, GuardDecision(tuple(decided[:at])))  # type: ignore[arg-type]  # the first of them
    return (name for names in made.values() for name in names)


def _without(transform: PrefixChange, name: tuple[str, ...]) -> tuple[str, ...]:
    found = transform.inverse.rewrite(name)
    return name if found is None else tuple(map(str, found.names[0]))


def decided_steps(
    transforms: ConversionMapping, keys: KeyTree, converted: Converted, where: str, *, told: bool = False
) -> tuple[GuardDecision, tuple[Step, ...]]:
    """What is to be done to keys, none of it a second time, and what was decided about guards.

    Parameters
    ----------
    transforms, keys, converted, where
        What is to be done, to what, what is known of it, and the checkpoint, for errors.
    told : bool
        Whether the files say that they were not converted.

    Raises
    ------
    UndecidedError
        The keys do not say whether they were converted.
    MappingError
        Keys that a `Convert` needs are absent.
    """
    decision = transforms.decide(keys, converted)
    if converted is None:
        decision = levels_decided(transforms, keys, decision, where, told=told)
    known = False if converted is None and told else converted
    steps = not_repeating(transforms, transforms.plan(keys, decision), known, where)
    refuse_incomplete(steps)
    return decision, steps


def refuse_incomplete(steps: Sequence[Step]) -> None:
    """Refuse steps that lack keys, all of them in one message.

    Raises
    ------
    MappingError
        Naming the absent keys, and what was to be made of them.
    """
    lacking = [step for step in steps if step.absent]
    if lacking:
        absent = fold_names([key for step in lacking for key in step.absent])
        wanted = fold_names([key for step in lacking for key in step.targets], limit=5)
        raise MappingError(
            "conversions lack keys that the checkpoint does not have",
            facts=[*(f"absent: {key}" for key in absent), *(f"for: {key}" for key in wanted)],
            hint="is the checkpoint complete, and was the mapping made for it?",
        )


def refuse_idle(transforms: ConversionMapping, steps: Sequence[Step], keys: KeyTree, source: Source) -> None:
    """Refuse a mapping that touches no key, of a checkpoint that does not look converted either.

    Raises
    ------
    MappingError
        Naming some of both.
    """
    if not len(transforms) or any(step.transforms for step in steps):
        return
    # what a guard holds back was done already; what the way back would touch looks converted
    if _touches(transforms, keys) or _touches(transforms.reverse, keys):
        return
    facts = [*(f"the mapping has {transform!r}" for transform in tuple(transforms)[:3])]
    raise MappingError(
        "the mapping touches no key of this checkpoint: nothing was written",
        where=source.path,
        facts=[*facts, *(f"the checkpoint has {name}" for name in fold_names(keys.keys, limit=3))],
        hint="was the mapping made for another checkpoint, or for the other direction?",
    )


def _touches(transforms: ConversionMapping, keys: KeyTree) -> bool:
    try:
        return any(step.transforms for step in transforms.plan(keys, decide(tuple(transforms), keys.folds, False)))
    except MappingError:
        return True


def refuse_unsaid(steps: Sequence[Step], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Refuse a conversion after which there are the same names of the same shapes, if nothing else tells of it.

    Tensors that are turned in place, or that exchange their names, may have been so already.

    Raises
    ------
    UndecidedError
        Naming them.
    """
    changed = [step for step in steps if step.operations or step.sources != step.targets]
    sources = {key for step in changed for key in step.sources}
    if not changed or sources != {key for step in changed for key in step.targets}:
        return
    held = {key: shapes[key] for key in sources if key in shapes}
    if dict(_shapes_after(changed, held)) == held:
        raise UndecidedError(
            "neither names nor shapes say whether these tensors were converted already, and the file does not either",
            where=where,
            facts=fold_names(dict.fromkeys(key for step in changed for key in step.sources), limit=10),
            hint=CONVERTED_HINT,
        )


def _shapes_after(steps: Iterable[Step], held: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for step in steps:
        try:
            made = output_shapes(step.operations, [held[key] for key in step.sources])
        except (MappingError, KeyError):  # what does not fit is refused elsewhere; what has no shape is not there
            return
        yield from zip(step.targets, made, strict=True)


def needs_mark(transforms: ConversionMapping, made: Iterable[str]) -> bool:
    """Whether a second conversion would do something again, and not even ask."""
    keys = KeyTree.from_leaves([(key, None, None) for key in made], ordered=True)
    try:
        decision = levels_decided(transforms, keys, transforms.decide(keys), "", told=False)
        return any(step.transforms for step in transforms.plan(keys, decision))
    except MappingError:
        return False


def marks_after(source: Source, mark: Mark, *, needed: bool) -> tuple[Mark, ...]:
    """What the result of a conversion says, given what its files said before."""
    before = marks_of(source.layout) or ()
    if before and before[-1] == mark.undone:
        return before[:-1]
    return (*before, mark) if needed else before
