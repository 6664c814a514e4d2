"""Folded names with their ranges: ``layers.{0..31}.self_attn``, and the ends that two names do not share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from treealign.mapping.folded import Rows, State
from treealign.tree.fold import ranges
from treealign.tree.segments import Name, Segment, Slot

_SEGMENT = re.compile(r"(?:\{[^{}]*\}|[^.{}])+")
_LIMITS = re.compile(r":[^{}]*\}")
Numbers = dict[int, set[int]]


def edited(state: State) -> Iterator[tuple[Name, Name]]:
    """What a folded name was and became, without the last segments that stayed; a whole module where one did."""
    for name in state.names:
        mine, other = list(state.source), list(name)
        while mine and other and mine[-1] == other[-1]:
            last = mine.pop()
            other.pop()
            if not mine or not other:  # a level at the root: shown with what stands below it
                mine.append(last)
                other.append(last)
                break
        yield tuple(mine), tuple(other)


def written(pair: tuple[Name, Name], rows: Iterable[Rows]) -> tuple[str, str]:
    """Both names of a pair as text, with the indices of all rows."""
    numbers: Numbers = {}
    for part in rows:
        for column, values in enumerate(zip(*part.indices, strict=True)):
            numbers.setdefault(column, set()).update(map(int, set(values)))
    old, new = (".".join(_segment(segment, numbers) for segment in name) for name in pair)
    return old, new


def _segment(segment: Segment, numbers: Numbers) -> str:
    if isinstance(segment, str):
        return segment
    return "".join(part if isinstance(part, str) else _slot(part, numbers) for part in segment)


def _slot(slot: Slot, numbers: Numbers) -> str:
    return ranges(sorted(value + slot.shift for value in numbers[slot.column]))


def without_common_ends(source: str, target: str) -> tuple[list[str], list[str], list[str], list[str]]:
    """(common start, rest of the source, rest of the target, common end) of two key patterns, in segments."""
    mine, other = _segments(source), _segments(target)
    head = _shared(mine, other)
    mine, other = mine[head:], other[head:]
    tail = _shared(mine[::-1], other[::-1])
    ends = (mine[: len(mine) - tail], other[: len(other) - tail])
    return _segments(source)[:head], *ends, mine[len(mine) - tail :]


def _segments(pattern: str) -> list[str]:
    return _SEGMENT.findall(pattern.removeprefix("**.").removesuffix("$"))


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many segments agree from the start, limits of captures aside: they stand on one side only."""
    same = takewhile(lambda pair: _LIMITS.sub("}", pair[0]) == _LIMITS.sub("}", pair[1]), zip(one, other, strict=False))
    return sum(1 for _ in same)
