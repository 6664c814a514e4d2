"""Random values for a module: all distinct, and none that hides what it does.

What a model is made with says nothing: norms of ones, biases and last layers of zeros, scales of 1e-5. Values are drawn
in double precision, so that no two are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from treealign.checkpoint.places import Place

_MATRIX = 2  # dimensions


def drawn(held: torch.Tensor, generator: torch.Generator, *, near: bool = False) -> torch.Tensor:
    """New values for a tensor.

    Parameters
    ----------
    held : torch.Tensor
        What stands there: whether it is constant, and the values of vectors and single numbers, tell what is allowed.
    generator : torch.Generator
        Where they are drawn from.
    near : bool
        Close to what stands there, for code that accepts nothing else.

    Returns
    -------
    torch.Tensor
        Float64, of the same shape; what does not float is only put in another order. A matrix: normal, to keep the
        variance. A vector: its values in another order, each times a factor. Where all is constant: around zero for
        zeros, else within 0.5 to 1.5 with the same sign.

    """
    if not held.is_floating_point():  # positions in a table, or marks: in another order
        return held.detach().flatten().roll(1).reshape(held.shape)
    old = held.detach().double().cpu()
    flat = old.flatten()
    uniform = torch.rand(old.shape, generator=generator, dtype=torch.float64)
    normal = torch.randn(old.shape, generator=generator, dtype=torch.float64)
    matrix, zero = old.dim() >= _MATRIX, not bool(old.any())
    if not bool(flat.isfinite().all()):  # memory that nothing was written to
        made = normal * _gain(old) if matrix else 0.5 + uniform
    elif near:
        made = old * (0.9 + 0.2 * uniform) + 0.01 * normal * (1.0 if zero else flat.std(correction=0))
    elif old.numel() == 1:
        made = 0.2 * normal if zero else old * (0.8 + 0.4 * uniform)
    elif zero:
        made = normal * (_gain(old) if matrix else 0.2)
    elif bool((flat == flat[:1]).all()):
        made = (0.5 + uniform) * flat[0].sign()
    elif matrix:
        made = normal * _gain(old)
    else:
        made = old[torch.randperm(old.numel(), generator=generator)] * (0.8 + 0.45 * uniform) + 1e-3 * uniform
    return made


def alike(held: torch.Tensor, seed: int) -> torch.Tensor:
    """Values that depend on nothing but the shape: equal for leaves that could be exchanged."""
    generator = torch.Generator().manual_seed(hash((seed, *held.shape)) % 2**31)
    if held.dim() < _MATRIX:
        return 0.5 + torch.rand(held.shape, generator=generator, dtype=torch.float64)
    return torch.randn(held.shape, generator=generator, dtype=torch.float64) * _gain(held)


def _gain(tensor: torch.Tensor) -> float:
    """One over the root of how many values are summed, whichever way the matrix stands."""
    rows = max(tensor.shape[:_MATRIX]) or 1
    return float((rows / max(tensor.numel(), 1)) ** 0.5)


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
