"""Conversions that share lists, each taking the members of one tower: one conversion that gives all towers theirs.

transformers finds a list by one pattern and hands it to one converter, so that only together they can be said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from treealign.mapping.convert import Convert
from treealign.mapping.operations import Concat, Parallel, Reorder, Stack
from treealign.mapping.planning import Step

Conversion = tuple[Convert, tuple[Step, ...]]
_INDEX = re.compile(r"(\d+)(?=\.|$)")


_List = tuple[str, str]


class _Share(NamedTuple):
    """What one step takes of some lists: their names around the index, and which members."""

    lists: tuple[_List, ...]
    start: int
    length: int
    step: Step


def with_towers_together(conversions: Sequence[Conversion]) -> list[Conversion]:
    """The conversions, those that share out the same lists as one, at the place of the first."""
    table = joined_steps([step for _, steps in conversions for step in steps])
    placed: set[Step] = set()
    made: list[Conversion] = []
    for convert, steps in conversions:
        own = [step for step in dict.fromkeys(table.get(step, step) for step in steps) if step not in placed]
        placed.update(own)
        if own:
            made.append((convert, tuple(own)))
    return made


def joined_steps(steps: Sequence[Step]) -> dict[Step, Step]:
    """Each step that takes one tower's share of some lists, to the step that takes all of them."""
    shares: dict[tuple[_List, ...], list[_Share]] = {}
    for step in steps:
        share = _share(step)
        if share is not None:
            shares.setdefault(share.lists, []).append(share)
    table: dict[Step, Step] = {}
    for found in shares.values():
        found.sort(key=lambda share: share.start)
        if len(found) > 1 and _adjoin(found):
            table |= dict.fromkeys((share.step for share in found), _joined(found))
    return table


def _share(step: Step) -> _Share | None:
    """Runs of equal length from as many lists, stacked run by run and then joined."""
    stack, *joins = step.operations or (None,)
    several = isinstance(stack, Stack) and len(joins) == 1 and isinstance(joins[0], Concat) and len(step.targets) == 1
    if not several or not isinstance(stack, Stack):
        return None
    count = int(str(stack.count))
    runs = [step.sources[at : at + count] for at in range(0, len(step.sources), count)]
    found = [_run(run) for run in runs]
    starts = {start for each in found if each for _, start in [each]}
    lists = tuple(each[0] for each in found if each)
    alike = len(lists) == len(runs) and len(starts) == 1
    return _Share(lists, starts.pop(), count, step) if alike else None


def _run(names: Sequence[str]) -> tuple[tuple[str, str], int] | None:
    """The name of a list around the index that counts up along these names, and where it begins."""
    for index in reversed(list(_INDEX.finditer(names[0]))):
        before, after, start = names[0][: index.start()], names[0][index.end() :], int(index[0])
        if list(names) == [f"{before}{start + at}{after}" for at in range(len(names))]:
            return (before, after), start
    return None


def _adjoin(found: Sequence[_Share]) -> bool:
    """Whether the shares make up whole lists, by the same operations."""
    ends = [0, *(share.start + share.length for share in found)]
    kinds = {(getattr(share.step.operations[0], "dim", None), share.step.operations[1]) for share in found}
    return [share.start for share in found] == ends[:-1] and len(kinds) == 1


def _joined(found: Sequence[_Share]) -> Step:
    """All towers at once: lists in order, cut into runs and stacked, and what belongs to a tower joined."""
    steps, lists, towers = [share.step for share in found], len(found[0].lists), len(found)
    runs = [(part * s.length, s.length, s.step.sources) for part in range(lists) for s in found]
    sources = [name for start, length, names in runs for name in names[start : start + length]]
    stacks = [step.operations[0] for step in steps]
    order = Reorder(tuple(part * towers + tower for tower in range(towers) for part in range(lists)))
    first = stacks[0] if len(set(stacks)) == 1 else Parallel(tuple(stacks * lists))
    targets = tuple(target for step in steps for target in step.targets)
    return steps[0]._replace(sources=tuple(sources), targets=targets, operations=(first, order, steps[0].operations[1]))
