"""Random values for a module: all distinct, and none that hides what it does.

What a model is made with says nothing: norms of ones, biases and last layers of zeros, scales of 1e-5. Values are drawn
in double precision, so that no two are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from treealign.checkpoint.places import Place
from treealign.run.recorder import drawn, gain

_MATRIX = 2  # dimensions


def alike(held: torch.Tensor, seed: int) -> torch.Tensor:
    """Values that depend on nothing but the shape: equal for leaves that could be exchanged."""
    generator = torch.Generator().manual_seed(hash((seed, *held.shape)) % 2**31)
    if held.dim() < _MATRIX:
        return 0.5 + torch.rand(held.shape, generator=generator, dtype=torch.float64)
    return torch.randn(held.shape, generator=generator, dtype=torch.float64) * gain(held)


@torch.no_grad()
def draw_all(
    tensors: Mapping[str, Place], seed: int, ties: Mapping[str, str], only: Iterable[str], *, near: bool = False
) -> None:
    """Draw anew what floats among these; names of one tensor get the same."""
    wanted = set(only)
    generator = torch.Generator().manual_seed(seed)
    for key, place in tensors.items():
        if key in wanted and key not in ties and place.tensor.is_floating_point():
            place.tensor.copy_(drawn(place.tensor, generator, near=near))
    for key, other in ties.items():
        if key in tensors and other in tensors and tensors[key].tensor is not tensors[other].tensor:
            tensors[key].tensor.copy_(tensors[other].tensor)


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a buffer holds nothing but one number over and over: what was never computed from data."""
    flat = tensor.detach().flatten()
    return tensor.is_floating_point() and flat.numel() > 1 and bool((flat == flat[:1]).all())
