"""One list here, a list of lists there: `blocks.5` against `stages.1.layers.3`.

Two libraries cut the same sequence of blocks differently. Where every member of a list holds as many numbers as the
member at its place in the other library's list of lists, and these counts tell the direction in which the list runs,
the single list is read as if it were cut like the other one. Nothing else of the alignment knows of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import prod

from treealign.align.parameters import hold_whole
from treealign.align.spelling import respelled
from treealign.tree.keytree import KeyTree
from treealign.tree.lists import Lists, Path, Place, is_cut

LEAST = 3  # members: two lists of one member each are two names


def staged_alike(checkpoint: KeyTree, model: KeyTree) -> tuple[KeyTree, KeyTree]:
    """The two trees, a list that the other side cuts into stages renumbered as if it were cut alike.

    Positions of leaves stay what they are, so whatever is found in the result holds for the trees given. A tree with
    nothing to renumber comes back itself. All shapes must be known.

    Notes
    -----
    Linear in the number of keys below lists of equal length.
    """
    flat = _Counted(checkpoint, 1), _Counted(model, 1)
    staged = _Counted(checkpoint, 2), _Counted(model, 2)
    left = _renumbered(checkpoint, _twins(flat[0], staged[1], (flat[1], staged[0])))
    right = _renumbered(model, _twins(flat[1], staged[0], (flat[0], staged[1])))
    return left, right


class _Counted(Lists):
    """Lists, and how many numbers each of their members holds, counted where somebody asks."""

    def __init__(self, tree: KeyTree, depth: int) -> None:
        super().__init__(tree.folds, depth)
        self._tree = tree
        self._counts: dict[Path, list[int]] = {}

    def counts(self, path: Path) -> list[int]:
        """How many real numbers each member holds, in order."""
        if path not in self._counts:
            sums: dict[Place, int] = defaultdict(int)
            for position, place in self.leaves(path):
                leaf = self._tree.leaves[position]
                if not hold_whole({leaf.dtype}):  # counters and index tables are not kept by everyone
                    sums[place] += prod(leaf.shape or ())
            self._counts[path] = [sums[place] for place in self.places(path)]
        return self._counts[path]


def _twins(flat: _Counted, staged: _Counted, own: tuple[_Counted, _Counted]) -> dict[Path, dict[Place, Place]]:
    """For each list whose only counterpart is a list of lists: its places to those there."""
    found = {}
    for path in flat:
        if flat.length(path) < LEAST:
            continue
        fitting = staged.of_length(flat.length(path))
        hits = [p for p in fitting if is_cut(staged.places(p)) and _same(flat, path, staged, p)]
        if len(hits) == 1 and not _paired(flat, path, own[0]) and not _paired(staged, hits[0], own[1]):
            found[path] = dict(zip(flat.places(path), staged.places(hits[0]), strict=True))
    return found


def _same(a: _Counted, path: Path, b: _Counted, other: Path) -> bool:
    """Equal counts at equal places, which read backwards are others."""
    counts = a.counts(path)
    return counts == b.counts(other) and counts != counts[::-1]


def _paired(lists: _Counted, path: Path, others: _Counted) -> bool:
    """Whether the other side has a list of the same kind that fits as well."""
    counts = lists.counts(path)
    return any(others.counts(p) == counts for p in others.of_length(len(counts)))


def _renumbered(tree: KeyTree, places: Mapping[Path, Mapping[Place, Place]]) -> KeyTree:
    """The tree with ``list.5.x`` as ``list.1.3.x``; see `staged_alike`."""
    keys = list(tree.keys)
    for f in tree.folds:
        path = next((f.segments[: n + 1] for n, s in enumerate(f.segments) if s == "{}"), ())
        for position, row in zip(f.positions, f.indices, strict=True) if path in places else ():
            here, segments = len(path) - 1, keys[position].split(".")
            segments[here : here + 1] = map(str, places[path][int(row[0]),])
            keys[position] = ".".join(segments)
    return respelled(tree, keys) if places else tree
