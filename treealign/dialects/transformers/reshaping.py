"""Permutations and reshapes as the few operations of transformers make them: swaps, levels of one, flat kernels.

`MergeModulelist` of a list of one puts a level of one in, and stands first, for later it passes tensors through;
`SplitModulelist` takes such a level away. `Conv3dToLinear` flattens five dimensions to two, and its reverse sets them
up again. Both keep the first dimension, so that five, four and two dimensions become each other, but not three.
"""

from __future__ import annotations

from collections.abc import Sequence

from treealign.dialects.transformers.calls import Call

_DEEP = 5


def swaps(dims: Sequence[int]) -> tuple[Call, ...]:
    """A permutation of dimensions as exchanges of two at a time.

    >>> [call.arguments for call in swaps((2, 0, 1))]
    [(('dim0', 0), ('dim1', 2)), (('dim0', 1), ('dim1', 2))]
    """
    order, calls = list(range(len(dims))), list[Call]()
    for at, dim in enumerate(dims):
        other = order.index(dim)
        if other != at:
            order[at], order[other] = order[other], order[at]
            calls.append(Call("Transpose", (("dim0", at), ("dim1", other))))
    return tuple(calls)


def reshapes(before: Sequence[int], after: Sequence[int]) -> tuple[Call, ...]:
    """What makes one shape of the other and can be undone; nothing where there is no such thing.

    >>> [call.name for call in reshapes((8, 3, 2, 2), (8, 12))]
    ['MergeModulelist', 'Conv3dToLinear']
    >>> [call.name for call in reshapes((1, 8, 4), (8, 4))]
    ['SplitModulelist']
    """
    level = _level(before, after)
    if level is not None:
        return (Call("SplitModulelist" if len(before) > len(after) else "MergeModulelist", (("dim", level),)),)
    if (
        before[:1] != after[:1]
        or not {len(before), len(after)} <= {2, _DEEP - 1, _DEEP}
        or len(before) + len(after) < 6
    ):
        return ()
    flat, deep = (_kernel("Conv3dToLinear", before), _kernel("LinearToConv3d", after))
    return (*_levels("MergeModulelist", before), *flat, *deep, *_levels("SplitModulelist", after))


def _level(before: Sequence[int], after: Sequence[int]) -> int | None:
    """Where one shape has a dimension of one more than the other, which is the same but for that."""
    longer, shorter = sorted((tuple(before), tuple(after)), key=len, reverse=True)
    if len(longer) != len(shorter) + 1:
        return None
    return next((n for n, size in enumerate(longer) if size == 1 and longer[:n] + longer[n + 1 :] == shorter), None)


def _levels(name: str, shape: Sequence[int]) -> tuple[Call, ...]:
    return (Call(name, (("dim", 2),)),) if len(shape) == _DEEP - 1 else ()


def _kernel(name: str, shape: Sequence[int]) -> tuple[Call, ...]:
    if len(shape) == 2:
        return ()
    sizes = (1,) * (_DEEP - len(shape)) + tuple(shape[2:])
    return (Call(name, (("in_channels", shape[1]), ("kernel_size", sizes))),)
