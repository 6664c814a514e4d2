"""Renamings name by name: each run of segments that changes, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from treealign.dialects.transformers.calls import Call, renaming
from treealign.dialects.transformers.pieces import (
    AFTER_DOT,
    AFTER_SEGMENT,
    BEFORE_DOT,
    BEFORE_SEGMENT,
    START,
    re_text,
)
from treealign.dialects.transformers.stages import Stage

MOST_RULES = 64


def one_by_one(stage: Stage) -> Iterator[tuple[Call, ...]]:
    """A rule for each different run of segments that changes, with more and more of what stands in front of it."""
    deepest = max((old.count(".") for old, _ in stage.changed), default=0)
    for following, kept in product((0, 1), range(deepest + 1)):
        runs = dict.fromkeys(_literal_run(old, new, kept, following) for old, new in stage.changed)
        ordered = _in_order([(old, new) for old, new, _ in runs])
        if ordered is None or len(runs) > MOST_RULES:
            continue
        starts = {(old, new): start for old, new, start in runs}
        for left, right in ((AFTER_DOT, BEFORE_DOT), (AFTER_DOT, ""), (AFTER_SEGMENT, BEFORE_SEGMENT)):
            marks = {pair: START if starts[pair] else left for pair in ordered}
            yield tuple(_literal(*pair, marks[pair], right) for pair in ordered)


def _literal_run(old: str, new: str, kept: int, following: int) -> tuple[str, str, bool]:
    """What differs between two names, with so many segments before and after, and whether it begins at the start."""
    left, right = old.split("."), new.split(".")
    head = shared_head(left, right)
    tail = min(shared_head(left[::-1], right[::-1]), len(left) - head - 1, len(right) - head - 1) - following
    begin = max(0, head - kept)
    stop = [len(side) - max(tail, 0) for side in (left, right)]
    return ".".join(left[begin : stop[0]]), ".".join(right[begin : stop[1]]), begin == 0


def shared_head(left: Sequence[object], right: Sequence[object]) -> int:
    """How many items two sequences begin with alike."""
    count = 0
    while count < min(len(left), len(right)) and left[count] == right[count]:
        count += 1
    return count


def _literal(old: str, new: str, left: str, right: str) -> Call:
    return renaming(f"{left}{re_text(old)}{right}", f"{left}{re_text(new)}{right}")


def _in_order(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]] | None:
    """An order in which no rule takes up what an earlier one made; None where there is none, as in a swap."""
    waiting, ordered = list(pairs), list[tuple[str, str]]()
    while waiting:
        sources = {old for old, _ in waiting}
        free = [pair for pair in waiting if pair[1] not in sources]
        if not free:
            return None
        ordered += free
        waiting = [pair for pair in waiting if pair not in free]
    return ordered
