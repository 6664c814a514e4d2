"""Operations as transformers has them: without sizes, so that each is taken only where the reverse gives them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from treealign.dialects.transformers.calls import Call
from treealign.errors import MappingError
from treealign.mapping.operations import (
    Concat,
    Deinterleave,
    Interleave,
    Operation,
    Permute,
    Reorder,
    Reshape,
    RotaryPermute,
    RotaryUnpermute,
    Split,
    Stack,
    Unstack,
)

_HINT = "treealign's own load and save do it"


class Made(NamedTuple):
    """Operations of transformers, and the order in which they take the sources and give the targets."""

    calls: tuple[Call, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]


def operation_calls(operations: Sequence[Operation], sources: int, targets: int, config: Any) -> Made:
    """What transformers calls some operations.

    Parameters
    ----------
    operations : sequence of Operation
        Resolved.
    sources, targets : int
        How many patterns stand on each side.
    config : optional
        The model's config, from which transformers reads the number of heads.

    Raises
    ------
    MappingError
        transformers has no such operation, or its reverse would cut elsewhere; the message says which and why.
    """
    rest, before, after = list(operations), tuple(range(sources)), tuple(range(targets))
    if rest and _orders(rest[0], sources):
        before = rest.pop(0).order  # type: ignore[attr-defined]  # it is a Reorder
    if rest and _orders(rest[-1], targets):
        order = rest.pop().order  # type: ignore[attr-defined]  # it is a Reorder
        after = tuple(order.index(at) for at in range(len(order)))
    calls = tuple(_call(operation, config) for operation in rest)
    return Made(calls, before, after)


def _orders(operation: Operation, patterns: int) -> bool:
    """Whether it only says in which order the patterns of one side stand."""
    return isinstance(operation, Reorder) and len(operation.order) == patterns


def _call(operation: Operation, config: Any) -> Call:
    made = _joining(operation) or _turning(operation)
    if made is None and isinstance(operation, RotaryPermute | RotaryUnpermute):
        made = _rotary(operation, config)
    if made is None:
        raise MappingError(f"transformers has no operation like {operation!r}", hint=_HINT)
    return made


def _joining(operation: Operation) -> Call | None:
    match operation:
        case Stack(dim=dim):
            return Call("MergeModulelist", (("dim", dim),))
        case Unstack(dim=dim):
            return Call("SplitModulelist", (("dim", dim),))
        case Concat(dim=dim, sizes=sizes):
            _refuse_unequal(operation, _ints(sizes))
            return Call("Concatenate", (("dim", dim),))
        case Split(dim=dim, sizes=sizes):
            return Call("Chunk" if as_chunks(_ints(sizes)) else "Split", (("dim", dim),))
    return None


def _turning(operation: Operation) -> Call | None:
    match operation:
        case Permute(dims=dims):
            return _transpose(operation, dims)
        case Deinterleave(dim=dim, blocks=(1, 1)):
            return Call("Interleave", (("dim", dim),))
        case Interleave(dim=dim, blocks=(1, 1)):
            return Call("Interleave", (("dim", dim), ("inverse", True)))
        case Reshape(before=before, after=after):
            return _flattened(operation, _ints(before), _ints(after))
    return None


def _ints(sizes: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in sizes)


def as_chunks(sizes: Sequence[int]) -> bool:
    """Whether `torch.chunk` cuts the whole just there.

    >>> as_chunks((4, 4, 4)), as_chunks((4, 4, 3)), as_chunks((8, 2, 2))
    (True, True, False)
    """
    each = -(-sum(sizes) // len(sizes))
    return all(size == each for size in sizes[:-1]) and 0 < sizes[-1] <= each


def _refuse_unequal(operation: Operation, sizes: Sequence[int]) -> None:
    if not as_chunks(sizes):
        raise MappingError(
            f"transformers joins parts of {' + '.join(map(str, sizes))}, but its reverse cuts equal ones",
            facts=[repr(operation)],
            hint=_HINT,
        )


def _transpose(operation: Operation, dims: Sequence[int]) -> Call:
    moved = [at for at, dim in enumerate(dims) if at != dim]
    if len(moved) != 2:
        raise MappingError(f"transformers swaps two dimensions at a time: no {operation!r}", hint=_HINT)
    return Call("Transpose", (("dim0", moved[0]), ("dim1", moved[1])))


def _flattened(operation: Operation, before: Sequence[int], after: Sequence[int]) -> Call:
    """A convolution's kernel laid flat, or set up again."""
    name, deep, flat = (
        ("Conv3dToLinear", before, after) if len(before) > len(after) else ("LinearToConv3d", after, before)
    )
    if len(deep) != 5 or len(flat) != 2 or deep[0] != flat[0]:
        raise MappingError(f"transformers reshapes convolutions in three dimensions only: no {operation!r}", hint=_HINT)
    return Call(name, (("in_channels", deep[1]), ("kernel_size", tuple(deep[2:]))))


def _rotary(operation: RotaryPermute | RotaryUnpermute, config: Any) -> Call:
    inverse = (("inverse", True),) if isinstance(operation, RotaryUnpermute) else ()
    if operation.rotary_dim is None and operation.start == 0:
        for key in (None, *getattr(config, "sub_configs", {})):
            part = config if key is None else getattr(config, key, None)
            if getattr(part, "num_attention_heads", None) == operation.heads:
                return Call("PermuteForRope", ((("subconfig_key", key),) if key else ()) + inverse)
    raise MappingError(
        f"transformers permutes whole heads, as many as the config counts: no {operation!r}",
        facts=[] if config is not None else ["no config is at hand: pass the model"],
        hint=_HINT,
    )
