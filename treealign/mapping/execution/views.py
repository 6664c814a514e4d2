"""Operations that need no copy: what they give are strided views of what they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from treealign.mapping.operations import (
    Keep,
    Operation,
    Parallel,
    Permute,
    Reorder,
    Reshape,
    Select,
    Split,
    Trim,
    Unstack,
    offsets,
)


def views(operation: Operation, tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """What the operation gives, as views of the tensors; None where that cannot be.

    The shapes must fit: nothing is checked here.
    """
    given: list[Tensor] = []
    for run in operation.runs(tensors):
        made = _run_views(operation, run)
        if made is None:
            return None
        given += made
    return given


def shares(operation: Parallel, run: Sequence[Any]) -> Iterator[tuple[Operation, Sequence[Any]]]:
    """Each part of a `Parallel`, and the items of one run that it takes."""
    starts = offsets(tuple(part.arity[0] for part in operation.operations))
    for part, start in zip(operation.operations, starts, strict=True):
        yield part, run[start : start + part.arity[0]]


def _run_views(operation: Operation, run: Sequence[Tensor]) -> list[Tensor] | None:
    if isinstance(operation, Reorder):
        return [run[index] for index in operation.order]
    if isinstance(operation, Parallel):
        made = [views(part, own) for part, own in shares(operation, run)]
        found = [part for part in made if part is not None]
        return [view for part in found for view in part] if len(found) == len(made) else None
    make = _VIEWS.get(type(operation))
    return make(operation, run[0]) if make else None


def _split(operation: Any, tensor: Tensor) -> list[Tensor]:
    starts = offsets(operation.sizes)
    return [tensor.narrow(operation.dim, *cut) for cut in zip(starts, operation.sizes, strict=True)]


def _select(operation: Any, tensor: Tensor) -> list[Tensor] | None:
    cuts = [(part[0], len(part)) for part in operation.indices]
    if any(part != tuple(range(at, at + size)) for part, (at, size) in zip(operation.indices, cuts, strict=True)):
        return None
    return [tensor.narrow(operation.dim, *cut) for cut in cuts]


def _reshape(operation: Any, tensor: Tensor) -> list[Tensor] | None:
    try:
        return [tensor.view(operation.after)]
    except RuntimeError:  # torch offers no question whether strides allow it, only the attempt
        return None


# narrow and select rather than split and unbind: views of several at once may not be written to under autograd
_VIEWS: dict[type[Operation], Callable[[Any, Tensor], list[Tensor] | None]] = {
    Keep: lambda _, tensor: [tensor],
    Split: _split,
    Unstack: lambda operation, tensor: [tensor.select(operation.dim, at) for at in range(operation.count)],
    Select: _select,
    Permute: lambda operation, tensor: [tensor.permute(operation.dims)],
    Reshape: _reshape,
    Trim: lambda operation, tensor: [tensor.narrow(operation.dim, 0, operation.after)],
}
