"""What a run returns, as a list of tensors, and how far two such lists are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from treealign.errors import TreealignError
from treealign.run.recorder import named_tensors

ENOUGH = 30.0  # bits: one in a thousand million, and some hundred mappings are tried


def tensors_of(result: Any) -> list[torch.Tensor]:
    """The tensors of a result in order, of a ModelOutput `logits`, else `last_hidden_state`, else all.

    >>> [t.shape[0] for t in tensors_of({"a": torch.zeros(2), "b": [torch.zeros(3), None]})]
    [2, 3]
    """
    return [tensor.detach() for _, tensor in named_tensors(result)]


def paired(original: Any, model: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The tensors of both results, one for one: by name where both have the same names, else by position.

    Raises
    ------
    TreealignError
        They are not as many, of unlike shapes, or none.
    """
    left, right = named_tensors(original), named_tensors(model)
    names = [name for name, _ in left]
    if set(names) == {name for name, _ in right} and len(set(names)) == len(names):
        there = dict(right)
        right = [(name, there[name]) for name in names]
    sides = [tensor.detach() for _, tensor in left], [tensor.detach() for _, tensor in right]
    if not all(sides) or len(left) != len(right):
        raise TreealignError(
            "the runs of the two sides do not return the same number of tensors",
            facts=[f"original: {_shapes(sides[0])}", f"model:    {_shapes(sides[1])}"],
            hint="let run return what the two have in common, as one tensor or a list of them",
        )
    if any(_squeezed(a) != _squeezed(b) for a, b in zip(*sides, strict=True)):
        raise TreealignError(
            "the runs of the two sides return tensors of unlike shapes",
            facts=[f"original: {_shapes(sides[0])}", f"model:    {_shapes(sides[1])}"],
            hint="bring them into one shape in run; a pair of callables takes one for each side",
        )
    return sides


def _shapes(tensors: Sequence[torch.Tensor]) -> str:
    return ", ".join(str(list(t.shape)) for t in tensors) or "nothing"


def _squeezed(tensor: torch.Tensor) -> list[int]:
    return [n for n in tensor.shape if n != 1]


def difference(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> float:
    """How far two lists of tensors are apart: the greatest difference, as part of how much the values vary.

    >>> difference([torch.tensor([0.0, 1.0, 2.0])], [torch.tensor([0.0, 1.0, 2.0])])
    0.0
    """
    return max((_apart(a, b) for a, b in zip(left, right, strict=True)), default=0.0)


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    if not (a.is_floating_point() or a.is_complex() or b.is_floating_point() or b.is_complex()):
        return float((a.reshape(-1) != b.reshape(-1)).double().mean()) if a.numel() else 0.0
    a, b = _doubles(a), _doubles(b)
    finite = a.isfinite() & b.isfinite()
    if not torch.equal(torch.where(finite, 0.0, a), torch.where(finite, 0.0, b)):
        return float("inf")
    a, b = a[finite], b[finite]
    if not a.numel():
        return 0.0
    worst = float((a - b).abs().max())
    spread = float(a.std(correction=0)) or float(a.abs().max()) or 1.0
    return worst / spread


def _doubles(tensor: torch.Tensor) -> torch.Tensor:
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return tensor.reshape(-1).double().cpu()


def is_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether there is a number in them at all, and none that is no number."""
    return all(bool(t.isfinite().any()) and not bool(t.isnan().any()) for t in tensors if t.is_floating_point())


def tells(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether other outputs could hardly equal these by chance.

    One number that is not whole is enough; of labels, marks and counts it takes as many as hold `ENOUGH` bits, by how
    often each value stands there.

    >>> tells([torch.tensor([0.25])]), tells([torch.tensor([3, 1])])
    (True, False)
    """
    return sum(map(_bits, tensors)) >= ENOUGH


def _bits(tensor: torch.Tensor) -> float:
    values = _doubles(tensor)
    values = values[values.isfinite()]
    if bool((values != values.round()).any()):
        return ENOUGH
    counts = values.unique(return_counts=True)[1]  # type: ignore[no-untyped-call]  # torch does not type it
    share = counts.double() / max(values.numel(), 1)
    return float(-(share * share.log2()).sum()) * values.numel()
