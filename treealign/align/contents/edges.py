"""Which leaves share lines: the candidates for conversions, before anything is known of the operations.

A line runs along one dimension of a tensor. Whatever splits, joins, stacks, turns or permutes tensors along the other
dimensions leaves it whole, so the two sides share its hash. Only lines that occur once on either side count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from treealign.align.contents.fingerprints import Fingerprint, Hashes, Ints

ELEMENTS, WINDOWS = -1, -2  # lines of a vector: its elements one by one, and runs of a few of them
WINDOW = 4
LEAST_SHARE = 0.2  # of the lines of the smaller of two leaves


@dataclass(frozen=True, eq=False)
class Edge:
    """Two leaves that share lines.

    Attributes
    ----------
    left, right : int
        Positions of the leaves.
    axes : tuple of int
        The dimension along which the lines run, on either side; below 0 for vectors.
    lines : tuple of two arrays
        Numbers of the shared lines on either side, in row-major order of the other dimensions.
    """

    left: int
    right: int
    axes: tuple[int, int]
    lines: tuple[Ints, Ints]


@dataclass(frozen=True, eq=False)
class _Table:
    """The lines of one side: hash, leaf, axis and number of each."""

    hashes: Hashes
    leaf: Ints
    axis: Ints
    number: Ints
    count: Mapping[tuple[int, int], int]


def edges(left: Mapping[int, Fingerprint], right: Mapping[int, Fingerprint]) -> list[Edge]:
    """The best edge between each two leaves that share enough lines.

    Notes
    -----
    Sorting the hashes of all lines: O(n log n).
    """
    a, b = _table(left), _table(right)
    if not len(a.hashes) or not len(b.hashes):
        return []
    i, j = _shared(a.hashes, b.hashes)
    if not len(i):
        return []
    keys = np.stack([a.leaf[i], b.leaf[j], a.axis[i], b.axis[j]], axis=1)
    order = np.lexsort(keys.T[::-1])
    keys, i, j = keys[order], i[order], j[order]
    starts = np.flatnonzero(np.r_[True, np.any(keys[1:] != keys[:-1], axis=1)])
    best: dict[tuple[int, int], Edge] = {}
    for start, stop in zip(starts, np.r_[starts[1:], len(keys)], strict=True):
        p, q, x, y = map(int, keys[start])
        if stop - start < max(LEAST_SHARE * min(a.count[p, x], b.count[q, y]), 1):
            continue
        known = best.get((p, q))
        if known is None or len(known.lines[0]) < stop - start:
            best[p, q] = Edge(p, q, (x, y), (a.number[i[start:stop]], b.number[j[start:stop]]))
    return list(best.values())


def components(found: Sequence[Edge]) -> Iterator[list[Edge]]:
    """Edges that hang together (union-find)."""
    parent: dict[tuple[str, int], tuple[str, int]] = {}

    def root(node: tuple[str, int]) -> tuple[str, int]:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for e in found:
        parent[root(("left", e.left))] = root(("right", e.right))
    groups: dict[tuple[str, int], list[Edge]] = defaultdict(list)
    for e in found:
        groups[root(("left", e.left))].append(e)
    yield from groups.values()


def _table(side: Mapping[int, Fingerprint]) -> _Table:
    rows = [(at, axis, hashes) for at, print_ in side.items() for axis, hashes in _lines(print_)]
    if not rows:
        nothing = np.empty(0, np.int64)
        return _Table(np.empty(0, np.uint64), nothing, nothing, nothing, {})
    sizes = [len(h) for _, _, h in rows]
    return _Table(
        np.concatenate([h for _, _, h in rows]),
        np.repeat([at for at, _, _ in rows], sizes),
        np.repeat([axis for _, axis, _ in rows], sizes),
        np.concatenate([np.arange(n) for n in sizes]),
        {(at, axis): len(h) for at, axis, h in rows},
    )


def _lines(print_: Fingerprint) -> Iterator[tuple[int, Hashes]]:
    yield from print_.beginnings.items()
    if print_.elements is not None:
        # the kind as seed: equal bits of different dtypes are different numbers
        seed = np.uint64(sum(print_.kind.encode()) << 32)
        values = print_.elements.astype(np.uint64)
        yield ELEMENTS, (values + seed) * np.uint64(0x9E3779B97F4A7C15)
        if len(values) >= WINDOW:
            runs = np.lib.stride_tricks.sliding_window_view(values, WINDOW)
            factors = np.array([pow(0xC2B2AE3D27D4EB4F, n + 1, 1 << 64) for n in range(WINDOW)], np.uint64)
            yield WINDOWS, runs @ factors + seed


def _shared(a: Hashes, b: Hashes) -> tuple[Ints, Ints]:
    """Where hashes stand that occur once on either side and are equal."""
    i, j = _once(a), _once(b)
    _, x, y = np.intersect1d(a[i], b[j], assume_unique=True, return_indices=True)
    return i[x], j[y]


def _once(hashes: Hashes) -> Ints:
    _, first, count = np.unique(hashes, return_index=True, return_counts=True)
    once: Ints = first[count == 1]
    return once
