"""Sets of keys as a few texts: ``layers.{0..31}.mlp.up_proj.weight`` stands for 32 keys, exactly those.

What a mapping says of a checkpoint with 92,000 keys is written so, and stays readable and small.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import prod
from typing import TypeAlias

from treealign.tree.fold import Fold, fold, ranges
from treealign.tree.keys import natural_key

Row: TypeAlias = tuple[int, ...]
# a doubled brace is one of the key's own; braces around numbers hold the values of an index
_PART = re.compile(r"(\{\{|\}\}|\{[0-9.,]+\})")


def fold_keys(keys: Iterable[str]) -> tuple[str, ...]:
    """A set of keys as patterns; `expand_keys` gives the same set. Their order is not kept.

    Notes
    -----
    Linear in the number of keys, but for sorting. Where the indices are no full combinations of ranges, there are as
    many patterns as it takes.

    >>> fold_keys(["layers.1.w", "layers.0.w", "layers.7.w", "head.w"])
    ('head.w', 'layers.{0..1,7}.w')
    """
    ordered = sorted(set(keys), key=natural_key)
    return tuple(text for one in fold(ordered) for text in _texts(one))


def _texts(one: Fold) -> Iterator[str]:
    if not one.indices[0]:
        yield one.template.replace("{", "{{").replace("}", "}}")
        return
    for box in _boxes([tuple(map(int, row)) for row in one.indices]):
        columns = iter(box)
        yield ".".join(ranges(next(columns)) if segment == "{}" else segment for segment in one.segments)


def _boxes(rows: Sequence[Row]) -> list[tuple[Row, ...]]:
    """Rows as combinations of columns: all at once where they are all of them, else by the first column."""
    columns = [tuple(sorted(set(column))) for column in zip(*rows, strict=True)]
    if prod(map(len, columns)) == len(rows):
        return [tuple(columns)]
    rests: dict[int, list[Row]] = {}
    for first, *rest in rows:
        rests.setdefault(first, []).append(tuple(rest))
    alike: dict[frozenset[Row], list[int]] = {}
    for first, found in rests.items():
        alike.setdefault(frozenset(found), []).append(first)
    return [(tuple(sorted(firsts)), *box) for rest, firsts in alike.items() for box in _boxes(sorted(rest))]


def expand_keys(patterns: Iterable[str]) -> Iterator[str]:
    """The keys of some patterns, one by one.

    Raises
    ------
    ValueError
        A text is no such pattern.

    >>> list(expand_keys(["head.w", "layers.{0..1,7}.w"]))
    ['head.w', 'layers.0.w', 'layers.1.w', 'layers.7.w']
    """
    for pattern in patterns:
        yield from map("".join, product(*map(_choices, _PART.split(pattern))))


def count_keys(patterns: Iterable[str]) -> int:
    """How many keys patterns stand for, without making them."""
    return sum(prod(len(_choices(part)) for part in _PART.split(pattern)) for pattern in patterns)


def _choices(part: str) -> Sequence[str]:
    if part in ("{{", "}}"):
        return part[0]
    if not part.startswith("{"):
        if "{" in part or "}" in part:
            raise ValueError(f"a brace stands alone in {part!r}")
        return (part,)
    return [str(value) for run in part[1:-1].split(",") for value in _run(run)]


def _run(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)
