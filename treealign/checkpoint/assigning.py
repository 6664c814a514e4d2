"""Giving the tensors of a model their values: in place where it can be, all names of a tensor at once.

Parameters stay the objects they are, so that optimizers and ties keep them; only those on the meta device, which have
no data to replace, are made anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from treealign.checkpoint.places import Place


def room(places: Sequence[Place], dtype: torch.dtype) -> torch.Tensor:
    """A tensor to fill for all names of one tensor: itself where the dtype stays, or a new one like it.

    Parameters
    ----------
    places : sequence of Place
        All places of the tensor.
    dtype : torch.dtype
        What it is to have.

    Returns
    -------
    torch.Tensor
        On the same device and in the same memory format; on the CPU for a tensor of the meta device or a sharded one.
    """
    old = places[0].tensor
    if is_sharded(old):
        return torch.empty(old.shape, dtype=dtype)
    if old.is_meta:
        return torch.empty_like(old, dtype=dtype, device="cpu", requires_grad=False)
    if old.dtype == dtype and not overlaps_itself(old):
        return old
    # an expanded tensor has room of its own only when laid out anew
    layout = torch.contiguous_format if overlaps_itself(old) else torch.preserve_format
    return torch.empty_like(old, dtype=dtype, requires_grad=False, memory_format=layout)


def takes_another(places: Sequence[Place]) -> bool:
    """Whether a contiguous tensor on the CPU can take the place of a tensor."""
    old = places[0].tensor
    return not is_sharded(old) and (old.is_meta or old.device.type == "cpu") and old.is_contiguous()


def settle(places: Sequence[Place], filled: torch.Tensor) -> None:
    """Put what `room` gave, now filled, under all names.

    A gradient follows the dtype of its parameter, as in `nn.Module.to`.
    """
    old = places[0].tensor
    if filled is old:
        return
    if is_sharded(old):
        with torch.no_grad():
            old.copy_(_sharded_like(old, filled))
        return
    if old.is_meta:
        made = _made_like(old, filled)
        for place in places:
            place.put(made)
        return
    with torch.no_grad():
        for place in places:  # tied names may be several objects over one storage
            place.tensor.data = filled
        if old.grad is not None and old.grad.dtype != filled.dtype:
            old.grad.data = old.grad.data.to(filled.dtype)


def _made_like(old: torch.Tensor, filled: torch.Tensor) -> torch.Tensor:
    if not isinstance(old, nn.Parameter):
        return filled
    made: nn.Parameter = torch.Tensor._make_subclass(type(old), filled, old.requires_grad)
    made.__dict__.update(old.__dict__)
    return made


def overlaps_itself(tensor: torch.Tensor) -> bool:
    """An expanded tensor, which cannot be written in place."""
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether each process holds a part of it: a DTensor, which can be filled but not changed in dtype or made."""
    return hasattr(tensor, "device_mesh")


def _sharded_like(old: torch.Tensor, filled: torch.Tensor) -> torch.Tensor:
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(filled, old.device_mesh, old.placements)  # type: ignore[attr-defined]  # a DTensor has them
