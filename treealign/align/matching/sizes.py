"""Containers known by how much they hold: fusing, splitting, turning and reshaping leave the number of elements alone.

An attention that is fused on one side and not on the other has no leaf in common with itself, yet as many numbers. So
where two modules correspond, those of their children that hold as many numbers, and as no sibling does, go to one
another, and their leaves with them. This ranks; it settles nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from math import prod

import numpy as np

from treealign.align.knowledge.weights import SIZED
from treealign.align.matching.assignment import Assignment
from treealign.align.matching.scoring import Floats, Side

LEAST = 2  # matches by which two modules are taken to correspond, leaves by which one is a container
Path = tuple[str, ...]


def of_equal_size(left: Side, right: Side, assignment: Assignment, _: object = None) -> Floats | None:
    """What sizes of containers add to the scores of pairs, (left, right); None where they tell nothing new.

    Parameters
    ----------
    left, right : Side
        Checkpoint and model.
    assignment : Assignment
        The matches so far: they tell which modules correspond.

    """
    children = _children(left), _children(right)
    votes: dict[Path, Counter[Path]] = defaultdict(Counter)
    for i, j in assignment.pairs.items():
        a, b = left.patterns[i].segments, right.patterns[j].segments
        for n in range(1, len(a)):
            if a[:n] in children[0]:
                votes[a[:n]].update(b[:m] for m in range(1, len(b)) if b[:m] in children[1])
    table: Floats = np.zeros(assignment.given.free, np.float32)
    for parent, found in votes.items():
        if not found:
            continue
        other, count = max(found.items(), key=lambda item: (item[1], len(item[0]), item[0]))
        if count >= LEAST:
            _add(table, (left, right), (parent, other), children)
    torn = any(table[i, j] < 0 for i, j in assignment.pairs.items() if i < table.shape[0] and j < table.shape[1])
    return table if torn else None


def _add(
    table: Floats,
    sides: tuple[Side, Side],
    parents: tuple[Path, Path],
    children: tuple[dict[Path, set[Path]], dict[Path, set[Path]]],
) -> None:
    sizes = [
        {child: _size(side, child) for child in known[parent]}
        for side, parent, known in zip(sides, parents, children, strict=True)
    ]
    counts = [Counter(found.values()) for found in sizes]
    here, there = ({size: child for child, size in found.items()} for found in sizes)
    alone = [size for size in here.keys() & there.keys() if size and counts[0][size] == counts[1][size] == 1]
    rows, columns = (
        [at for at in side.below[path] if at < n] for side, path, n in zip(sides, parents, table.shape, strict=True)
    )
    labels = np.zeros(table.shape[0], np.int64), np.zeros(table.shape[1], np.int64)
    for number, size in enumerate(sorted(alone), 1):
        inside = sides[0].below[here[size]], sides[1].below[there[size]]
        if min(map(len, inside)) >= LEAST:
            for label, some in zip(labels, inside, strict=True):
                label[[at for at in some if at < len(label)]] = number
    table[np.ix_(rows, columns)] -= SIZED * (labels[0][rows][:, None] != labels[1][columns][None, :])


def _children(side: Side) -> dict[Path, set[Path]]:
    """The modules that hold two or more others, with these."""
    found: dict[Path, set[Path]] = defaultdict(set)
    for p in side.patterns:
        for n in range(1, len(p.segments) - 1):
            found[p.segments[:n]].add(p.segments[: n + 1])
    return {path: inside for path, inside in found.items() if len(inside) > 1}


def _size(side: Side, path: Path) -> int:
    """How many numbers a container holds, counters aside."""
    counts = (Counter(side.patterns[at].shapes.values()) for at in side.below[path])
    return sum(n * prod(shape) for count in counts for shape, n in count.items() if shape)
