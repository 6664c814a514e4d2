"""Operations of transformers as ours: run on tensors without numbers, whose shapes give the sizes that ours carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from treealign.dialects.transformers.operation_readers import Moment, Shape, Tensors, read_operation
from treealign.errors import PatternError
from treealign.mapping.operations import Operation, output_shapes


class Sized(NamedTuple):
    """What a converter does with some tensors.

    Attributes
    ----------
    targets : dict of str to Shape
        Full names of what comes out, in the order in which the operations give it.
    operations : tuple of Operation
        From the tensors pattern by pattern in the order of the converter's sources; empty where nothing changes.
    """

    targets: Mapping[str, Shape]
    operations: tuple[Operation, ...]


def sized(rule: Any, first: str, given: Tensors, model: Any) -> Sized:
    """What a converter does with tensors of these shapes.

    Parameters
    ----------
    rule : WeightConverter
        A fresh one.
    first : str
        The name of its first target.
    given : mapping of str to sequence of Shape
        Source pattern to the tensors that were collected for it.
    model : PreTrainedModel or None
        Read by operations that ask it or its config for sizes.

    Raises
    ------
    PatternError
        It does what no operation of ours does, or fails on these shapes; the message says why.
    """
    absent = [pattern for pattern in rule.source_patterns if pattern not in given]
    tensors = {p: [_meta(shape) for shape in given[p]] for p in rule.source_patterns if p in given}
    config = getattr(model, "config", None)
    found = list[Operation]()
    for operation in _parts(rule.operations):
        before = _shapes(tensors)
        try:
            tensors = operation.convert(
                dict(tensors),
                source_patterns=rule.source_patterns,
                target_patterns=rule.target_patterns,
                full_layer_name=first,
                model=model,
                config=config,
                missing_keys=None,
            )
        except Exception as error:
            raise PatternError(_why(operation, error, model, absent)) from error
        found += read_operation(Moment(operation, before, _shapes(tensors), config))
    made = Sized(_named(tensors, first), tuple(found))
    _refuse_other_shapes(made, [shape for pattern in rule.source_patterns for shape in given.get(pattern, ())])
    return made


def _refuse_other_shapes(made: Sized, given: Sequence[Shape]) -> None:
    ours = output_shapes(made.operations, given) if made.operations else tuple(given)
    if ours != tuple(made.targets.values()):
        raise PatternError(f"ours would make {list(ours)}, and it makes {list(made.targets.values())}")


def _why(operation: Any, error: Exception, model: Any, absent: Sequence[str]) -> str:
    name = type(operation).__name__
    if model is None:
        return f"{name} asks the model: pass it"
    lacking = f"; there is no tensor for {', '.join(absent)}" if absent else ""
    said = str(error).strip().partition("\n")[0]
    return f"{name} fails on these tensors: {type(error).__name__}: {said}{lacking}"


def _parts(operations: Sequence[Any]) -> list[Any]:
    """The operations, those that only run two others as these two."""
    pairs = {
        "VisionFuseAndPermuteForRope": ("permute_op", "concat_op"),
        "VisionUnfuseAndPermuteForRope": ("chunk_op", "permute_op"),
    }
    found = list[Any]()
    for operation in operations:
        names = pairs.get(type(operation).__name__)
        found += [getattr(operation, name) for name in names] if names else [operation]
    return found


def _meta(shape: Shape) -> Any:
    return import_module("torch").empty(shape, device="meta")


def _shapes(tensors: Mapping[str, Any]) -> dict[str, list[Shape]]:
    return {
        name: [tuple(tensor.shape) for tensor in (held if isinstance(held, list) else [held])]
        for name, held in tensors.items()
    }


def _named(tensors: Mapping[str, Any], first: str) -> dict[str, Shape]:
    """The full names, as the converter finds them: around that part of the first one that an operation names."""
    full = first.replace("*.", "0.")
    part = next((name for name in tensors if name in full), None)
    before, _, after = full.partition(part) if part else ("", "", "")
    return {f"{before}{name}{after}": shapes[0] for name, shapes in _shapes(tensors).items()}
