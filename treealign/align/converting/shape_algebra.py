"""Which operations turn the shapes of some patterns into that of another: plain arithmetic on tuples of ints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise, permutations
from math import prod

from treealign.align.patterns import Shape
from treealign.mapping.operations import Concat, Operation, Permute, Reshape, Stack, invert

MOST_DIMENSIONS = 5  # of a kernel in three dimensions
Sizes = tuple[int, ...]


def join_dimension(parts: Sequence[Sizes], whole: Sizes) -> int | None:
    """The dimension along which the parts add up to the whole, or None; the first of several (they then all agree)."""
    if len(parts) < 2 or any(len(p) != len(whole) for p in parts):
        return None
    for dim in range(len(whole)):
        same = all(p[:dim] + p[dim + 1 :] == whole[:dim] + whole[dim + 1 :] for p in parts)
        if same and sum(p[dim] for p in parts) == whole[dim]:
            return dim
    return None


def joined(parts: Sequence[Sizes], whole: Sizes, stacked: int = 0) -> tuple[Operation, ...] | None:
    """Operations that make the whole of the parts.

    Parameters
    ----------
    parts : sequence of tuple of int
        Shapes of one tensor of each part.
    whole : tuple of int
        Shape of the result.
    stacked : int
        How many tensors of each part are stacked first; 0 where each part is one tensor.

    Notes
    -----
    Tried: stack, concat, stack then concat; where none of these does, parts of one shape turned first; the parts in
    their own layout, turned when they are joined; then, the last, parts of one shape that are reshaped.

    """
    steps = joined_as_they_are(parts, whole, stacked)
    if steps:
        return steps
    anew = None if stacked else _joined_anew(parts, whole)
    if anew and not any(isinstance(o, Reshape) for o in anew):
        return anew
    return next(iter(joined_then_turned(parts, whole, stacked)), anew)


def joined_as_they_are(parts: Sequence[Sizes], whole: Sizes, stacked: int = 0) -> tuple[Operation, ...] | None:
    """The same with nothing turned and nothing reshaped."""
    steps: tuple[Operation, ...] = ()
    if stacked:
        steps = (Stack(0, stacked),)
        parts = [(stacked, *p) for p in parts]
    if len(parts) == 1:
        return steps if parts[0] == whole and steps else None
    if not stacked and set(parts) == {whole[1:]} and whole[0] == len(parts):
        return (Stack(0, len(parts)),)
    dim = join_dimension(parts, whole)
    return None if dim is None else (*steps, Concat(dim, tuple(p[dim] for p in parts)))


def _joined_anew(parts: Sequence[Sizes], whole: Sizes) -> tuple[Operation, ...] | None:
    """Operations that give parts of one shape the layout of the whole, and join them then.

    >>> _joined_anew([(4, 16, 8)] * 3, (96, 16))
    (Permute((0, 2, 1)), Reshape((4, 8, 16), (32, 16)), Concat(0, (32, 32, 32)))
    >>> _joined_anew([(72, 32)] * 2, (2, 32, 72))
    (Permute((1, 0)), Stack(0, 2))
    """
    part, count = parts[0], len(parts)
    if any(p != part for p in parts):
        return None
    goals: list[tuple[Sizes, Operation]] = [(whole[1:], Stack(0, count))] if whole[:1] == (count,) else []
    for dim, size in enumerate(whole):
        if size % count == 0:
            own = size // count
            goals.append(((*whole[:dim], own, *whole[dim + 1 :]), Concat(dim, (own,) * count)))
    for goal, join in goals:
        one = rearranged(part, goal)
        change = (one,) if one else headed(part, goal)
        if change and len(axis_orders(frozenset({(part, goal)}))) < 2:  # of several nothing says which
            return (*change, join)
    return None


def joined_then_turned(parts: Sequence[Sizes], whole: Sizes, stacked: int = 0) -> tuple[tuple[Operation, ...], ...]:
    """All ways to join the parts in their own layout and turn the result, the one that turns least first.

    Experts with inputs first in one tensor, of matrices with outputs first. Parts along one dimension of the whole are
    joined as `shards` does where they have as many dimensions as it.

    >>> joined_then_turned([(24, 16)], (4, 16, 24), stacked=4)
    ((Stack(0, 4), Permute((0, 2, 1))),)
    >>> joined_then_turned([(16, 24)], (96, 16), stacked=4)
    ((Concat(1, (24, 24, 24, 24)), Permute((1, 0))),)
    """
    if len(whole) > MOST_DIMENSIONS:
        return ()
    found: dict[object, tuple[Operation, ...]] = {}
    for dims in sorted(permutations(range(len(whole))), key=disorder)[1:]:
        before = tuple(whole[dims.index(at)] for at in range(len(whole)))
        alike = stacked and len(parts) == 1 and len(parts[0]) == len(whole)
        steps = shards(parts[0], before, stacked) if alike else joined_as_they_are(parts, before, stacked)
        if steps:
            found.setdefault((before, tuple(at for at in dims if before[at] != 1)), (*steps, Permute(dims)))
    return tuple(found.values())


def shards(part: Sizes, whole: Sizes, count: int) -> tuple[Operation, ...] | None:
    """Concatenate `count` equal tensors."""
    dim = join_dimension([part] * count, whole) if count > 1 else None
    return None if dim is None else (Concat(dim, (part[dim],) * count),)


def rearranged(before: Shape, after: Shape) -> Operation | None:
    """One operation between two shapes of as many elements: a permutation, or a reshape of whole dimensions."""
    if before is None or after is None or before == after or prod(before) != prod(after):
        return None
    if len(before) == len(after):
        orders = axis_orders(frozenset({(before, after)}))
        return Permute(orders[0]) if orders else None
    short, long = sorted((before, after), key=len)
    return Reshape(before, after) if _merges(long, short) else None


def headed(before: Shape, after: Shape) -> tuple[Operation, ...] | None:
    """Two operations that take a matrix apart into heads and turn it, or put it together again; None if none do.

    Tried in this order: outputs first, [heads x size, inputs] to [heads, inputs, size]; turned whole, then cut; inputs
    first, [inputs, heads x size] to [heads, inputs, size]. More than one may fit; which it is shapes do not show, and
    neither whether the rows of a head stand together.

    >>> headed((32, 16), (4, 16, 8))
    (Reshape((32, 16), (4, 8, 16)), Permute((0, 2, 1)))
    >>> headed((16, 32), (4, 8, 16))
    (Permute((1, 0)), Reshape((32, 16), (4, 8, 16)))
    """
    if before is None or after is None or prod(before) != prod(after):
        return None
    if (len(before), len(after)) == (3, 2):
        back = _in_heads(after, before)
        return None if back is None else invert(back)
    return _in_heads(before, after) if (len(before), len(after)) == (2, 3) else None


def squeezed(before: Shape, after: Shape) -> tuple[Operation, ...] | None:
    """A turn of what is left without the dimensions of one element that only one side has; None if none does it.

    >>> squeezed((1, 1, 8, 16), (16, 8))
    (Reshape((1, 1, 8, 16), (8, 16)), Permute((1, 0)))
    """
    if before is None or after is None or len(before) == len(after):
        return None
    if len(before) < len(after):
        back = squeezed(after, before)
        return None if back is None else invert(back)
    plain = tuple(n for n in before if n != 1)
    orders = axis_orders(frozenset({(plain, after)}))
    return (Reshape(before, plain), Permute(orders[0])) if orders and plain != after else None


def _in_heads(before: Sizes, after: Sizes) -> tuple[Operation, ...] | None:
    first, second, third = after
    if before == (first * third, second):
        return Reshape(before, (first, third, second)), Permute((0, 2, 1))
    if _merges(after, before[::-1]):
        return Permute((1, 0)), Reshape(before[::-1], after)
    if before == (second, first * third):
        return Reshape(before, (second, first, third)), Permute((1, 0, 2))
    return None


@cache
def fitting_orders(pairs: frozenset[tuple[Sizes, Sizes]]) -> tuple[Sizes, ...]:
    """All orders of the dimensions that make each first shape its second, that which keeps most of the order first.

    At most five dimensions are tried.
    """
    ranks = {len(shape) for pair in pairs for shape in pair}
    if len(ranks) != 1 or not 2 <= (rank := ranks.pop()) <= MOST_DIMENSIONS:
        return ()
    if any(sorted(before) != sorted(after) for before, after in pairs):
        return ()
    fitting = [d for d in permutations(range(rank)) if all(tuple(x[at] for at in d) == y for x, y in pairs)]
    return tuple(sorted(fitting, key=disorder))


def disorder(dims: Sizes) -> tuple[int, Sizes]:
    """How much an order of dimensions changes, to sort by: spatial dimensions mostly keep their order."""
    return sum(a > b for a, b in pairwise(dims)), dims


@cache
def axis_orders(pairs: frozenset[tuple[Sizes, Sizes]]) -> tuple[Sizes, ...]:
    """The orders that fit, once each: those that move only dimensions of size 1 past others give the same numbers.

    >>> axis_orders(frozenset({((8, 4, 3), (8, 3, 4))})), axis_orders(frozenset({((16, 8, 3, 3), (16, 3, 3, 8))}))
    (((0, 2, 1),), ((0, 2, 3, 1), (0, 3, 2, 1)))
    """
    kept: dict[object, Sizes] = {}
    for dims in fitting_orders(pairs):
        kept.setdefault(tuple(tuple(at for at in dims if x[at] != 1) for x, _ in sorted(pairs)), dims)
    return tuple(kept.values())


def _merges(long: Sizes, short: Sizes) -> bool:
    """Whether neighbouring dimensions of `long` multiply to those of `short`."""
    at = 0
    for size in short:
        product = 1
        start = at
        while at < len(long) and (at == start or product < size):
            product *= long[at]
            at += 1
        if product != size:
            return False
    return all(size == 1 for size in long[at:])
