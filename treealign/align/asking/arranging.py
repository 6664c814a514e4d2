"""What a statement about rows, axes or the order of a list makes of a match: the operations, or the pairs of leaves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from treealign.align.asking.rows import HIDDEN, Order, with_operations, with_rows
from treealign.align.converting.shape_algebra import axis_orders
from treealign.align.converting.turned_joins import is_joined, join_orders
from treealign.align.doubting.folded_space import Folds
from treealign.align.doubting.joined_squares import JOINED, in_way
from treealign.align.doubting.layouts import is_cut_square
from treealign.align.doubting.transposition import is_square
from treealign.align.hints import Said
from treealign.align.links import Group, Link, piece_of
from treealign.align.patterns import Indices, Pattern, Shape
from treealign.align.reasons import kind
from treealign.mapping.operations import Operation, Permute


def arranged(link: Link, said: Said, folds: Folds | None = None) -> Link | None:
    """A link as a statement says that it is; None where that cannot be: by its shapes, its kind, the model's folds."""
    if said.about == "order":
        return _listed(link, said)
    if said.about == "axes":
        return _turned(link, said)
    return with_rows(link, said, None if folds is None else folds.dim(link))


def arranged_apart(link: Link, said: Said, folds: Folds | None = None) -> tuple[Link, ...]:
    """The same, where need be one link for each size of its leaves, as operations know sizes; empty if it cannot be."""
    whole = arranged(link, said, folds)
    if whole is not None:
        return (whole,)
    sizes: dict[object, list[Group]] = defaultdict(list)
    here, there = (_shapes_at(link.left[0]), _shapes_at(link.right[0]))
    for group in link.expand() if len(link.left) == len(link.right) == 1 else ():
        sizes[here[group.left[0]], there[group.right[0]]].append(group)
    made = [arranged(piece_of(link, groups), said, folds) for groups in sizes.values()] if len(sizes) > 1 else []
    whole_ones = [one for one in made if one is not None]
    return tuple(whole_ones) if len(whole_ones) == len(made) else ()


def _turned(link: Link, said: Said) -> Link | None:
    if said.kind != "permuted" and (is_joined(link) or JOINED.kind in map(kind, (link.reason, *link.beneath))):
        return in_way(link, said.kind == "transposed")
    if is_joined(link):
        return join_orders(link).get(said.dims)
    if len(link.left) != 1 or len(link.right) != 1:
        return None
    if said.kind == "permuted":
        return _permuted(link, said.dims)
    turned = Permute((1, 0))
    plain = tuple(o for o in link.operations if o != turned)
    if said.kind == "as stored":
        return with_operations(link, plain) if _fits_shapes(link, plain) else None
    operations = _with_turn(link, plain)
    return None if operations is None or not _fits_shapes(link, operations) else with_operations(link, operations)


def _with_turn(link: Link, plain: tuple[Operation, ...]) -> tuple[Operation, ...] | None:
    turned = Permute((1, 0))
    if not plain:
        return (turned,) if is_square(link.left[0]) else None
    rows = tuple(o for o in plain if isinstance(o, HIDDEN))
    if rows == plain and is_square(link.left[0]):
        return (turned, *plain)
    if is_cut_square(with_operations(link, plain)):
        return (turned, *plain) if is_square(link.left[0]) else (*plain, turned)
    return None


def _permuted(link: Link, dims: Order) -> Link | None:
    if any(len(before or ()) != len(dims) for before, _ in _shape_pairs(link)):
        return None
    operations = () if dims == tuple(range(len(dims))) else (Permute(dims),)
    return with_operations(link, operations) if _fits_shapes(link, operations) else None


def _fits_shapes(link: Link, operations: Sequence[Operation]) -> bool:
    """Whether the operations make each shape of the checkpoint that of the model."""
    for before, after in _shape_pairs(link):
        shapes: Any = (before,)
        try:
            for o in operations:
                shapes = o.output_shapes(shapes)
        except Exception:
            return False
        if shapes != (after,):
            return False
    return True


def _shape_pairs(link: Link) -> set[tuple[Shape, Shape]]:
    here, there = _shapes_at(link.left[0]), _shapes_at(link.right[0])
    return {(here[g.left[0]], there[g.right[0]]) for g in link.expand()}


def _shapes_at(p: Pattern) -> dict[int, Shape]:
    return {at: p.shapes[key] for key, at in p.cells.items()}


def link_orders(link: Link) -> list[Order]:
    """All orders of the dimensions that make the checkpoint's shapes the model's; spatial order kept comes first."""
    if is_joined(link):
        return list(join_orders(link))
    pairs = _shape_pairs(link)
    known = frozenset((before, after) for before, after in pairs if before is not None and after is not None)
    return list(axis_orders(known)) if len(known) == len(pairs) else []


def turned_alike(link: Link) -> object:
    """Equal for links whose axes are one decision: all squares around a join; else those that are guessed alike."""
    ranks = {len(shape or ()) for shape in link.left[0].shapes.values()}
    return () if link.open["axes"].kind == JOINED.kind else (link.operations, tuple(ranks), tuple(link_orders(link)))


def _listed(link: Link, said: Said) -> Link | None:
    if link.operations or len(link.left) != 1 or len(link.right) != 1:
        return None
    if said.kind == "as numbered":
        return link
    pairs = list(link.expand())
    keys = {at: key for key, at in link.right[0].cells.items()}
    if said.kind == "exchanged":
        return _regrouped(link, _exchanged(link, pairs, keys))
    return _regrouped(link, _reversed(link, pairs, keys))


def _regrouped(link: Link, groups: list[Group] | None) -> Link | None:
    if not groups or {g.right for g in groups} != {g.right for g in link.expand()}:
        return None
    here, there = _shapes_at(link.left[0]), _shapes_at(link.right[0])
    if any(here[g.left[0]] != there[g.right[0]] for g in groups):
        return None
    return replace(link, groups=tuple(groups))


def _reversed(link: Link, pairs: Sequence[Group], keys: dict[int, Indices]) -> list[Group] | None:
    """The pairs with the model's first index counted from the other end."""
    values = sorted({int(key[0]) for key in keys.values()}) if link.right[0].captures else []
    if len(values) < 2:
        return None
    other = {str(a): str(b) for a, b in zip(values, reversed(values), strict=True)}
    found = []
    for g in pairs:
        key = keys[g.right[0]]
        at = link.right[0].cells.get((other[key[0]], *key[1:]))
        if at is None:
            return None
        found.append(Group(g.left, (at,)))
    return found


def _exchanged(link: Link, pairs: Sequence[Group], keys: dict[int, Indices]) -> list[Group] | None:
    """The pairs with two indices of the model exchanged: the last two that can be."""
    if link.right[0].captures < 2:
        return None
    found = []
    for g in pairs:
        key = keys[g.right[0]]
        at = link.right[0].cells.get((*key[:-2], key[-1], key[-2]))
        if at is None:
            return None
        found.append(Group(g.left, (at,)))
    return found
