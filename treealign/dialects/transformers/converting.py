"""Conversions as transformers takes them: patterns derived from the keys, run on all names, forward and reverse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from treealign.dialects.transformers.entries import Call, converter
from treealign.dialects.transformers.operations import write_operations
from treealign.dialects.transformers.pieces import (
    AFTER_DOT,
    AFTER_SEGMENT,
    BEFORE_SEGMENT,
    MOST_RULES,
    START,
    re_text,
    shared_head,
)
from treealign.dialects.transformers.stages import KEYS, elsewhere
from treealign.errors import MappingError
from treealign.mapping.convert import Convert
from treealign.mapping.operations import Operation, Parallel, Stack
from treealign.mapping.planning import Step


class Shape(NamedTuple):
    """What a converter says: patterns on both sides, and the operations between them.

    `start` says that the patterns begin where keys begin.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    operations: tuple[Operation, ...]
    start: bool


def convert_calls(
    convert: Convert,
    steps: Sequence[Step],
    names: Sequence[str],
    model_keys: Sequence[str],
    config: Any = None,
    taken: Iterable[Call] = (),
    sampled: bool = False,
) -> tuple[Call, ...]:
    """The converters for one conversion.

    Parameters
    ----------
    convert : Convert
        For messages.
    steps : sequence of Step
        Its groups, under the names that renaming gave their keys.
    names, model_keys : sequence of str
        All names after renaming, and all keys of the model that are filled: none but those of the groups may match.
    config : optional
        The model's config.
    taken : iterable of Call
        The converters so far: transformers knows a converter by its patterns, whatever its scope, so that two must not
        share one.
    sampled : bool
        The names are made up: only converters that do the same to any others are taken.

    Raises
    ------
    MappingError
        transformers cannot do it, or cannot undo it.
    """
    failure, tried = "", [(steps, names, model_keys), *([elsewhere(convert, steps)] if sampled else [])]
    before, said = tuple(taken), Said(_own_context(convert), _says_ends(convert, steps))
    for calls in sorted(_candidates(steps, config, said), key=len):
        if _share_patterns([*before, *calls]):
            continue
        failure = next(filter(None, (_first_difference(calls, *each) for each in tried)), "")
        if not failure:
            return calls
    raise MappingError(
        f"transformers has no converter that does this and undoes it{', whatever the keys' if sampled else ''}",
        facts=[repr(convert), *([f"  {failure}"] if failure else [])],
        hint=KEYS if sampled else "treealign's own load and save do it",
    )


def _share_patterns(calls: Sequence[Call]) -> bool:
    for side in ("source_patterns", "target_patterns"):
        held = [dict(call.arguments)[side] for call in calls]
        patterns = [p for each in held for p in (each if isinstance(each, tuple) else (each,))]
        if len(set(patterns)) < len(patterns):
            return True
    return False


def _own_context(convert: Convert) -> int:
    """How many segments the patterns share in front, down from their last capture."""
    runs = [pattern.segments for side in convert._patterns for pattern in side]
    shared = runs[0][: shared_head(*runs)]
    return next((n for n, s in enumerate(reversed(shared)) if s.literal is None), len(shared))


class Said(NamedTuple):
    """What the transform's own patterns say, which those of converters keep for their readers.

    Attributes
    ----------
    context : int
        How many segments they share in front.
    ends : bool
        They hold the ends of the keys.
    """

    context: int
    ends: bool


def _says_ends(convert: Convert, steps: Sequence[Step]) -> bool:
    lasts = {key.rpartition(".")[2] for step in steps for key in step.sources}
    patterns = [pattern.segments[-1].literal for pattern in convert._patterns[0]]
    return lasts == set(patterns)


def _candidates(steps: Sequence[Step], config: Any, said: Said) -> Iterator[tuple[Call, ...]]:
    """With more and more segments in front; with and without the module that holds all groups as scope.

    What all keys of a group end with is left out at first, so that one rule does for weights and biases, and put in
    where others end otherwise.
    """
    heads = [_parts(step, whole=False).head for step in steps]
    module = heads[0][: shared_head(*heads)]
    lists = (True, False) if any(_lists(step.operations) for step in steps) else (True,)
    ends, most = (True, False) if said.ends else (False, True), max(map(len, heads))
    for kept, whole, starred in product(range(min(said.context, most), most + 1), ends, lists):
        shapes = _shapes(steps, kept, whole, starred)
        for left, star in product((AFTER_DOT, AFTER_SEGMENT), _stars(shapes)):
            calls = _alike([_call(shape, left, star, config) for shape in shapes])
            if len(calls) > MOST_RULES:
                return
            yield calls
            if module and kept <= min(map(len, heads)) - len(module):
                yield tuple(call.scoped(".".join(module)) for call in calls)


class _Parts(NamedTuple):
    head: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]
    targets: tuple[tuple[str, ...], ...]


def _parts(step: Step, whole: bool) -> _Parts:
    """The segments that all keys of a group begin with, and what follows them, with or without what all end with."""
    sides = [[tuple(key.split(".")) for key in keys] for keys in (step.sources, step.targets)]
    every = [*sides[0], *sides[1]]
    head = shared_head(*every)
    ends = [name[head:] for name in every]
    tail = min(shared_head(*(end[::-1] for end in ends)), min(len(end) for end in ends) - 1)
    if tail < 0:  # one name begins as all do and ends there
        head, tail = head + tail, 0
    tail *= not whole
    cut = [[name[head : len(name) - tail] for name in side] for side in sides]
    return _Parts(every[0][:head], tuple(cut[0]), tuple(cut[1]))


def _lists(operations: Sequence[Operation]) -> bool:
    """Whether all they do is stack one list."""
    return len(operations) == 1 and isinstance(operations[0], Stack)


def _shapes(steps: Sequence[Step], kept: int, whole: bool, starred: bool) -> list[Shape]:
    """The different shapes of the groups, with `kept` segments of what their keys share in front.

    `starred`: one pattern stands for a list that counts from 0; otherwise each member has its own.
    """
    found: dict[Shape, None] = {}
    for step in steps:
        head, sources, targets = _parts(step, whole)
        before = head[max(0, len(head) - kept) :]
        old, new = (_patterns(before, side) for side in (sources, targets))
        if starred and any(_is(operation, Stack) for operation in step.operations):
            old = _starred(old)
        patterns = tuple(map(".".join, old)), tuple(map(".".join, new))
        found[Shape(*patterns, step.operations, kept >= len(head))] = None
    return list(found)


def _is(operation: Operation, kind: type[Operation]) -> bool:
    """Whether it is one of these, or several of them side by side."""
    parts = operation.operations if isinstance(operation, Parallel) else (operation,)
    return all(isinstance(part, kind) for part in parts)


def _alike(calls: Sequence[Call]) -> tuple[Call, ...]:
    """Converters with the same patterns count once; of equal and unequal parts, what does for unequal ones."""
    found: dict[Any, Call] = {}
    for call in calls:
        patterns, held = dict(call.arguments)["source_patterns"], found.get(dict(call.arguments)["source_patterns"])
        if held is None or "Split" in call.names():
            found[patterns] = call
    return tuple(found.values())


def _patterns(before: tuple[str, ...], names: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [(*before, *name) for name in names]


def _starred(names: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """One pattern for names that count from 0 in one place, the others as they are."""
    waiting, found = list(names), list[tuple[str, ...]]()
    while waiting:
        pattern, count = _series(waiting) or (waiting[0], 1)
        found.append(pattern)
        waiting = waiting[count:]
    return found


def _series(names: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], int] | None:
    """The pattern of the names in front that count from 0, and how many they are."""
    first = names[0]
    for at, segment in enumerate(first):
        text = segment.rstrip("0123456789")
        if segment[len(text) :] != "0" or at == len(first) - 1:
            continue
        count = 0
        while count < len(names) and names[count] == (*first[:at], f"{text}{count}", *first[at + 1 :]):
            count += 1
        if count > 1:
            return (*first[:at], f"{text}*", *first[at + 1 :]), count
    return None


def _stars(shapes: Sequence[Shape]) -> tuple[str, ...]:
    """How an index that counts may be written: not every release takes a dot that is escaped in front of it."""
    counted = any("*" in text for shape in shapes for text in (*shape.sources, *shape.targets))
    return (r"\.*.", ".*.") if counted else ("",)


def _call(shape: Shape, left: str, star: str, config: Any) -> Call:
    made = write_operations(shape.operations, shape.sources, shape.targets, config)
    mark = START if shape.start else left
    right = BEFORE_SEGMENT if any(not text[-1].isalnum() for text in (*shape.sources, *shape.targets)) else ""
    sides = ([f"{mark}{_text(text, star)}{right}" for text in side] for side in (shape.sources, shape.targets))
    sources, targets = sides
    return converter([sources[at] for at in made.sources], [targets[at] for at in made.targets], made.calls)


def _text(pattern: str, star: str) -> str:
    """Escaped but for the ``*.`` that counts; `star` stands for a whole segment of it, with the dots around."""
    whole = ("*.".join(map(re_text, piece.split("*."))) for piece in pattern.split(".*."))
    return star.join(whole)


def _first_difference(
    calls: Sequence[Call], steps: Sequence[Step], names: Sequence[str], model_keys: Sequence[str]
) -> str:
    try:
        rules = [call.build() for call in calls]
    except MappingError as error:
        return error.what
    firsts = {key: set(step.targets) for step in steps for key in step.sources}
    wrong = _difference(rules, names, firsts, "loading")
    if wrong:
        return wrong
    sources = {key: set(step.sources) for step in steps for key in step.targets}
    return _difference([rule.reverse_transform() for rule in reversed(rules)], model_keys, sources, "saving")


def _difference(rules: Sequence[Any], names: Sequence[str], wanted: dict[str, set[str]], doing: str) -> str:
    for name in sorted(names, key=lambda name: name not in wanted):
        made, pattern = name, None
        for rule in rules:
            made, pattern = rule.rename_source_key(name)
            if pattern is not None:
                break
        if (pattern is not None) != (name in wanted):
            return f"{doing} would {'touch' if pattern is not None else 'not touch'} {name}"
        if pattern is not None and not _is_one_of(made, wanted[name]):
            return f"{doing} would make {made} of {name}"
    return ""


def _is_one_of(made: str, wanted: set[str]) -> bool:
    """Whether a name, in which ``*`` counts, is one of those wanted."""
    return made in wanted or ("*" in made and made.replace("*", "0", 1) in wanted)
