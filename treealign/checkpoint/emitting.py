"""From tensors of the model to bytes of files: operations undone, dtypes cast back where nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch

from treealign.checkpoint.execute import expected, run
from treealign.checkpoint.naming import Emission, Naming
from treealign.checkpoint.open_sources import same_bytes
from treealign.checkpoint.places import Place, dtype_name
from treealign.checkpoint.transposing import contiguous
from treealign.errors import LoadError, MappingError
from treealign.formats.dtypes import safetensors_dtype, safetensors_shape
from treealign.mapping.operations import invert, is_lossy

Make: TypeAlias = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Outgoing:
    """One tensor of the files.

    Attributes
    ----------
    make : callable
        Gives the tensor, in the dtype that it has in the model.
    dtype : torch.dtype
        What it is written in.
    shape : tuple of int
        Its shape, as torch counts.
    uncast : (str, str) or None
        Its dtype and the one it was loaded from, where they differ because casting back would lose something.
    approximate : bool
        Whether it comes out of a conversion that cannot be undone exactly.
    """

    make: Make
    dtype: torch.dtype
    shape: tuple[int, ...]
    uncast: tuple[str, str] | None = None
    approximate: bool = False

    @property
    def safetensors_dtype(self) -> str:
        """The dtype as safetensors spells it; torch's spelling where the format has none."""
        return safetensors_dtype(dtype_name(self.dtype)) or dtype_name(self.dtype)

    @property
    def safetensors_shape(self) -> tuple[int, ...]:
        """The shape as safetensors counts."""
        return safetensors_shape(self.safetensors_dtype, self.shape)

    def read_bytes(self) -> Any:
        """The bytes, little endian and contiguous."""
        tensor = contiguous(self.make().to(self.dtype))
        return tensor.reshape(-1).view(torch.uint8).numpy().data


def prepare(naming: Naming) -> dict[str, Outgoing]:
    """All tensors of the files, by key.

    Notes
    -----
    Tensors that were cast on loading are looked at here, to see whether casting them back loses anything; no others.
    """
    outgoing: dict[str, Outgoing] = {}
    for emission in naming.emissions:
        outgoing |= _prepare(emission)
    for key, tensor in naming.kept.items():
        outgoing[key] = Outgoing(_giver(tensor), tensor.dtype, tuple(tensor.shape))
    return outgoing


def _prepare(emission: Emission) -> dict[str, Outgoing]:
    if emission.originals and _unchanged(emission):
        pairs = zip(emission.keys, emission.originals, strict=True)
        return {key: Outgoing(_giver(tensor), tensor.dtype, tuple(tensor.shape)) for key, tensor in pairs}
    made = _Made(emission)
    approximate = is_lossy(emission.operations)
    return {
        key: _outgoing(partial(made.take, at), like, before, approximate)
        for at, (key, like, before) in enumerate(zip(emission.keys, _expected(emission), emission.dtypes, strict=True))
    }


def _expected(emission: Emission) -> list[torch.Tensor]:
    """Tensors of the dtypes and shapes that the operations give."""
    given = [place.tensor for place in emission.places]
    if not emission.operations:
        return given
    try:
        return expected(emission.operations, [torch.empty(t.shape, dtype=t.dtype, device="meta") for t in given])
    except MappingError as error:
        hint = "original_names=False saves the model under its own names"
        raise LoadError(error.what, where=", ".join(emission.keys), facts=error.facts, hint=hint) from error


def _outgoing(make: Make, like: torch.Tensor, before: str | None, approximate: bool) -> Outgoing:
    now, shape = like.dtype, tuple(like.shape)
    wanted = getattr(torch, before) if before else now
    if wanted == now:
        return Outgoing(make, now, shape, None, approximate)
    tensor = make()
    if same_bytes([tensor, tensor.to(wanted).to(now)]):
        return Outgoing(make, wanted, shape, None, approximate)
    return Outgoing(make, now, shape, (dtype_name(now), dtype_name(wanted)), approximate)


def _unchanged(emission: Emission) -> bool:
    """Whether the model still holds what a conversion that cannot be undone made of the originals."""
    made = run(invert(emission.operations), list(emission.originals))
    pairs = zip(made, map(_plain, emission.places), strict=True)
    return all(was.shape == now.shape and same_bytes([was.to(now.dtype), now.cpu()]) for was, now in pairs)


class _Made:
    """What the operations of one emission give; kept at hand only where it takes no memory of its own."""

    def __init__(self, emission: Emission) -> None:
        self.emission = emission
        self.views: list[torch.Tensor] | None = None

    def take(self, at: int) -> torch.Tensor:
        """One of the tensors, on the CPU."""
        if self.views is not None:
            return self.views[at].cpu()
        given = [_plain(place) for place in self.emission.places]
        if len({tensor.device for tensor in given}) > 1:
            given = [tensor.cpu() for tensor in given]
        made = run(self.emission.operations, given)
        storages = {tensor.untyped_storage()._cdata for tensor in given}
        if all(tensor.untyped_storage()._cdata in storages for tensor in made):
            self.views = made
        return made[at].cpu()


def _plain(place: Place) -> torch.Tensor:
    """A dense tensor of plain numbers, as bytes show them."""
    tensor = place.tensor.detach()
    if hasattr(tensor, "full_tensor"):
        tensor = tensor.full_tensor()
    if tensor.layout != torch.strided:
        raise LoadError("a sparse tensor cannot be saved as safetensors", where=place.key, hint="make it dense first")
    return tensor.resolve_conj().resolve_neg()


def _giver(tensor: torch.Tensor) -> Make:
    return lambda: tensor
