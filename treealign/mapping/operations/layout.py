"""Operations that keep every number and change the layout of one tensor: permuted, reshaped, rows in another order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from treealign.mapping.operations.base import Operation, Shape, as_ints, check_dim
from treealign.mapping.operations.sizes import Size


@dataclass(frozen=True, repr=False)
class Permute(Operation):
    """Put the dimensions in another order; output dimension k is input dimension ``dims[k]``, as in `torch.permute`.

    >>> Permute((1, 0)).output_shapes([(4, 3)])
    ((3, 4),)
    """

    dims: tuple[int, ...]

    @classmethod
    def transpose(cls, rank: int, first: int, second: int) -> Permute:
        """Two dimensions swapped in a tensor of the given rank.

        >>> Permute.transpose(3, 1, 2)
        Permute((0, 2, 1))
        """
        swapped = {first: second, second: first}
        return cls(tuple(swapped.get(dim, dim) for dim in range(rank)))

    def _inverse(self) -> Permute:
        return Permute(inverse_order(self.dims))

    def _reason(self) -> str | None:
        return not_an_order(self.dims)

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        (shape,) = shapes
        if len(shape) != len(self.dims):
            raise self._misfit(shape, f"it has {len(shape)} dimensions, not {len(self.dims)}")
        return [tuple(shape[dim] for dim in self.dims)]


@dataclass(frozen=True, repr=False)
class Reshape(Operation):
    """The same numbers in the same order under another shape; both shapes are kept.

    >>> Reshape((8, 3, 2, 2), (8, 12)).inverse
    Reshape((8, 12), (8, 3, 2, 2))
    """

    before: tuple[Size, ...]
    after: tuple[Size, ...]

    def _inverse(self) -> Reshape:
        return Reshape(self.after, self.before)

    def _reason(self) -> str | None:
        if self.capture_names:
            return None
        before, after = prod(as_ints(self.before)), prod(as_ints(self.after))
        return None if before == after else f"{before} numbers are not {after}"

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        if shapes[0] != as_ints(self.before):
            raise self._misfit(shapes[0], f"it should have shape {self.before}")
        return [as_ints(self.after)]


@dataclass(frozen=True, repr=False)
class Deinterleave(Operation):
    """Gather rows that take turns into parts, one after the other, in the same tensor.

    Along `dim` the tensor holds turns: ``blocks[0]`` rows of the first part, ``blocks[1]`` of the second, and so on
    again. ``Deinterleave(0, (1, 1))`` turns g0 u0 g1 u1 … into g0 g1 … u0 u1 …; ``Deinterleave(0, (64, 64, 64))``
    turns heads of q k v, of 64 rows each, into all q, all k, all v; ``(4 * 64, 64, 64)`` does so for groups of four
    query heads. A `Split` takes the parts apart afterwards.

    >>> Deinterleave(0, (1, 1)).output_shapes([(8, 4)])
    ((8, 4),)
    """

    dim: int
    blocks: tuple[Size, ...]

    def _inverse(self) -> Interleave:
        return Interleave(self.dim, self.blocks)

    def _reason(self) -> str | None:
        return _no_turn(self.blocks)

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return [_in_turns(self, self.dim, as_ints(self.blocks), shapes[0])]


@dataclass(frozen=True, repr=False)
class Interleave(Operation):
    """Let the rows of parts take turns; undoes `Deinterleave`.

    >>> Interleave(0, (1, 1)).inverse
    Deinterleave(0, (1, 1))
    """

    dim: int
    blocks: tuple[Size, ...]

    def _inverse(self) -> Deinterleave:
        return Deinterleave(self.dim, self.blocks)

    def _reason(self) -> str | None:
        return _no_turn(self.blocks)

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return [_in_turns(self, self.dim, as_ints(self.blocks), shapes[0])]


def inverse_order(order: tuple[int, ...]) -> tuple[int, ...]:
    """Where each place went.

    >>> inverse_order((2, 0, 1))
    (1, 2, 0)
    """
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def not_an_order(order: tuple[int, ...]) -> str | None:
    """Why numbers are no order of 0 … n - 1, or None."""
    n = len(order)
    return None if sorted(order) == list(range(n)) else f"each of 0 … {n - 1} must occur exactly once"


def _no_turn(blocks: tuple[Size, ...]) -> str | None:
    return None if blocks and 0 not in blocks else "there must be blocks, each of at least one row"


def _in_turns(operation: Operation, dim: int, blocks: tuple[int, ...], shape: Shape) -> Shape:
    check_dim(operation, dim, None, shape)
    if shape[dim] % sum(blocks):
        raise operation._misfit(shape, f"dimension {dim} is no multiple of {sum(blocks)} rows, one turn")
    return shape
