"""Small numbers to run a conversion on, where the tensors that it is for are too large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from math import prod
from typing import Any

from treealign.errors import MappingError
from treealign.mapping.operations import output_shapes
from treealign.mapping.planning import Step

MOST_NUMBERS = 20_000_000  # of one conversion


def shrunk(step: Step, shapes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Shapes of the sources of a step with two of each dimension to which its operations are indifferent."""
    for dim in range(max(map(len, shapes))):
        smaller = [(*s[:dim], min(s[dim], 2), *s[dim + 1 :]) if dim < len(s) else s for s in shapes]
        try:
            output_shapes(step.operations, smaller)
        except MappingError:
            continue
        shapes = smaller
    return shapes


def are_few(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether tensors of these shapes are quickly converted."""
    return sum(map(prod, shapes)) <= MOST_NUMBERS


def counted(step: Step, shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[str, Any]]:
    """Each source of a step with a tensor of its shape; no number stands in two places."""
    torch, total = import_module("torch"), 0
    for key, shape in zip(step.sources, shapes, strict=True):
        yield key, torch.arange(total, total + prod(shape)).reshape(shape)
        total += prod(shape)


def samples(steps: Iterable[Step], shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[Step, list[tuple[int, ...]]]]:
    """One group of each kind of conversion, and shapes for it as small as its operations allow, where they are few."""
    found: dict[Any, Step] = {}
    for step in steps:
        if step.operations:
            # two transforms that do the same are two rules
            found.setdefault((step.operations, step.transforms, tuple(shapes[key] for key in step.sources)), step)
    small = [(step, shrunk(step, [shapes[key] for key in step.sources])) for step in found.values()]
    return [(step, sizes) for step, sizes in small if are_few(sizes)]
