"""Each operation of transformers as ours, from the shapes of the tensors before and after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from treealign.errors import MappingError, PatternError
from treealign.mapping.operations import (
    Concat,
    Deinterleave,
    Interleave,
    Join,
    Keep,
    Operation,
    Parallel,
    Permute,
    Reorder,
    Reshape,
    RotaryPermute,
    RotaryUnpermute,
    Select,
    Split,
    Stack,
    Trim,
    Unstack,
)

Shape = tuple[int, ...]
Tensors = Mapping[str, Sequence[Shape]]


class Moment(NamedTuple):
    """The tensors before and after one operation, by what transformers calls them then."""

    operation: Any
    before: Tensors
    after: Tensors
    config: Any

    @property
    def first(self) -> Shape:
        """The shape of the first tensor."""
        return next(iter(self.before.values()))[0]

    @property
    def made(self) -> list[Shape]:
        """The shapes of what came out."""
        return [shape for shapes in self.after.values() for shape in shapes]


def read_operation(moment: Moment) -> Sequence[Operation]:
    """The same as operations of ours; none where nothing changes.

    Raises
    ------
    PatternError
        We have none that do it; the message says why.
    """
    kind = type(moment.operation).__name__
    translate = KINDS.get(kind)
    if translate is not None:
        try:
            return translate(moment)
        except MappingError as error:
            raise PatternError(f"{kind}: {error.what}") from error
    raise PatternError(f"it runs {kind}, of which we have no counterpart")


def _each(moment: Moment, make: Callable[[str, Sequence[Shape]], Operation | None]) -> list[Operation]:
    """One operation for the tensors of each pattern; None leaves one as it is."""
    made = [make(name, shapes) for name, shapes in moment.before.items()]
    if not any(made):
        return []
    alike = all(operation == made[0] for operation in made)
    return [made[0]] if alike and made[0] else [Parallel(tuple(operation or Keep() for operation in made))]


def _one(moment: Moment) -> Shape:
    """The only tensor: what operations on one would silently drop of more is refused."""
    count = sum(map(len, moment.before.values()))
    if count != 1:
        raise PatternError(f"{type(moment.operation).__name__} takes the first of {count} tensors and drops the others")
    return moment.first


def _merge(moment: Moment) -> list[Operation]:
    def stack(name: str, shapes: Sequence[Shape]) -> Operation:
        return Stack(moment.operation.dim % (len(shapes[0]) + 1), len(shapes))

    return _each(moment, stack)


def _unmerge(moment: Moment) -> list[Operation]:
    def unstack(name: str, shapes: Sequence[Shape]) -> Operation:
        dim = moment.operation.dim % len(shapes[0])
        return Unstack(dim, shapes[0][dim])

    return _each(moment, unstack)


def _concatenate(moment: Moment) -> list[Operation]:
    shapes = [shape for held in moment.before.values() for shape in held]
    dim = moment.operation.dim % len(moment.first)
    return [Concat(dim, tuple(shape[dim] for shape in shapes))] if len(shapes) > 1 else []


def _split(moment: Moment) -> list[Operation]:
    dim = moment.operation.dim % len(_one(moment))
    return [Split(dim, tuple(shape[dim] for shape in moment.made))] if len(moment.made) > 1 else []


def _transpose(moment: Moment) -> list[Operation]:
    rank, operation = len(_one(moment)), moment.operation
    if operation.check_dims and moment.made == [moment.first]:
        # it looks at the model's shape, and leaves what fits as it is: a square one, too
        return []
    return [Permute.transpose(rank, operation.dim0 % rank, operation.dim1 % rank)]


def _interleave(moment: Moment) -> list[Operation]:
    dim = moment.operation.dim % len(_one(moment))
    return [(Interleave if moment.operation.inverse else Deinterleave)(dim, (1, 1))]


def _reshape(moment: Moment) -> list[Operation]:
    before, after = _one(moment), moment.made[0]
    return [Reshape(before, after)] if before != after else []


def _rotary(moment: Moment) -> list[Operation]:
    operation, config = moment.operation, moment.config
    part = getattr(config, operation.subconfig_key, config) if operation.subconfig_key is not None else config
    heads = getattr(part, "num_attention_heads", 1)
    kind = RotaryUnpermute if operation.inverse else RotaryPermute
    wanted = operation.permute_layer_names

    def turned(name: str, shapes: Sequence[Shape]) -> Operation | None:
        named = wanted is None or any(text in name for text in wanted)
        return kind(heads, shapes[0][0] // heads) if named and len(shapes[0]) in (1, 2) else None

    return _each(moment, turned)


def _towers(moment: Moment) -> list[Operation]:
    """Each list cut into as many runs as there are towers, stacked, and joined with those of the other lists."""
    towers, operation = len(moment.after), moment.operation
    runs = [_runs(len(shapes), towers) for shapes in moment.before.values()]
    stacks = [Stack(operation.stack_dim, run) for each in runs for run in each]
    order = [part * towers + tower for tower in range(towers) for part in range(len(runs))]
    joined = [shape[operation.concat_dim] for shape in moment.made]
    found: list[Operation] = [stacks[0] if len(set(stacks)) == 1 else Parallel(tuple(stacks))]
    if len(runs) > 1:
        joins = [Concat(operation.concat_dim, (size // len(runs),) * len(runs)) for size in joined]
        found += [Reorder(tuple(order)), joins[0] if len(set(joins)) == 1 else Parallel(tuple(joins))]
    return found


def _runs(count: int, towers: int) -> list[int]:
    size = -(-count // towers)
    return [min(size, count - at * size) for at in range(towers)]


def _queries(moment: Moment) -> list[Operation]:
    """Queries that take turns in two tensors, and four in one."""
    places = ((0, 3), (1, 2))
    if moment.operation.inverse:
        apart = tuple(Reshape((shape[0] // 2, 2, *shape[1:]), shape) for shape in moment.made)
        return [Select(1, places), Parallel(apart) if len(set(apart)) > 1 else apart[0]]
    given = [shape for shapes in moment.before.values() for shape in shapes]
    pairs = tuple(Reshape(shape, (shape[0] // 2, 2, *shape[1:])) for shape in given)
    return [Parallel(pairs) if len(set(pairs)) > 1 else pairs[0], Join(1, places)]


def _unpad(moment: Moment) -> list[Operation]:
    before, after = _one(moment)[0], moment.made[0][0]
    if moment.operation.inverse:
        return [Trim(0, after, before).inverse] if before != after else []
    return [Trim(0, before, after)] if before != after else []


def _dequantize(moment: Moment) -> list[Operation]:
    if sum(map(len, moment.before.values())) == 1:
        return []
    raise PatternError("it dequantizes: what it computes cannot be undone")


KINDS: dict[str, Callable[[Moment], Sequence[Operation]]] = {
    "_IdentityOp": lambda moment: (),
    "MergeModulelist": _merge,
    "SplitModulelist": _unmerge,
    "Concatenate": _concatenate,
    "Chunk": _split,
    "Split": _split,
    "Transpose": _transpose,
    "Interleave": _interleave,
    "Conv3dToLinear": _reshape,
    "LinearToConv3d": _reshape,
    "PermuteForRope": _rotary,
    "ErnieFuseAndSplitTextVisionExperts": _towers,
    "Inkling2LoopMergeMessageQueries": _queries,
    "Inkling2UnpadVocab": _unpad,
    "Inkling2LoopDequantizeExperts": _dequantize,
}
