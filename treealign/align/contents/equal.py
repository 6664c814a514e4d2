"""Leaves whose contents are equal, as they are or under operations: what needs no name.

Content settles a match where it is the leaf's own: the same bytes in two leaves of one side (a copy, an average at its
first step, an untied head) say of neither which is meant, and a constant says nothing at all. Where a leaf's content is
nowhere on the other side, as in a checkpoint that was trained further, nothing is said either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from treealign.align.contents.edges import Edge, components, edges
from treealign.align.contents.fingerprints import Contents, Elements, Fingerprint, Settled
from treealign.align.contents.layouts import Lines, made
from treealign.errors import MappingError
from treealign.mapping.operations import Operation, Reshape, invert, is_lossy, output_shapes

Known = Mapping[int, Fingerprint]


def settle(contents: Contents) -> list[Settled]:
    """All matches that content settles, each leaf in one at most.

    Notes
    -----
    Sorting the hashes of the lines of what is not equal as it stands; tensors are looked at again only where hashes of
    whole rows cannot confirm a conversion.
    """
    left, right = _telling(contents.left), _telling(contents.right)
    here, there = _by_content(left), _by_content(right)
    equal = [_equal(contents, here[c][0], there[c][0]) for c in here if len(here[c]) == len(there.get(c, ())) == 1]
    open_left = {at: p for at, p in left.items() if p.identity not in there}
    open_right = {at: p for at, p in right.items() if p.identity not in here}
    found = (_conversion(contents, group) for group in components(edges(open_left, open_right)))
    return equal + [one for one in found if one is not None]


def twins(contents: Contents) -> tuple[dict[int, frozenset[int]], dict[int, frozenset[int]]]:
    """For each telling leaf of either side the leaves of the other with its content; absent where there is none."""
    left, right = _telling(contents.left), _telling(contents.right)
    here, there = _by_content(left), _by_content(right)
    return (
        {at: frozenset(there[p.identity]) for at, p in left.items() if p.identity in there},
        {at: frozenset(here[p.identity]) for at, p in right.items() if p.identity in here},
    )


def _telling(side: Sequence[Fingerprint | None]) -> dict[int, Fingerprint]:
    return {at: p for at, p in enumerate(side) if p is not None and p.telling}


def _by_content(side: Known) -> dict[object, list[int]]:
    found: dict[object, list[int]] = defaultdict(list)
    for at, p in side.items():
        found[p.identity].append(at)
    return dict(found)


def _equal(contents: Contents, i: int, j: int) -> Settled:
    a, b = contents.left[i], contents.right[j]
    if a is None or b is None or a.shape == b.shape:
        return Settled((i,), (j,))
    return Settled((i,), (j,), (Reshape(a.shape, b.shape),), "equal content, reshaped")


def _conversion(contents: Contents, group: Sequence[Edge]) -> Settled | None:
    """One whole on either side and its parts on the other, with operations that make the same bytes."""
    lefts, rights = {e.left for e in group}, {e.right for e in group}
    if len(rights) == 1:
        found = _made(contents, group, whole_left=False)
    else:
        found = _made(contents, group, whole_left=True) if len(lefts) == 1 else None
    return found if found is not None and _confirmed(contents, found) else None


def _made(contents: Contents, group: Sequence[Edge], whole_left: bool) -> Settled | None:
    wholes, tensors = (contents.left, contents.right) if whole_left else (contents.right, contents.left)
    whole = wholes[group[0].left if whole_left else group[0].right]
    positions = [e.right if whole_left else e.left for e in group]
    parts = [p for p in (tensors[at] for at in positions) if p is not None]
    if whole is None or len(parts) < len(positions):
        return None
    ends = (1, 0) if whole_left else (0, 1)
    lines = [
        Lines(p, e.axes[ends[0]], e.axes[ends[1]], e.lines[ends[0]], e.lines[ends[1]])
        for p, e in zip(parts, group, strict=True)
    ]
    found = made(whole, lines)
    if found is None and len(parts) == 1 and not whole_left:
        return _made(contents, group, whole_left=True)
    if found is None:
        return None
    ordered = tuple(positions[n] for n in found.order)
    if whole_left:
        return _settled((group[0].left,), ordered, invert(found.operations))
    return _settled(ordered, (group[0].right,), found.operations)


def _settled(left: tuple[int, ...], right: tuple[int, ...], operations: tuple[Operation, ...]) -> Settled:
    names = ", ".join(dict.fromkeys(type(o).__name__.lower() for o in operations))
    return Settled(left, right, operations, f"equal content under {names}" if names else "equal content")


def _confirmed(contents: Contents, found: Settled) -> bool:
    """Whether the operations give the same bytes: by the hashes of rows where these stay whole, else read again."""
    sides = [contents.left[at] for at in found.left], [contents.right[at] for at in found.right]
    if is_lossy(found.operations) or not _fits(found.operations, *sides):
        return False
    for look in (_elements, _rows):
        left, right = ([look(p) for p in side] for side in sides)
        held = [x for x in left if x is not None], [x for x in right if x is not None]
        if len(held[0]) == len(left) and len(held[1]) == len(right) and _same(contents, found, *held):
            return True
    return contents.confirm(found.left, found.right, found.operations)


def _fits(
    operations: Sequence[Operation], left: Sequence[Fingerprint | None], right: Sequence[Fingerprint | None]
) -> bool:
    """Whether dtypes and shapes agree: hashes of rows alone do not show how long the rows are."""
    shapes = [[p.shape for p in side if p is not None] for side in (left, right)]
    try:
        given = output_shapes(operations, shapes[0])
    except MappingError:
        return False
    return list(given) == shapes[1] and len({p.kind for p in (*left, *right) if p is not None}) == 1


def _elements(p: Fingerprint | None) -> Elements | None:
    return None if p is None or p.elements is None else p.elements.reshape(p.shape)


def _rows(p: Fingerprint | None) -> Elements | None:
    """Hashes of lines along the last dimension, shaped as the tensor with that dimension of size 1."""
    if p is None or p.fixed != len(p.shape) - 1 or not len(p.rows):
        return None
    pairs = np.ascontiguousarray(p.rows).view(np.complex128)
    return pairs.reshape(*p.shape[:-1], 1)


def _same(contents: Contents, found: Settled, left: Sequence[Elements], right: Sequence[Elements]) -> bool:
    try:
        results = contents.execute(found.operations, left)
    except MappingError:
        return False
    return all(
        a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(results, right, strict=True)
    )
