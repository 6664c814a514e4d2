"""Writing loaded tensors into a model: in place where it can be, all names of a tensor at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from treealign.checkpoint.places import Place


def write(places: Sequence[Place], value: torch.Tensor) -> None:
    """Give all names of one tensor a value, on the device where the tensor is; ties stay tied.

    A tensor of the same dtype is written in place. Another dtype replaces the data under the same parameter object, so
    that optimizers keep it; its gradient follows, as in `nn.Module.to`. A tensor on the meta device has no data to
    replace: each owner gets a new parameter with the attributes of the old one.

    Parameters
    ----------
    places : sequence of Place
        All places of the tensor.
    value : torch.Tensor
        Of the same shape; must share no memory with anything that lives on.
    """
    old = places[0].tensor
    if old.is_meta:
        made = _materialised(old, value)
        for place in places:
            place.put(made)
        return
    with torch.no_grad():
        if hasattr(old, "device_mesh"):
            value = _shard_like(old, value)
        if old.dtype == value.dtype and not _overlaps_itself(old):
            old.copy_(value)
        else:
            _replace(places, old, value)


def _replace(places: Sequence[Place], old: torch.Tensor, value: torch.Tensor) -> None:
    data = torch.empty_like(old, dtype=value.dtype).copy_(value)  # keeps device and memory format
    for place in places:  # tied names may be several tensor objects over one storage
        place.tensor.data = data
    gradient = old.grad
    if gradient is not None and gradient.dtype != data.dtype:
        gradient.data = gradient.data.to(data.dtype)


def _materialised(old: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    if not isinstance(old, nn.Parameter):
        return value
    made: nn.Parameter = torch.Tensor._make_subclass(type(old), value, old.requires_grad)
    made.__dict__.update(old.__dict__)
    return made


def _overlaps_itself(tensor: torch.Tensor) -> bool:
    """An expanded tensor, which cannot be written in place."""
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def _shard_like(old: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, old.device_mesh, old.placements)  # type: ignore[attr-defined]  # a DTensor has them
