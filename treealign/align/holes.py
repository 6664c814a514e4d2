"""Keys that are absent from an otherwise whole checkpoint: one expert that a download lost.

A conversion takes all members of a list, so that a single absent key would leave whole tensors of the model without a
source, in every layer. Where other keys say that it should be there, the alignment is made as if it were; what the
absent key would feed is then missing, and the absent key is what is said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Set
from itertools import product
from typing import Any

from treealign.align.alignment import Alignment, align
from treealign.align.links import Match
from treealign.tree.fold import Fold
from treealign.tree.keytree import KeyTree

Leaf = tuple[str, tuple[int, ...] | None, str | None]
_MOST_CELLS = 1_000_000
# of the keys of a pattern, how many may be absent
_ABSENT = 0.25


def absent_leaves(tree: KeyTree) -> tuple[Leaf, ...]:
    """The leaves that lists of the checkpoint lack: all other members, and all other layers, have them.

    A pattern is looked at if its last captures number the members of lists. Of the grid of its indices at most a
    quarter may be empty; a list that is shorter at its end, as layers with fewer experts have it, is no hole unless
    the other leaves of the same members are there.
    """
    found: list[Leaf] = []
    beside: dict[tuple[str, ...], list[Fold]] = defaultdict(list)
    for f in tree.folds:
        depth = max((n for n, s in enumerate(f.segments) if s == "{}"), default=-1)
        if depth >= 0:
            beside[f.segments[: depth + 1]].append(f)
    for folds in beside.values():
        cells = [set(f.indices) for f in folds]
        everywhere = set().union(*cells)
        for f, held in zip(folds, cells, strict=True):
            wanted = {*everywhere, *_gaps(everywhere)} - held
            if wanted and len(wanted) <= _ABSENT * len(held):
                found += _leaves(tree, f, sorted(wanted))
    return tuple(found)


def _gaps(cells: set[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Cells of the whole grid that nothing fills, those past the end of a list left out."""
    columns = [sorted({int(v) for v in column}) for column in zip(*cells, strict=True)]
    size = 1
    for column in columns:
        size *= len(column)
    if size == len(cells) or size > _MOST_CELLS:
        return
    last: dict[tuple[str, ...], int] = defaultdict(int)
    for cell in cells:
        last[cell[:-1]] = max(last[cell[:-1]], int(cell[-1]))
    for numbers in product(*columns):
        cell = tuple(map(str, numbers))
        if cell not in cells and numbers[-1] < last.get(cell[:-1], -1):
            yield cell


def _leaves(tree: KeyTree, f: Fold, wanted: list[tuple[str, ...]]) -> Iterator[Leaf]:
    """Leaves for these indices, each as its pattern has them elsewhere; none where the others differ."""
    kinds = {(tree.leaves[at].shape, tree.leaves[at].dtype) for at in f.positions}
    if len(kinds) == 1:
        (shape, dtype) = kinds.pop()
        for cell in wanted:
            numbers = iter(cell)
            yield ".".join(next(numbers) if s == "{}" else s for s in f.segments), shape, dtype


def align_as_if_whole(alignment: Alignment, hints: Any) -> tuple[Alignment, frozenset[str]]:
    """The alignment with what is absent taken as there, and the absent keys; or the one that was given, and none.

    It has to fill more of the model, and to have a place for each absent key.
    """
    absent = absent_leaves(alignment.checkpoint) if alignment.right else ()
    keys = frozenset(key for key, *_ in absent)
    if not keys:
        return alignment, keys
    whole = align(with_absent(alignment.checkpoint, absent), alignment.model, hints)
    used = {whole.checkpoint.keys[at] for link in whole.links for p in link.left for at in p.cells.values()}
    fewer = len(unfilled(whole, keys)) < sum(map(len, alignment.right))
    return (whole, keys) if fewer and keys <= used else (alignment, frozenset())


def unfilled(alignment: Alignment, absent: Set[str]) -> set[int]:
    """Positions of the model's leaves that nothing fills, and of those that an absent key would help to fill."""
    keys = alignment.checkpoint.keys
    short = (g for link in alignment.links for g in link.expand() if any(keys[at] in absent for at in g.left))
    return {at for p in alignment.right for at in p.cells.values()} | {at for g in short for at in g.right}


def lacks(match: Match, absent: Set[str]) -> str:
    """What a match cannot do for want of these keys, as a finding."""
    gone = ", ".join(key for key in match.checkpoint if key in absent)
    filled = ", ".join(match.model)
    return f"the checkpoint lacks {gone}, without which {filled} cannot be filled; all others of the list are there"


def with_absent(tree: KeyTree, absent: tuple[Leaf, ...]) -> KeyTree:
    """The tree as if these were in it, in natural order: where they stood is not known."""
    return KeyTree.from_leaves([*tree.leaves, *absent], tied=tree.tied, ordered=False, source=tree.source)
