"""The groups of keys that a converter of transformers takes, with what it does to them, proved on numbers.

It is run on tensors without numbers, whose shapes give the sizes that our operations carry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from treealign.dialects.samples import are_few, counted, shrunk
from treealign.dialects.transformers.collecting import Names, Taken, fresh
from treealign.dialects.transformers.operations import read_operation
from treealign.dialects.transformers.proving import load, save
from treealign.dialects.transformers.single_operations import Moment, Shape, Tensors
from treealign.dialects.transformers.skeleton import Part
from treealign.errors import PatternError
from treealign.mapping import execution
from treealign.mapping.operations import Operation, output_shapes
from treealign.mapping.planning import Step


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
    made_up = partial(import_module("torch").empty, device="meta")
    tensors = {p: [*map(made_up, given[p])] for p in rule.source_patterns if p in given}
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


_FEW_NUMBERS = 200_000


class Group(NamedTuple):
    """Keys that are converted together.

    Attributes
    ----------
    keys, names : tuple of str
        In the checkpoint, and as the converter meets them; in the order in which the operations take them.
    shapes : tuple of Shape
        Theirs.
    made : dict of str to Shape
        What comes out.
    operations : tuple of Operation
        Empty where nothing changes.
    """

    keys: tuple[str, ...]
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    made: Mapping[str, Shape]
    operations: tuple[Operation, ...]

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of what comes out."""
        return tuple(self.made)


def groups_of(
    rule: Any, taken: Sequence[Taken], names: Names, shapes: Mapping[str, Shape | None], model: Any
) -> list[Group]:
    """All groups of one converter.

    Raises
    ------
    PatternError
        One of them is converted in a way that we have no operations for.
    """
    return [_group(fresh(rule), each, names, shapes, model) for each in taken]


def _group(rule: Any, taken: Taken, names: Names, shapes: Mapping[str, Shape | None], model: Any) -> Group:
    keys = [key for pattern in rule.source_patterns for key in taken.keys.get(pattern, ())]
    given = {pattern: [_shape(shapes, key) for key in found] for pattern, found in taken.keys.items()}
    made = sized(rule, taken.first, given, model)
    operations = made.operations
    flat = tuple(_shape(shapes, key) for key in keys)
    if not operations and len(keys) != 1:
        raise PatternError(f"it makes {len(made.targets)} tensors of {len(keys)} by no operation")
    return Group(tuple(keys), tuple(names[key] for key in keys), flat, made.targets, operations)


def _shape(shapes: Mapping[str, Shape | None], key: str) -> Shape:
    shape = shapes[key]
    if shape is None:
        raise PatternError(f"it takes its sizes from the tensors, and the shape of {key} is not known")
    return shape


def refuse_other_numbers(
    rule: Any, groups: Sequence[Group], parts: Mapping[str, Part], rules: Sequence[Any] = ()
) -> list[str]:
    """Run both sides on numbers, one group of each kind, and raise where they differ.

    `rules` are those among which it stands: of several copies for several parts, one may match and another convert.

    Returns
    -------
    list of str
        What transformers itself does not undo when it saves.

    Raises
    ------
    PatternError
        transformers loads other numbers than ours.
    """
    kinds = {(group.operations, group.shapes): group for group in groups if group.operations}
    alike = [other for other in rules if other is rule or _shares_patterns(other, rule)] or [rule]
    notes = [note for group in kinds.values() if (note := _numbers(rule, group, parts, alike))]
    return list(dict.fromkeys(notes))


def _shares_patterns(one: Any, other: Any) -> bool:
    both_convert = hasattr(one, "operations") and hasattr(other, "operations")
    return both_convert and not {*one.source_patterns}.isdisjoint(other.source_patterns)


def _numbers(rule: Any, group: Group, parts: Mapping[str, Part], rules: Sequence[Any]) -> str:
    step = Step(group.names, group.targets, group.operations)
    shapes = _fewer(step, rule, list(group.shapes))
    if not are_few(shapes):
        return ""
    torch, state = import_module("torch"), dict(counted(step, shapes))
    made = execution.run(group.operations, list(state.values()))
    wanted = dict(zip(step.targets, made, strict=True))
    sizes = {key: tuple(tensor.shape) for key, tensor in wanted.items()}
    model, _ = load([fresh(each) for each in rules], state, sizes, parts)
    loaded = dict(model.state_dict())
    other = [key for key, tensor in wanted.items() if not torch.equal(tensor, loaded[key])]
    if other:
        raise PatternError(f"transformers makes other numbers than ours, in {other[0]}")
    return _not_undone(torch, model, loaded, state)


def _not_undone(torch: Any, model: Any, loaded: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    try:
        saved = save(model, loaded)
    except Exception as error:
        return f"transformers cannot undo it: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    gone = [key for key in state if key not in saved]
    other = [key for key, tensor in state.items() if key in saved and not torch.equal(tensor, saved[key])]
    if not gone and not other:
        return ""
    return f"transformers does not undo it: saving {f'loses {gone[0]}' if gone else f'changes {other[0]}'}"


def _fewer(step: Step, rule: Any, shapes: list[Shape]) -> list[Shape]:
    """Small shapes in place of large ones, but where the operation looks whether a shape fits."""
    looks = any(getattr(operation, "check_dims", False) for operation in rule.operations)
    few = sum(map(_count, shapes)) <= _FEW_NUMBERS
    return shapes if looks or few else shrunk(step, shapes)


def _count(shape: Shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
