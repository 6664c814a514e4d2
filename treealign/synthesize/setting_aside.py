"""What cannot be written as transforms, set aside, so that it costs nothing but itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from treealign.errors import MappingError, PatternError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.operations import Operation
from treealign.mapping.transforms import Convert
from treealign.synthesize.result import Conversion
from treealign.synthesize.task import Task

_INDEX = re.compile(r"[0-9]+")

Kind: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]  # the names of a match, digits left out


def fewest(task: Task) -> set[Kind]:
    """The kind of match that has the fewest keys."""
    sizes = Counter(kinds_of(task))
    return {min(sizes, key=lambda k: (sizes[k], k))} if sizes else set()


def unwritable(task: Task) -> set[Kind]:
    """The kinds of conversion whose operations do not lead from so many keys to so many, whatever their names."""
    numbers = {_shape(c): c for c in task.conversions}
    refused = {shape for shape, c in numbers.items() if not _is_writable(c)}
    if not refused:
        return set()
    return {_kind(c.checkpoint, c.model) for c in task.conversions if _shape(c) in refused}


def _shape(c: Conversion) -> tuple[int, int, tuple[Operation, ...]]:
    return len(c.checkpoint), len(c.model), tuple(c.operations)


def _is_writable(c: Conversion) -> bool:
    old, new = ([f"{side}{n}" for n in range(len(keys))] for side, keys in (("a", c.checkpoint), ("b", c.model)))
    try:
        Convert(old, new, c.operations)
    except PatternError:
        return False
    return True


def astray(mapping: ConversionMapping, task: Task) -> set[Kind]:
    """The kinds of match of which some key does not reach its partner and back, or takes another's place."""
    makers = {key: _kind(*match) for match in _matches(task) for key in match[1]}
    users = {key: _kind(*match) for match in _matches(task) for key in match[0]}
    wanted = {key: targets for sources, targets in _matches(task) for key in sources}
    forward, back = {key: _alone(mapping, key) for key in task.checkpoint.keys}, mapping.reverse
    found = {users[key] for key, targets in wanted.items() if forward[key] != targets}
    found |= {_kind(*match) for match in _matches(task) if any(_alone(back, key) != match[0] for key in match[1])}
    for key, reached in forward.items():
        found |= {makers[target] for target in reached or () if target in makers and target not in wanted.get(key, ())}
    changed = [key for key in task.model.keys if key in users and _is_changed(mapping, key)]
    return found | {users[key] for key in changed}


def _is_changed(mapping: ConversionMapping, key: str) -> bool:
    try:
        return mapping.map_keys([key])[key] != (key,)
    except MappingError:
        return True


def without(task: Task, kinds: set[Kind]) -> tuple[Task, tuple[str, ...]]:
    """The task without matches of these kinds, and what is lost, in words."""
    if not kinds:
        return task, ()
    pairs = [pair for pair in task.pairs if _kind(*((key,) for key in pair)) not in kinds]
    conversions = [c for c in task.conversions if _kind(c.checkpoint, c.model) not in kinds]
    kept = {key for key, _ in pairs} | {key for c in conversions for key in c.checkpoint}
    lost = [key for sources, _ in _matches(task) for key in sources if key not in kept]
    return Task(pairs, conversions, task.checkpoint, task.model), tuple(lost)


def _matches(task: Task) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    yield from (((c,), (m,)) for c, m in task.pairs)
    yield from ((c.checkpoint, c.model) for c in task.conversions)


def kinds_of(task: Task) -> Iterator[Kind]:
    """The kind of each match."""
    yield from (_kind(*match) for match in _matches(task))


def _kind(sources: Sequence[str], targets: Sequence[str]) -> Kind:
    left, right = (tuple(dict.fromkeys(_INDEX.sub("#", key) for key in side)) for side in (sources, targets))
    return left, right


def _alone(mapping: ConversionMapping, key: str) -> tuple[str, ...] | None:
    """What a key becomes by itself; None where the mapping says that it cannot tell."""
    try:
        return mapping.map_keys([key], converted=False)[key]
    except MappingError:
        return None
