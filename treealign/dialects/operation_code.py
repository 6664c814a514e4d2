"""Operations as Python that needs nothing but torch: an expression on a list of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from treealign.errors import MappingError
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
    Unstack,
    head_layout,
)
from treealign.mapping.operations.base import as_ints

# what the expressions call
EACH = '''
def each(tensors, count, do):
    """What `do` makes of each run of `count` tensors, one after the other."""
    return [made for at in range(0, len(tensors), count) for made in do(tensors[at : at + count])]
'''


def code(operations: tuple[Operation, ...], given: str) -> str:
    """An expression for a list of tensors, from that of the list they are made of.

    Raises
    ------
    MappingError
        Sizes are not resolved, or an operation has no such code.
    """
    for operation in operations:
        given = _one(operation, given)
    return given


def _one(operation: Operation, given: str) -> str:
    if operation.capture_names:
        raise MappingError("sizes that differ from group to group are not written as code", facts=[repr(operation)])
    takes = operation.arity[0]
    if isinstance(operation, Parallel):
        parts, at = [], 0
        for inner in operation.operations:
            parts.append(f"*{code((inner,), f't[{at}:{at + inner.arity[0]}]')}")
            at += inner.arity[0]
        return f"each({given}, {takes}, lambda t: [{', '.join(parts)}])"
    kind = type(operation)
    if kind in _SEVERAL:
        return f"each({given}, {takes}, lambda t: {_SEVERAL[kind](operation)})"
    single = _SINGLE[kind](operation) if kind in _SINGLE else ""
    if not single:
        raise MappingError(
            "this operation is not written as code",
            facts=[repr(operation)],
            hint="treealign's own load and save do it",
        )
    return given if single == "x" else f"[{single} for x in {given}]"


def _concat(operation: Concat) -> str:
    return f"[torch.cat(t, {operation.dim})]"


def _stack(operation: Stack) -> str:
    return f"[torch.stack(t, {operation.dim})]"


def _split(operation: Split) -> str:
    return f"t[0].split({list(operation.sizes)}, {operation.dim})"


def _unstack(operation: Unstack) -> str:
    return f"t[0].unbind({operation.dim})"


def _reorder(operation: Reorder) -> str:
    return f"[t[k] for k in {list(operation.order)}]"


def _select(operation: Select) -> str:
    rows = f"t[0].index_select({operation.dim}, torch.tensor(part, device=t[0].device))"
    return f"[{rows} for part in {list(map(list, operation.indices))}]"


def _join(operation: Join) -> str:
    flat = [index for part in operation.indices for index in part]
    order = sorted(range(len(flat)), key=flat.__getitem__)
    rows = f"torch.tensor({order}, device=t[0].device)"
    return f"[torch.cat(t, {operation.dim}).index_select({operation.dim}, {rows})]"


def _deinterleave(operation: Deinterleave) -> str:
    dim, blocks = operation.dim, as_ints(operation.blocks)
    parts = f"x.unflatten({dim}, (-1, {sum(blocks)})).split({list(blocks)}, {dim + 1})"
    return f"torch.cat([part.flatten({dim}, {dim + 1}) for part in {parts}], {dim})"


def _interleave(operation: Interleave) -> str:
    dim, blocks = operation.dim, as_ints(operation.blocks)
    turns = f"x.shape[{dim}] // {sum(blocks)}"
    parts = f"zip(x.split([{turns} * n for n in {list(blocks)}], {dim}), {list(blocks)})"
    return f"torch.cat([p.unflatten({dim}, (-1, n)) for p, n in {parts}], {dim + 1}).flatten({dim}, {dim + 1})"


def _rotary(operation: RotaryPermute | RotaryUnpermute) -> str:
    heads, rows, start, end = head_layout(operation)
    pairs = "(-1, 2)" if isinstance(operation, RotaryPermute) else "(2, -1)"
    turned = f"h[:, {start}:{end}].unflatten(1, {pairs}).transpose(1, 2).flatten(1, 2)"
    joined = f"torch.cat([h[:, :{start}], {turned}, h[:, {end}:]], 1)"
    return f"(lambda h: {joined}.flatten(0, 1))(x.unflatten(0, ({heads}, {rows})))"


_SEVERAL: dict[type[Operation], Callable[[Any], str]] = {
    Concat: _concat,
    Stack: _stack,
    Split: _split,
    Unstack: _unstack,
    Reorder: _reorder,
    Select: _select,
    Join: _join,
}
_SINGLE: dict[type[Operation], Callable[[Any], str]] = {
    Keep: lambda _: "x",
    Permute: lambda operation: f"x.permute({list(operation.dims)})",
    Reshape: lambda operation: f"x.reshape({list(operation.after)})",
    Deinterleave: _deinterleave,
    Interleave: _interleave,
    RotaryPermute: _rotary,
    RotaryUnpermute: _rotary,
}
