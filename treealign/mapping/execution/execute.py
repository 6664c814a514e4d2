"""Operations on torch tensors: the only tensor arithmetic of treealign.

Every operation but the weight-norm folds moves elements and changes none, so it is carried out by copying between
strided views of what goes in and what comes out; nothing else is allocated. `run` gives views of its input wherever an
operation allows that. Operations that join tensors run backwards: the views are taken of the result, by the inverse
operations, and each tensor is copied to its place. A stack followed by a concat then needs no stack in between, and
`run_into` needs no memory at all beyond the one tensor being copied.

Any device, the meta device included, and any dtype that torch can copy; bytes stay as they are, NaN payloads too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from treealign.errors import MappingError
from treealign.mapping.execution.moves import COMPUTING, copy_bytes, moved
from treealign.mapping.execution.views import shares, views
from treealign.mapping.operations import (
    Operation,
    Parallel,
    Reorder,
    Shape,
    invert,
    is_lossy,
    output_shapes,
)

Kind: TypeAlias = tuple[torch.dtype, torch.device]


class Move(NamedTuple):
    """A run of `length` elements: from an element of an input to an element of an output."""

    source: int
    begin: int
    target: int
    at: int
    length: int


@torch.no_grad()
def run(operations: Sequence[Operation], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Apply resolved operations left to right to a list of tensors.

    Parameters
    ----------
    operations : sequence of Operation
        With plain ints for sizes; none gives the tensors as they are.
    tensors : sequence of Tensor
        In the order in which the first operation takes them. None is changed.

    Returns
    -------
    list of Tensor
        They may be views of the given ones, and need not be contiguous.

    Raises
    ------
    MappingError
        The tensors do not fit the operations, or differ in dtype or device where they are to be joined.
    """
    expected(operations, tensors)
    current, rest = [tensor.detach() for tensor in tensors] if operations else list(tensors), tuple(operations)
    while rest:
        done, current = _advance(rest, current)
        rest = rest[done:]
    return current


@torch.no_grad()
def run_into(
    operations: Sequence[Operation], tensors: Iterable[Tensor], outputs: Sequence[Tensor], *, cast: bool = False
) -> None:
    """Apply resolved operations and leave the results in existing tensors: the parameters of a model.

    Where operations only join, stack and permute, each tensor is copied straight to its place as it comes, so that an
    iterator which reads them from a file one by one keeps one in memory. They may come from another device.

    Parameters
    ----------
    operations : sequence of Operation
        With plain ints for sizes.
    tensors : iterable of Tensor
        In the order in which the first operation takes them.
    outputs : sequence of Tensor
        What to fill, in the order in which the last operation gives them.
    cast : bool
        Take tensors of another dtype than the outputs, and round as torch does. Without it they are refused.

    Raises
    ------
    MappingError
        Shapes, dtypes or numbers of tensors do not agree. With an iterator, some outputs may be filled by then.
    """
    places = _places(operations, outputs)
    if places is None:
        tensors, places = run(operations, list(tensors)), list(outputs)
    for place, tensor in _paired(places, tensors, cast):
        copy_bytes(place, tensor)


@torch.no_grad()
def byte_moves(operations: Sequence[Operation], shapes: Sequence[Shape]) -> list[Move] | None:
    """The operations as moves of runs of elements, where whole inputs or whole outputs stay in one piece; else None.

    Experts that are stacked, rows that are split or joined: what these do to memory a copy of files can do.

    Parameters
    ----------
    operations : sequence of Operation
        With plain ints for sizes.
    shapes : sequence of tuple of int
        Of the inputs, all of one dtype.

    Raises
    ------
    MappingError
        The shapes do not fit the operations.
    """
    inputs = [torch.empty(shape, device="meta") for shape in shapes]
    outputs = expected(operations, inputs)
    given = run_views(operations, inputs)
    if given is not None and all(tensor.is_contiguous() for tensor in given):
        return [Move(at, offset, to, 0, n) for to, (at, offset, n) in enumerate(_within(given, inputs))]
    places = _places(operations, outputs)
    if places is not None and all(place.is_contiguous() for place in places) and _cover(places, outputs):
        return [Move(at, 0, to, offset, n) for at, (to, offset, n) in enumerate(_within(places, outputs))]
    return None


def run_views(operations: Sequence[Operation], tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """As `run`, where all results are views of the given tensors; None where they are not."""
    given: list[Tensor] | None = list(tensors)
    for operation in operations:
        given = views(operation, given) if given is not None else None
    return given


def dense_places(operations: Sequence[Operation], outputs: Sequence[Tensor]) -> list[Tensor] | None:
    """Where in the outputs each input belongs, as views, if each fills one run of memory and together they fill all.

    Parameters
    ----------
    operations : sequence of Operation
        With plain ints for sizes.
    outputs : sequence of Tensor
        Contiguous, as on the meta device: nothing is written to them.
    """
    places = _places(operations, outputs)
    if places is None or not _cover(places, outputs):
        return None
    return places if all(map(_is_dense, places)) else None


def _is_dense(place: Tensor) -> bool:
    """Whether the elements fill a run of memory, in whatever order of the dimensions."""
    width = 1
    for stride, size in sorted(zip(place.stride(), place.shape, strict=True)):
        if size > 1 and stride != width:
            return False
        width *= size
    return True


def _cover(places: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Whether the places, which do not overlap, are all there is of the outputs."""
    return sum(place.numel() for place in places) == sum(output.numel() for output in outputs)


def _within(views_of: Sequence[Tensor], bases: Sequence[Tensor]) -> Iterator[tuple[int, int, int]]:
    """Of each view: which tensor it is a view of, from which element on, and how many there are."""
    number = {base.untyped_storage()._cdata: at for at, base in enumerate(bases)}
    return ((number[v.untyped_storage()._cdata], int(v.storage_offset()), v.numel()) for v in views_of)


def expected(operations: Sequence[Operation], tensors: Sequence[Tensor]) -> list[Tensor]:
    """What `run` would give, as empty tensors on the meta device: shapes and dtypes, at no cost.

    Raises
    ------
    MappingError
        As `run` does.
    """
    shapes = output_shapes(operations, [tuple(tensor.shape) for tensor in tensors])
    kinds = _final_kinds(operations, tensors)
    try:
        return [torch.empty(s, dtype=dtype, device="meta") for s, (dtype, _) in zip(shapes, kinds, strict=True)]
    except (TypeError, RuntimeError) as error:  # sizes beyond 64 bits
        raise MappingError("no tensor is of these shapes", facts=map(str, shapes)) from error


def _final_kinds(operations: Sequence[Operation], tensors: Sequence[Tensor]) -> list[Kind]:
    kinds = [(tensor.dtype, tensor.device) for tensor in tensors]
    for operation in operations:
        kinds = _kinds(operation, kinds)
    return kinds


def _kinds(operation: Operation, kinds: list[Kind]) -> list[Kind]:
    given: list[Kind] = []
    for taken in operation.runs(kinds):
        if isinstance(operation, Parallel):
            given += [kind for part, own in shares(operation, taken) for kind in _kinds(part, list(own))]
        elif isinstance(operation, Reorder):
            given += [taken[index] for index in operation.order]
        else:
            given += [_one_kind(operation, taken)] * operation.arity[1]
    return given


def _one_kind(operation: Operation, kinds: Sequence[Kind]) -> Kind:
    if len(set(kinds)) > 1:
        facts = sorted({f"{dtype} on {device}" for dtype, device in kinds})
        raise MappingError(f"{operation!r} joins tensors of different kinds", facts=facts)
    dtype = kinds[0][0]
    if isinstance(operation, COMPUTING) and not dtype.is_floating_point:
        raise MappingError(f"{operation!r} computes numbers that {dtype} cannot hold")
    return kinds[0]


def _paired(places: Sequence[Tensor], tensors: Iterable[Tensor], cast: bool) -> Iterator[tuple[Tensor, Tensor]]:
    given = iter(tensors)
    for at, place in enumerate(places):
        tensor = next(given, None)
        if tensor is None:
            raise MappingError(f"{len(places)} tensors are needed, {at} were given")
        if tensor.shape != place.shape or not (cast or tensor.dtype == place.dtype):
            raise MappingError(f"tensor {at} does not fit", facts=[f"given {_kind(tensor)}", f"needed {_kind(place)}"])
        yield place, tensor
    if next(given, None) is not None:
        raise MappingError(f"{len(places)} tensors are needed, more were given")


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"


def _advance(operations: tuple[Operation, ...], tensors: list[Tensor]) -> tuple[int, list[Tensor]]:
    """Carry out the first operation, or as many as go at once; how many, and what they give."""
    first = operations[0]
    free = views(first, tensors)
    if free is not None:
        return 1, free
    for end in range(len(operations), 0, -1):
        gathered = _gathered(operations[:end], tensors)
        if gathered is not None:
            return end, gathered
    return 1, [result for taken in first.runs(tensors) for result in _moved(first, taken)]


def _moved(operation: Operation, taken: Sequence[Tensor]) -> list[Tensor]:
    if isinstance(operation, Parallel):
        return [result for part, own in shares(operation, taken) for result in run((part,), own)]
    return moved(operation, taken)


def _gathered(operations: Sequence[Operation], tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """What operations that join tensors give, each tensor copied once; None for operations of another kind."""
    # the meta device tells whether every tensor has a place, before memory is taken
    outputs = expected(operations, tensors)
    if _places(operations, outputs) is None:
        return None
    devices = [device for _, device in _final_kinds(operations, tensors)]
    results = [torch.empty_like(output, device=device) for output, device in zip(outputs, devices, strict=True)]
    for place, tensor in zip(_places(operations, results) or (), tensors, strict=True):
        copy_bytes(place, tensor)
    return results


def _places(operations: Sequence[Operation], outputs: Sequence[Tensor]) -> list[Tensor] | None:
    """Where in the outputs each input belongs, as views; None where it has no such place."""
    if is_lossy(operations):
        return None
    places: list[Tensor] | None = list(outputs)
    for operation in invert(operations):
        if places is None:
            return None
        operation.output_shapes([tuple(place.shape) for place in places])
        places = views(operation, places)
    return places
