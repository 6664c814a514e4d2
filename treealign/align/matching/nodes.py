"""Which nodes of two trees are known to correspond, by the leaves below them that certainly do."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from treealign.align.matching.numbered import Path, nodes_above

LEAVES = 2  # certain leaves by which a node is known: of a weight and a bias either may be the wrong one
Size = tuple[int, ...]


class Pair(NamedTuple):
    """Two leaves that correspond, by position."""

    left: int
    right: int


def by_module(paths: Sequence[Path]) -> dict[Path, list[int]]:
    """The leaves of each module, without those of the modules in it."""
    found = defaultdict(list)
    for at, path in enumerate(paths):
        found[path[:-1]].append(at)
    return found


def certain_below(certain: Sequence[Pair], paths: tuple[list[Path], ...]) -> tuple[dict[Path, set[Pair]], ...]:
    """What is certain below each node of either side."""
    known: tuple[dict[Path, set[Pair]], ...] = defaultdict(set), defaultdict(set)
    for side in (0, 1):
        for pair in certain:
            for node in nodes_above(paths[side][pair[side]]):
                known[side][node].add(pair)
    return known


def known_nodes(
    known: tuple[dict[Path, set[Pair]], ...], paths: tuple[list[Path], ...], sizes: tuple[list[Size], ...]
) -> dict[Path, list[Path]]:
    """Nodes of the checkpoint with those of the model that are known to be the same, by what is certain below both."""
    held: tuple[dict[Path, Counter[Size]], dict[Path, Counter[Size]]] = defaultdict(Counter), defaultdict(Counter)
    for side in (0, 1):
        for at, path in enumerate(paths[side]):
            for node in nodes_above(path):
                held[side][node][sizes[side][at]] += 1
    there: dict[frozenset[Pair], list[Path]] = defaultdict(list)
    for node, pairs in known[1].items():
        there[frozenset(pairs)].append(node)
    matrices = {pair for pair in known[0].get((), ()) if len(sizes[0][pair.left]) > 1}
    return {
        node: [
            other
            for other in there[held_certain]
            if _is_known(len(pairs), [sizes[0][p.left] for p in matrices & pairs], held[0][node], held[1][other])
        ]
        for node, pairs in known[0].items()
        if node and (held_certain := frozenset(pairs)) in there
    }


def _is_known(certain: int, matrices: Sequence[Size], mine: Counter[Size], theirs: Counter[Size]) -> bool:
    """Whether so many certain leaves tell that two nodes correspond that hold these, or the matrices among them.

    They do where they are most of the matrices of two nodes that hold the same, and one of them is alone of its size.
    """
    most = 2 * certain >= max(mine.total(), theirs.total())
    total = sum(count for size, count in mine.items() if len(size) > 1)
    told = 2 * len(matrices) >= total and any(mine[size] == 1 for size in matrices)
    return (certain >= LEAVES and most) or (told and mine == theirs)
