"""A mapping run on the keys it was made for: what it does wrong, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.synthesize.result import Conversion
from treealign.synthesize.task import Task
from treealign.tree.fold import fold_names
from treealign.tree.keytree import KeyTree

_MOST_SPLIT = 3000  # keys that come out of conversions on the way back


def verify(mapping: ConversionMapping, task: Task) -> tuple[str, ...]:
    """Findings; empty where every match is made and undone and the model's own names pass unchanged.

    On the way back each key that a conversion makes goes through all renamings by itself, so of very many only samples
    of each template are run.
    """
    forward = {c: (m,) for c, m in task.pairs} | {c: x.model for x in task.conversions for c in x.checkpoint}
    undone: Sequence[Conversion] = task.conversions
    if sum(len(x.checkpoint) for x in undone) > _MOST_SPLIT:
        undone = [x for t in task.converted for x in t.samples]
    backward = {m: (c,) for c, m in task.pairs} | {m: x.checkpoint for x in undone for m in x.model}
    findings: list[str] = []
    findings += _differences("forward", forward, lambda: mapping.map_keys(task.checkpoint))
    # a tree is folded already; keys without a match might not find their way back, and need not
    keys = task.model if len(backward) == len(task.model) else backward
    findings += _differences("in reverse", backward, lambda: mapping.reverse.map_keys(keys))
    return tuple(findings or _own_names(mapping, forward, task.model))


def _differences(
    words: str, wanted: Mapping[str, tuple[str, ...]], run: Callable[[], Mapping[str, tuple[str, ...]]]
) -> list[str]:
    try:
        found = run()
    except MappingError as error:
        return [f"{words}: {error}"]
    wrong = [key for key, targets in wanted.items() if found[key] != targets]
    return [f"{words}, these keys go astray: {', '.join(fold_names(wrong, 5))}"] if wrong else []


def _own_names(mapping: ConversionMapping, forward: Mapping[str, tuple[str, ...]], model: KeyTree) -> list[str]:
    """The model's names that the mapping changes, unless a swap makes them look like the checkpoint's."""
    try:
        found = mapping.map_keys(model)
    except MappingError as error:
        return [f"on the model's own names: {error}"]
    changed = [key for key, targets in found.items() if targets != (key,)]
    if changed and not _has_cycle(forward):
        return [f"the model's own names change: {', '.join(fold_names(changed, 5))}"]
    return []


def _has_cycle(forward: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether some keys only trade places."""
    done: set[str] = set()
    for key, targets in forward.items():
        way: list[str] = []
        while key not in done and len(targets) == 1 and targets != (key,):
            done.add(key)
            way.append(key)
            key = targets[0]  # noqa: PLW2901  following the chain
            targets = forward.get(key, ())  # noqa: PLW2901
        if key in way:
            return True
    return False
