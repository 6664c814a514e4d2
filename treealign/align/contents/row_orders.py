"""How the rows of parts lie in a whole: one after another, taking turns, in another order within each part.

Everything here is about one dimension. A part is given as where each of its rows is found in the whole, -1 where that
is not known; an order that explains all known rows is the answer, and whoever asks compares the contents in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from math import gcd
from typing import NamedTuple

import numpy as np

from treealign.align.contents.fingerprints import Ints
from treealign.mapping.operations import (
    Concat,
    Deinterleave,
    Interleave,
    Join,
    Keep,
    Operation,
    RotaryPermute,
    Select,
)

LONGEST_LIST = 4096  # rows whose order may be written out one by one
LONGEST_TURNS = 1 << 16  # rows of one tensor in which turns are looked for
SMALLEST_HEAD, LARGEST_HEAD = 4, 512
PROBE = 64  # rows that are tried first


class RowOrder(NamedTuple):
    """Operations that make the whole of the parts.

    Attributes
    ----------
    order : tuple of int
        The parts in the order in which the operations take them.
    single : tuple of Operation
        What is done to each of them first, in that order; `Keep` for nothing.
    joint : tuple of Operation
        What is done to all of them.
    """

    order: tuple[int, ...]
    single: tuple[Operation, ...]
    joint: tuple[Operation, ...]


def row_order(places: Sequence[Ints], total: int, dims: tuple[int, int]) -> RowOrder | None:
    """The plainest way in which parts make a whole of `total` rows, or None.

    Parameters
    ----------
    places : sequence of array of int
        For each row of each part where it is in the whole.
    total : int
        Rows of the whole.
    dims : tuple of int
        The dimension of the rows in a part, and in the whole.
    """
    sizes = [len(p) for p in places]
    if sum(sizes) != total or any((p < 0).all() for p in places):
        return None
    for turns in _divisors(gcd(*sizes)) if len(sizes) > 1 else [1]:
        found = _taking_turns(places, total, dims, turns)
        if found is not None:
            return found
    return _listed(places, total, dims[1])


def _taking_turns(places: Sequence[Ints], total: int, dims: tuple[int, int], turns: int) -> RowOrder | None:
    blocks = [len(p) // turns for p in places]
    lone, dim = len(places) == 1, dims[1]
    fits: list[tuple[int, Operation]] = []
    for p, block in zip(places, blocks, strict=True):
        found = _fitting(p, block, total // turns, dims[0], lone)
        if found is None:
            return None
        fits.append(found)
    order = tuple(sorted(range(len(fits)), key=lambda n: fits[n][0]))
    if [fits[n][0] for n in order] != _starts([blocks[n] for n in order]):
        return None
    joint: tuple[Operation, ...] = ()
    if len(places) > 1:
        joint = (Concat(dim, tuple(len(places[n]) for n in order)),)
        joint += (Interleave(dim, tuple(blocks[n] for n in order)),) if turns > 1 else ()
    return RowOrder(order, tuple(fits[n][1] for n in order), joint)


def _starts(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:n]) for n in range(len(sizes))]


def _fitting(places: Ints, block: int, period: int, dim: int, lone: bool) -> tuple[int, Operation] | None:
    """Where a part's first block begins, and what brings its rows in order for that."""
    at = np.arange(len(places))
    expected = at // block * period + at % block
    start = _shift(places, expected)
    if start is not None:
        return start, Keep()
    for operation, first, whole in _reorders(len(places), dim, lone):
        if _shift(places[first], expected[: len(first)]) is not None:
            start = _shift(places[whole()], expected)
            if start is not None:
                return start, operation
        if _shift(places[: len(first)], expected[first]) is not None:
            start = _shift(places, expected[whole()])
            if start is not None:
                return start, operation.inverse
    return None


def _shift(places: Ints, expected: Ints) -> int | None:
    """By how much all known places are behind the expected ones."""
    known = places >= 0
    shifts = (places - expected)[known]
    return int(shifts[0]) if len(shifts) and shifts[0] >= 0 and (shifts == shifts[0]).all() else None


class _Reorder(NamedTuple):
    """An operation on the rows of one part, and which row it puts where: the first ones, and all."""

    operation: Operation
    first: Ints
    whole: Callable[[], Ints]


def _reorders(rows: int, dim: int, lone: bool) -> Iterator[_Reorder]:
    """Each stands for its inverse too."""
    if lone and rows <= LONGEST_TURNS:
        for size in _divisors(rows)[1:-1]:
            for blocks in _blocks(size):
                order = _deinterleaved(np.arange(rows), blocks)
                yield _Reorder(Deinterleave(dim, blocks), order[:PROBE], partial(_same, order))
    for head in () if dim else _divisors(rows):
        if not SMALLEST_HEAD <= head <= LARGEST_HEAD or head % 2:
            continue
        for start, turned in _turned_rows(head):
            numbers = (rows // head, head, None if turned == head else turned, start)
            within = _half_split(head, start, turned)
            yield _Reorder(RotaryPermute(*numbers), within, partial(_by_head, rows, within))


def _same(order: Ints) -> Ints:
    return order


def _by_head(rows: int, within: Ints) -> Ints:
    order: Ints = (np.arange(0, rows, len(within))[:, None] + within).reshape(-1)
    return order


def _blocks(turn: int) -> Iterator[tuple[int, ...]]:
    """Ways to divide a turn: q, k, v of a head; gate and up; several q for one k and v."""
    for parts in (2, 3, 4):
        if turn % parts == 0:
            yield (turn // parts,) * parts
    for queries in range(2, 17):
        if turn % (queries + 2) == 0:
            one = turn // (queries + 2)
            yield queries * one, one, one


def _deinterleaved(numbers: Ints, blocks: tuple[int, ...]) -> Ints:
    turns = numbers.reshape(-1, sum(blocks))
    cuts = np.cumsum(blocks)[:-1]
    return np.concatenate([part.reshape(-1) for part in np.split(turns, cuts, axis=1)])


def _turned_rows(head: int) -> list[tuple[int, int]]:
    """Which rows of a head may be turned: all of them, or some at its beginning or end."""
    some = [n for n in range(SMALLEST_HEAD, head, 2) if n % 8 == 0 or head <= 2 * SMALLEST_HEAD or 4 * n == head]
    return [(0, head), *((0, n) for n in some), *((head - n, n) for n in some)]


@lru_cache(maxsize=4096)
def _half_split(head: int, start: int, turned: int) -> Ints:
    """From pairs side by side to halves: which row of a head each takes."""
    within = np.arange(head)
    within[start : start + turned] = start + np.r_[0:turned:2, 1:turned:2]
    return within


def _listed(places: Sequence[Ints], total: int, dim: int) -> RowOrder | None:
    """Every row written out, where they are few and all are known."""
    rows = np.concatenate(list(places))
    if total > LONGEST_LIST or not np.array_equal(np.sort(rows), np.arange(total)):
        return None
    kept = (Keep(),) * len(places)
    if len(places) > 1:
        return RowOrder(tuple(range(len(places))), kept, (Join(dim, tuple(tuple(map(int, p)) for p in places)),))
    return RowOrder((0,), kept, (Select(dim, (tuple(map(int, np.argsort(places[0]))),)),))


@lru_cache(maxsize=256)
def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
