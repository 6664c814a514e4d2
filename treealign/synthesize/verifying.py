"""A mapping run on the keys it was made for: what it does wrong, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.synthesize.result import Conversion
from treealign.synthesize.task import Task
from treealign.tree.fold import fold_names

_MOST_SPLIT = 3000  # keys that come out of conversions on the way back

Mapped: TypeAlias = Mapping[str, tuple[str, ...]]


def verify(mapping: ConversionMapping, task: Task) -> tuple[str, ...]:
    """Findings; empty where every match is made and undone and the model's own names pass unchanged.

    On the way back each key that a conversion makes goes through all renamings by itself, so of very many only samples
    of each template are run.
    """
    undone: Sequence[Conversion] = task.conversions
    if sum(len(x.checkpoint) for x in undone) > _MOST_SPLIT:
        undone = [x for t in task.converted for x in t.samples]
    matched = [*(m for _, m in task.pairs), *(m for x in undone for m in x.model)]
    # a tree is folded already; keys without a match might not find their way back, and need not
    keys = task.model if len(matched) == len(task.model) else matched
    return (
        *_check("forward", lambda: mapping.map_keys(task.checkpoint), lambda found: _not_made(found, task)),
        *_check("in reverse", lambda: mapping.reverse.map_keys(keys), lambda found: _not_undone(found, task, undone)),
        *_check("on the model's own names", lambda: mapping.map_keys(task.model), lambda found: _changed(found, task)),
    )


def _check(words: str, run: Callable[[], Mapped], wrong: Callable[[Mapped], Iterator[str]]) -> list[str]:
    try:
        keys = list(wrong(run()))
    except MappingError as error:
        return [f"{words}: {error}"]
    return [f"{words}, these keys go astray: {', '.join(fold_names(keys, 5))}"] if keys else []


def _not_made(found: Mapped, task: Task) -> Iterator[str]:
    yield from (c for c, m in task.pairs if found[c] != (m,))
    yield from (c for x in task.conversions for c in x.checkpoint if found[c] != x.model)
    matched = {c for c, _ in task.pairs} | {c for x in task.conversions for c in x.checkpoint}
    for key, targets in found.items():
        if key not in matched and targets != (key,) and any(target in task.model for target in targets):
            yield key  # what belongs to nothing must not fill what nothing fills


def _not_undone(found: Mapped, task: Task, undone: Sequence[Conversion]) -> Iterator[str]:
    yield from (m for c, m in task.pairs if found[m] != (c,))
    yield from (m for x in undone for m in x.model if found[m] != x.checkpoint)


def _changed(found: Mapped, task: Task) -> Iterator[str]:
    """The model's names that change, unless a swap makes them look like the checkpoint's."""
    changed = [key for key, targets in found.items() if targets != (key,)]
    if changed and not _has_cycle(dict(task.pairs)):
        yield from changed


def _has_cycle(forward: Mapping[str, str]) -> bool:
    """Whether some keys only trade places."""
    done: set[str] = set()
    for start in forward:
        key, way = start, []
        while key not in done and forward.get(key, key) != key:
            done.add(key)
            way.append(key)
            key = forward[key]
        if key in way:
            return True
    return False
