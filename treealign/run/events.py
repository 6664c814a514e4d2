"""What happens in a run, as numbers that two implementations share wherever they compute the same.

Each result of an operation has a signature that no reordering, reshaping or transposition changes: how many values,
their second and their third absolute moment. How many of the original's signatures occur in a run of the model grows
with each decision that is put right, while the outputs alone say nothing until all are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

DIGITS = 4  # of a moment that count: tables that were computed in float32 are the same to six
Signature = tuple[int, str, str]


class Events(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not type it
    """Collects the signatures of all that is computed, in order, each once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.seen: dict[Signature, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for one in tree_flatten(result)[0]:
                if isinstance(one, torch.Tensor) and one.numel() > 1 and (one.is_floating_point() or one.is_complex()):
                    self.seen[signature(one)] = None
        return result


def signature(tensor: torch.Tensor) -> Signature:
    """How many values a tensor has, and their moments, whatever their order.

    >>> signature(torch.tensor([1.0, 2.0])) == signature(torch.tensor([[2.0], [1.0]]))
    True
    """
    size = tensor.detach().abs().double()
    size = size[size.isfinite()]
    square = size * size
    return tensor.numel(), _rounded(square.sum()), _rounded((square * size).sum())


def _rounded(value: torch.Tensor) -> str:
    return f"{float(value):.{DIGITS - 1}e}"
