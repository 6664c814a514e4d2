"""Numbers, not names: whether a match with operations computes what the gold says, run on numbered elements.

What neither the label of a group nor its rows tell exactly (`rearrange`) cannot be compared. A label `rows` takes the
rows that the group lists; `axes:…+` before it puts the checkpoint's dimensions in another order first, `+permute:…`
behind it those of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from cases import Case, Group, Runs

from treealign import ConversionMapping, Convert

MOST = 40_000_000  # elements of one group
Shapes = dict[str, tuple[int, ...]]


def computes(match: Any, group: Group, case: Case) -> bool | None:
    """Whether a match computes what the group says; None where that cannot be told."""
    here, there = ({leaf[0]: tuple(leaf[1]) for leaf in side} for side in (case.checkpoint, case.model))
    keys = list(dict.fromkeys([*match.checkpoint, *group.checkpoint]))
    fewer = sum(prod(here[key]) for key in keys) > MOST
    if fewer:
        if (thin := thinned(here, there, keys, group.model)) is None:
            return None
        here, there = thin
    tensors = numbered(keys, here)
    truth = wanted(group, [tensors[key] for key in group.checkpoint], there)
    if truth is None:
        return None
    made = _made(match, tensors)
    if fewer and not made:  # an operation that knows how many columns there are
        return None
    both = [key for key in truth if key in made]
    return bool(both) and all(_equal(made[key], truth[key]) for key in both)


def numbered(keys: Sequence[str], shapes: Shapes) -> dict[str, Any]:
    """A tensor for each key, no element of which occurs twice."""
    import torch

    found, start = {}, 0
    for key in keys:
        size = prod(shapes[key])
        found[key] = torch.arange(start, start + size, dtype=torch.float64).reshape(shapes[key])
        start += size
    return found


def thinned(
    here: Shapes, there: Shapes, checkpoint: Sequence[str], model: Sequence[str]
) -> tuple[Shapes, Shapes] | None:
    """Shapes with two columns where all keys have equally many: enough for what moves rows, and for no more.

    None where the columns differ. What would move columns does not give these shapes, or knows how many there were.
    """
    shapes = [*(here[key] for key in checkpoint), *(there[key] for key in model)]
    if len({shape[-1:] for shape in shapes}) != 1 or min(map(len, shapes)) < 2:
        return None
    cut = [{key: (*shapes[key][:-1], 2) for key in keys} for shapes, keys in ((here, checkpoint), (there, model))]
    return cut[0], cut[1]


def _made(match: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    if not match.operations:
        return {match.model[0]: tensors[match.checkpoint[0]]}
    mapping = ConversionMapping([Convert(tuple(match.checkpoint), tuple(match.model), tuple(match.operations))])
    try:
        return dict(mapping.apply({key: tensors[key] for key in match.checkpoint}))
    except Exception:  # whatever cannot be run is wrong
        return {}


def _equal(a: Any, b: Any) -> bool:
    return tuple(a.shape) == tuple(b.shape) and bool((a == b).all())


def wanted(group: Group, tensors: Sequence[Any], there: Shapes) -> dict[str, Any] | None:
    """What the model's keys hold by the rows of the group or by its label; None where neither tells."""
    first, operation = group.model[0], group.operation
    if group.rows is not None:
        return {key: _of_rows(operation, runs, tensors, there[key]) for key, runs in group.rows.items()}
    if operation in ("copy", "tie", "rename"):
        return dict.fromkeys(group.model, tensors[0])
    if operation.startswith("transpose+"):
        tensors = [t.T if t.dim() == 2 else t for t in tensors]
        operation = operation.removeprefix("transpose+")
    if operation == "transpose" or operation.startswith("permute:"):
        turned = _turned(operation, tensors[0])
        return {first: turned} if tuple(turned.shape) == there[first] else None
    if operation in ("reshape", "concat+reshape"):
        import torch

        return {first: (torch.cat(list(tensors)) if len(tensors) > 1 else tensors[0]).reshape(there[first])}
    name, _, dim = operation.partition(":")
    return _joined_or_cut(group, name, int(dim), tensors, there) if dim.isdigit() else None


def _turned(operation: str, tensor: Any) -> Any:
    if operation != "transpose":
        return tensor.permute(*map(int, operation.removeprefix("permute:").split(",")))
    return tensor.transpose(-1, -2) if tensor.dim() > 1 else tensor


def _of_rows(operation: str, runs: Runs, tensors: Sequence[Any], shape: Sequence[int]) -> Any:
    import torch

    before, _, after = operation.partition("rows")
    if before:
        tensors = [_turned(f"permute:{before[5:-1]}", tensor) for tensor in tensors]
    flat = [tensor.reshape(len(tensor), -1) for tensor in tensors]
    rows = torch.cat([flat[part][[first + n * step for n in range(count)]] for part, first, count, step in runs])
    if not after:
        return rows.reshape(tuple(shape))
    dims = [int(dim) for dim in after.removeprefix("+permute:").split(",")]
    return rows.reshape([shape[dims.index(dim)] for dim in range(len(dims))]).permute(dims)


def _joined_or_cut(group: Group, name: str, dim: int, tensors: Sequence[Any], there: Shapes) -> dict[str, Any] | None:
    import torch

    if name == "split":
        sizes = [there[key][dim] for key in group.model]
        fits = sum(sizes) == tensors[0].shape[dim]
        return dict(zip(group.model, tensors[0].split(sizes, dim), strict=True)) if fits else None
    if name == "unstack":
        return dict(zip(group.model, tensors[0].unbind(dim), strict=True))
    joins = {"concat": torch.cat, "stack": torch.stack}
    return {group.model[0]: joins[name](list(tensors), dim)} if name in joins else None
