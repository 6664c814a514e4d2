"""Rows that a fold of patches makes: in which order the places of a window and its channels stand.

A merge of patches turns a window of h by w places with c channels into one row of each: place by place, as slices that
are concatenated make it (Swin's own code: ``w,h,c``), or channel by channel (`torch.nn.Unfold` and
`torch.nn.PixelUnshuffle`: ``c,h,w``). The outermost stands first.
"""

from __future__ import annotations

from collections.abc import Sequence

from treealign.align.hints import Said
from treealign.mapping.operations import Operation, Permute, Reshape

Order = tuple[str, str]  # of the checkpoint, of the model
WAYS: tuple[Order, ...] = (
    ("h,w,c", "c,h,w"),
    ("w,h,c", "c,h,w"),
    ("c,h,w", "h,w,c"),
    ("c,h,w", "w,h,c"),
    ("h,w,c", "w,h,c"),
)
TORCH = "c,h,w"
SIDES = (2, 3, 4)  # of windows


def fold_ways(rows: Sequence[int]) -> list[Said]:
    """How rows behind a fold can stand otherwise, for each window that so many rows can come from.

    First into the order of torch's own folds, which the model's are known by, for every window.
    """
    sides = [side for side in SIDES if rows and all(count % side**2 == 0 for count in rows)]
    ways = [Said("rows", "folded", side, fold=way) for side in sides for way in WAYS]
    return sorted(ways, key=lambda said: said.fold[1] != TORCH)


def refolded(shape: Sequence[int], dim: int, said: Said) -> tuple[Operation, ...] | None:
    """The operations that put the rows of a dimension into the other order; None where they make no whole windows.

    >>> refolded((8, 32), 1, Said("rows", "folded", 2, fold=("w,h,c", "c,h,w")))[1]
    Permute((0, 3, 2, 1))
    """
    channels, rest = divmod(shape[dim], said.size**2)
    if rest:
        return None
    before, after = (way.split(",") for way in said.fold)
    sizes = [channels if letter == "c" else said.size for letter in before]
    order = [before.index(letter) for letter in after]
    apart = (*shape[:dim], *sizes, *shape[dim + 1 :])
    dims = (*range(dim), *(dim + n for n in order), *range(dim + len(order), len(apart)))
    turned = tuple(apart[n] for n in dims)
    return Reshape(tuple(shape), apart), Permute(dims), Reshape(turned, tuple(shape))


def is_refold(operations: Sequence[Operation]) -> bool:
    """Whether three operations put rows into another order and change no shape."""
    first, turn, last = operations
    reshaped = isinstance(first, Reshape) and isinstance(last, Reshape) and first.before == last.after
    return reshaped and isinstance(turn, Permute)
