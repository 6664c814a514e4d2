"""Sequences of operations, applied left to right on one flat list of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from treealign.errors import PatternError
from treealign.mapping.operations.base import Operation, Shape, from_json
from treealign.mapping.operations.sizes import Captures


def invert(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The sequence that undoes this one: inverses in the opposite order."""
    return tuple(operation.inverse for operation in reversed(operations))


def output_shapes(operations: Sequence[Operation], shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """Shapes after all operations; without operations, the given ones.

    Raises
    ------
    MappingError
        An operation does not fit what reaches it.
    """
    current = tuple(tuple(shape) for shape in shapes)
    for operation in operations:
        current = operation.output_shapes(current)
    return current


def output_count(operations: Sequence[Operation], count: int) -> int:
    """How many tensors come of `count`.

    Raises
    ------
    MappingError
        An operation cannot consume what reaches it in whole runs.
    """
    for operation in operations:
        count = len(operation.runs(range(count))) * operation.arity[1]
    return count


def resolve(operations: Sequence[Operation], captures: Captures) -> tuple[Operation, ...]:
    """The sequence with plain ints in place of size tables.

    Raises
    ------
    MappingError
        A table has no size for these captures.
    """
    return tuple(operation.resolve(captures) for operation in operations)


def is_lossy(operations: Sequence[Operation]) -> bool:
    """Whether the inverse gives something other than the bytes that went in."""
    return any(operation.lossy for operation in operations)


def sequence_to_json(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    """As plain JSON."""
    return [operation.to_json() for operation in operations]


def sequence_from_json(data: Any) -> tuple[Operation, ...]:
    """Sequence from `sequence_to_json`.

    Raises
    ------
    PatternError
        The data is no list, or an item is no operation.
    """
    if not isinstance(data, list):
        raise PatternError("operations cannot be read", facts=[repr(data)], hint="they stand in a list")
    return tuple(from_json(item) for item in data)
