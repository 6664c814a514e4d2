"""Operations that forget something: the inverse gives back what computes the same, not the same bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from treealign.mapping.operations.base import Operation, Shape, as_ints, check_dim, with_size
from treealign.mapping.operations.sizes import Size


@dataclass(frozen=True, repr=False)
class FoldWeightNorm(Operation):
    """weight_g, weight_v -> weight: ``g * v / norm(v)``, the norm over all dimensions but `dim`.

    This is `torch.nn.utils.weight_norm` (Salimans and Kingma 2016), whose g has size 1 in every other dimension.
    Lossy: the length of v, which changes nothing, is gone.

    >>> FoldWeightNorm(0).output_shapes([(8, 1, 1), (8, 4, 3)])
    ((8, 4, 3),)
    """

    dim: int

    def _arity(self) -> tuple[int, int]:
        return 2, 1

    def _inverse(self) -> UnfoldWeightNorm:
        return UnfoldWeightNorm(self.dim)

    def _lossy(self) -> bool:
        return True

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        g, v = shapes
        if g != _norm_shape(self, self.dim, v):
            raise self._misfit(g, f"the norms of a tensor of shape {v} have shape {_norm_shape(self, self.dim, v)}")
        return [v]


@dataclass(frozen=True, repr=False)
class UnfoldWeightNorm(Operation):
    """weight -> weight_g, weight_v, with v the weight itself and g its norms over all dimensions but `dim`."""

    dim: int

    def _arity(self) -> tuple[int, int]:
        return 1, 2

    def _inverse(self) -> FoldWeightNorm:
        return FoldWeightNorm(self.dim)

    def _lossy(self) -> bool:
        return True

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        (weight,) = shapes
        return [_norm_shape(self, self.dim, weight), weight]


@dataclass(frozen=True, repr=False)
class Trim(Operation):
    """Keep the first `after` of `before` rows along a dimension: a vocabulary without its padding. Lossy.

    >>> Trim(0, 128, 100).output_shapes([(128, 4)])
    ((100, 4),)
    """

    dim: int
    before: Size
    after: Size

    def _inverse(self) -> Pad:
        return Pad(self.dim, self.after, self.before)

    def _lossy(self) -> bool:
        return True

    def _reason(self) -> str | None:
        return _not_fewer(self.after, self.before)

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        before, after = as_ints((self.before, self.after))
        check_dim(self, self.dim, before, shapes[0])
        return [with_size(shapes[0], self.dim, after)]


@dataclass(frozen=True, repr=False)
class Pad(Operation):
    """Add rows of zeros at the end of a dimension, from `before` to `after` rows; undoes `Trim`.

    Padding alone loses nothing, but its inverse does, so a sequence with either counts as lossy.
    """

    dim: int
    before: Size
    after: Size

    def _inverse(self) -> Trim:
        return Trim(self.dim, self.after, self.before)

    def _lossy(self) -> bool:
        return True

    def _reason(self) -> str | None:
        return _not_fewer(self.before, self.after)

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        before, after = as_ints((self.before, self.after))
        check_dim(self, self.dim, before, shapes[0])
        return [with_size(shapes[0], self.dim, after)]


def _not_fewer(fewer: Size, more: Size) -> str | None:
    if isinstance(fewer, int) and isinstance(more, int) and fewer > more:
        return f"{fewer} rows are more than {more}"
    return None


def _norm_shape(operation: Operation, dim: int, shape: Shape) -> Shape:
    check_dim(operation, dim, None, shape)
    return tuple(size if at == dim else 1 for at, size in enumerate(shape))


class _Computed:
    """A number for each number; lossy by rounding."""

    def _lossy(self) -> bool:
        return True

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return shapes


@dataclass(frozen=True, repr=False)
class PlusOne(_Computed, Operation):
    """``x + 1`` of every number: the factor of a norm, where the model holds how much it differs from one.

    >>> PlusOne().output_shapes([(8,)])
    ((8,),)
    """

    def _inverse(self) -> MinusOne:
        return MinusOne()


@dataclass(frozen=True, repr=False)
class MinusOne(_Computed, Operation):
    """``x - 1`` of every number, undoes `PlusOne`."""

    def _inverse(self) -> PlusOne:
        return PlusOne()


@dataclass(frozen=True, repr=False)
class NegativeExp(_Computed, Operation):
    """``-exp(x)`` of every number: a decay, where the model holds its logarithm."""

    def _inverse(self) -> NegativeLog:
        return NegativeLog()


@dataclass(frozen=True, repr=False)
class NegativeLog(_Computed, Operation):
    """``log(-x)`` of every number, undoes `NegativeExp`."""

    def _inverse(self) -> NegativeExp:
        return NegativeExp()
