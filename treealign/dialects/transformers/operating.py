"""Operations as transformers has them: without sizes, so that each is taken only where the reverse gives them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from treealign.dialects.transformers.calls import Call
from treealign.dialects.transformers.reshaping import reshapes, swaps
from treealign.dialects.transformers.whole_operations import whole_call
from treealign.errors import MappingError
from treealign.mapping.operations import (
    Concat,
    Deinterleave,
    Interleave,
    Keep,
    Operation,
    Parallel,
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


def operation_calls(
    operations: Sequence[Operation], sources: Sequence[str], targets: Sequence[str], config: Any
) -> Made:
    """What transformers calls some operations.

    Parameters
    ----------
    operations : sequence of Operation
        Resolved.
    sources, targets : sequence of str
        The patterns on each side; one with ``*.`` in it stands for a whole list.
    config : optional
        The model's config, from which transformers reads the number of heads.

    Raises
    ------
    MappingError
        transformers has no such operation, or its reverse would cut elsewhere; the message says which and why.
    """
    rest, before, after = list(operations), tuple(range(len(sources))), tuple(range(len(targets)))
    whole = whole_call(rest, sources, targets)
    if whole is not None:
        return Made((whole,), before, after)
    if rest and _orders(rest[0], len(sources)):
        before = rest.pop(0).order  # type: ignore[attr-defined]  # it is a Reorder
    if rest and _orders(rest[-1], len(targets)):
        order = rest.pop().order  # type: ignore[attr-defined]  # it is a Reorder
        after = tuple(order.index(at) for at in range(len(order)))
    sides = [sources[at] for at in before], [targets[at] for at in after]
    calls = (
        call
        for operation in rest
        for call in _member_calls(operation, sides) or _turning(operation) or (_call(operation, config, sides),)
    )
    return Made(tuple(calls), before, after)


def _member_calls(operation: Operation, sides: Sequence[Sequence[str]]) -> tuple[Call, ...]:
    """What stacks tensors that have a pattern each, or takes a stack apart into such: a level of one, then a join."""
    sources, targets = sides
    match operation:
        case Stack(dim=dim, count=count) if count == len(sources) > 1:
            return Call("MergeModulelist", (("dim", dim),)), Call("Concatenate", (("dim", dim),))
        case Unstack(dim=dim, count=count) if count == len(targets) > 1:
            return Call("Chunk", (("dim", dim),)), Call("SplitModulelist", (("dim", dim),))
    return ()


def _orders(operation: Operation, patterns: int) -> bool:
    """Whether it only says in which order the patterns of one side stand."""
    return isinstance(operation, Reorder) and len(operation.order) == patterns


def _call(operation: Operation, config: Any, sides: Sequence[Sequence[str]]) -> Call:
    made = _joining(operation)
    parts = operation.operations if isinstance(operation, Parallel) else (operation,)
    rotary = [part for part in parts if isinstance(part, RotaryPermute | RotaryUnpermute)]
    if made is None and rotary and all(part in rotary or isinstance(part, Keep) for part in parts):
        made = _rotary_of(parts, config, next((side for side in sides if len(side) == len(parts)), ()))
    if made is None:
        raise MappingError(f"transformers has no operation like {operation!r}", hint=_HINT)
    return made


def _joining(operation: Operation) -> Call | None:
    match operation:
        case Stack(dim=dim):
            return Call("MergeModulelist", (("dim", dim),))
        case Unstack():
            raise MappingError(
                f"transformers takes a stack apart into a list only when it saves: no {operation!r} beside others",
                hint=_HINT,
            )
        case Concat(dim=dim, sizes=sizes):
            _refuse_unequal(operation, _ints(sizes))
            return Call("Concatenate", (("dim", dim),))
        case Split(dim=dim, sizes=sizes):
            return Call("Chunk" if as_chunks(_ints(sizes)) else "Split", (("dim", dim),))
    return None


def _turning(operation: Operation) -> tuple[Call, ...]:
    """What one tensor becomes; empty where it is no such operation."""
    match operation:
        case Permute(dims=dims):
            return swaps(dims)
        case Deinterleave(dim=dim, blocks=(1, 1)):
            return (Call("Interleave", (("dim", dim),)),)
        case Interleave(dim=dim, blocks=(1, 1)):
            return (Call("Interleave", (("dim", dim), ("inverse", True))),)
        case Reshape(before=before, after=after):
            return _reshaped(operation, _ints(before), _ints(after))
    return ()


def _reshaped(operation: Reshape, before: Sequence[int], after: Sequence[int]) -> tuple[Call, ...]:
    made = reshapes(before, after)
    if not made:
        raise MappingError(
            "transformers flattens kernels of two and three dimensions, and takes one level of one in or out: "
            f"no {operation!r}",
            hint=_HINT,
        )
    return made


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


def _rotary_of(parts: Sequence[Operation], config: Any, names: Sequence[str]) -> Call:
    """One permutation of some of the tensors, told by what stands in their patterns and in no other's."""
    calls = {_rotary(part, config) for part in parts if isinstance(part, RotaryPermute | RotaryUnpermute)}
    if len(calls) > 1:
        raise MappingError("transformers permutes all rotary heads of a conversion the same way", hint=_HINT)
    (call,) = calls
    others = [name for part, name in zip(parts, names, strict=False) if isinstance(part, Keep)]
    if not others:
        return call
    turned = [name for part, name in zip(parts, names, strict=False) if not isinstance(part, Keep)]
    told = [_telling(name, others) for name in turned]
    if len(told) + len(others) < len(parts) or not all(told):
        raise MappingError("transformers tells what to permute by names, and here one holds the other", hint=_HINT)
    return Call(call.name, (*call.arguments, ("permute_layer_names", tuple(told))))


def _telling(name: str, others: Sequence[str]) -> str:
    """A segment of a pattern that no other pattern holds in it."""
    segments = [segment for segment in name.split(".") if not any(segment in other for other in others)]
    return max(segments, key=len, default="")


def _rotary(operation: RotaryPermute | RotaryUnpermute, config: Any) -> Call:
    inverse = (("inverse", True),) if isinstance(operation, RotaryUnpermute) else ()
    counts = dict[str, int]()
    for key in (None, *getattr(config, "sub_configs", {})):
        part = config if key is None else getattr(config, key, None)
        heads = getattr(part, "num_attention_heads", None)
        if heads == operation.heads and operation.rotary_dim is None and operation.start == 0:
            return Call("PermuteForRope", ((("subconfig_key", key),) if key else ()) + inverse)
        if heads is not None:
            counts[key or "the config"] = heads
    facts = [f"{place} counts {heads} heads" for place, heads in counts.items()]
    raise MappingError(
        f"transformers permutes whole heads, as many as the config counts: no {operation!r}",
        facts=facts if config is not None else ["no config is at hand"],
        hint=_HINT if config is not None else f"pass the model; {_HINT}",
    )
