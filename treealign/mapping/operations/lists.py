"""Operations on the list itself: which tensor comes where, and different operations for different tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from treealign.mapping.operations.base import Operation, Shape
from treealign.mapping.operations.layout import inverse_order, not_an_order


@dataclass(frozen=True, repr=False)
class Keep(Operation):
    """One tensor as it is: the place of a tensor that a `Parallel` leaves alone."""

    def _inverse(self) -> Keep:
        return self

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return shapes


@dataclass(frozen=True, repr=False)
class Reorder(Operation):
    """Put the tensors of a run in another order; output k is input ``order[k]``.

    Gate and up stacked for two towers stand as gate-text, gate-vision, up-text, up-vision;
    ``Reorder((0, 2, 1, 3))`` brings each tower's parts together, for a `Concat` to join.
    """

    order: tuple[int, ...]

    def _arity(self) -> tuple[int, int]:
        return len(self.order), len(self.order)

    def _inverse(self) -> Reorder:
        return Reorder(inverse_order(self.order))

    def _reason(self) -> str | None:
        return not_an_order(self.order) if self.order else "there is nothing to order"

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return [shapes[index] for index in self.order]


@dataclass(frozen=True, repr=False)
class Parallel(Operation):
    """Different operations for the tensors of a run: each takes its own, in turn, and gives in turn.

    q and k of a grouped-query attention in interleaved rotary order, v as it is:
    ``Parallel((RotaryPermute(8, 64), RotaryPermute(2, 64), Keep()))``.
    """

    operations: tuple[Operation, ...]

    def _arity(self) -> tuple[int, int]:
        takes, gives = zip(*(operation.arity for operation in self.operations), strict=True)
        return sum(takes), sum(gives)

    def _inverse(self) -> Parallel:
        return Parallel(tuple(operation.inverse for operation in self.operations))

    def _lossy(self) -> bool:
        return any(operation.lossy for operation in self.operations)

    def _reason(self) -> str | None:
        return None if self.operations else "there are no parts"

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        rest = shapes
        for operation in self.operations:
            taken, rest = rest[: operation.arity[0]], rest[operation.arity[0] :]
            yield from operation.output_shapes(taken)
