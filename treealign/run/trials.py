"""A live model under the weights of a checkpoint, loaded in one way after another, and given its own back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from treealign.align.asking.rows import HeadLayout
from treealign.checkpoint.assigning import is_sharded, overlaps_itself
from treealign.checkpoint.filling import fill
from treealign.checkpoint.places import Place, Places, find_places
from treealign.checkpoint.sources import Source
from treealign.errors import TreealignError
from treealign.mapping.planning import Step

ROUNDING = 1e-4  # relative; sums in another order differ by less in float32
EPSILONS = 4  # of the model's coarsest dtype
HEAD_DIMS = (128, 64, 80, 96, 32, 256)  # where the model does not say it


class Trials:
    """Scores a model under steps of a load.

    Tensors that are loaded as a step asks for already are not read again. Between two scores, buffers get back what
    they held: a probe may run a model that keeps running statistics.
    """

    def __init__(self, model: nn.Module, source: Source, probe: Callable[[Any], Any], places: Places) -> None:
        self.model, self.source, self.probe, self.places = model, source, probe, places
        self.loaded: dict[str, Step] = {}
        self.buffers = {key: place.tensor.detach().clone() for key, place in _buffers(places)}

    def score(self, steps: Sequence[Step], shuffled: Collection[str] = (), seed: int = 0) -> float:
        """Load what differs from the last time, shuffle the tensors under these keys, and ask the probe.

        Raises
        ------
        LoadError
            A tensor cannot be read or placed.
        TreealignError
            The probe gives no number.
        """
        due = [step for step in steps if any(self.loaded.get(key) != step for key in step.targets)]
        fill(due, self.source, self.places, to_model=True)
        self.loaded.update((key, step) for step in due for key in step.targets)
        self._reset_buffers()
        for key in shuffled:
            _shuffle(self.places.places[key].tensor, seed)
            self.loaded.pop(key, None)
        given = self.probe(self.model)
        for key in self.buffers:
            self.loaded.pop(key, None)
        try:
            return float(given.detach() if isinstance(given, torch.Tensor) else given)
        except (TypeError, ValueError) as error:
            raise TreealignError(
                f"the probe gives {type(given).__name__}, no number", hint="return one float, higher is better"
            ) from error

    def _reset_buffers(self) -> None:
        for key, place in _buffers(self.places):
            if key not in self.loaded:
                place.tensor.copy_(self.buffers[key])


@contextmanager
def trials(model: Any, source: Source, probe: Callable[[Any], Any]) -> Iterator[Trials]:
    """A model to try mappings on, in eval mode; afterwards it has its weights, buffers, gradients and modes again.

    Raises
    ------
    TreealignError
        It is no live model: not a module, or with tensors on the meta device.
    """
    places = _live_places(model)
    every = [*places.places.values(), *places.recomputed.values()]
    kept = [(place.tensor, place.tensor.data, _copy(place.tensor)) for place in every]
    grads = [(parameter, parameter.grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        for parameter, _ in grads:
            parameter.grad = None
        yield Trials(model, source, probe, places)
    finally:
        for tensor, data, value in kept:
            tensor.data = data
            if not overlaps_itself(data):
                data.copy_(value)
        for parameter, grad in grads:
            parameter.grad = grad
        for module, mode in modes:
            module.training = mode


def rounding(model: nn.Module) -> float:
    """Relative difference of two scores that rounding in the model's dtypes may explain."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return max([ROUNDING, *(EPSILONS * torch.finfo(dtype).eps for dtype in kinds)])


def head_layouts(model: nn.Module, key: str) -> tuple[HeadLayout, ...]:
    """How rows of a projection may be arranged in heads: from its module, those above it, or their configs.

    Where nothing says it, the usual numbers of rows to a head.
    """
    path = key.split(".")
    for depth in range(len(path) - 1, -1, -1):
        module = _at(model, path[:depth])
        found = _layout_in([holder for holder in (module, getattr(module, "config", None)) if holder is not None])
        if found is not None:
            return (found,)
    return tuple(HeadLayout(rows) for rows in HEAD_DIMS)


def _at(model: nn.Module, path: Sequence[str]) -> nn.Module | None:
    try:
        return model.get_submodule(".".join(path))
    except AttributeError:
        return None


def _layout_in(holders: Sequence[Any]) -> HeadLayout | None:
    """What an attention module and its config say about heads; the names are those of transformers."""
    rows = _number(holders, "head_dim", "head_size", "attention_head_size")
    heads = _number(holders, "num_attention_heads", "num_heads", "n_head", "n_heads", "heads")
    width = _number(holders, "hidden_size", "embed_dim", "n_embd", "d_model", "inner_dim")
    if rows is None and heads and width and width % heads == 0:
        rows = width // heads
    if rows is None:
        return None
    rotated = _number(holders, "rotary_dim", "rotary_ndims") or int(rows * _rotated_share(holders))
    return HeadLayout(rows, 0 if rotated == rows else rotated)


def _rotated_share(holders: Sequence[Any]) -> float:
    tables = [getattr(holder, "rope_parameters", None) for holder in holders]
    values = [getattr(holder, "partial_rotary_factor", None) for holder in holders]
    values += [table.get("partial_rotary_factor") for table in tables if isinstance(table, dict)]
    return next((v for v in values if isinstance(v, float) and 0 < v <= 1), 1.0)


def _number(holders: Sequence[Any], *names: str) -> int | None:
    values = (getattr(holder, name, None) for holder in holders for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0), None)


def _live_places(model: Any) -> Places:
    if not isinstance(model, nn.Module):
        raise TreealignError(
            f"a probe needs the model itself, not {type(model).__name__}", hint="pass the module to `suggest`"
        )
    places = find_places(model, raw=True)
    meta = [key for held in (places.places, places.recomputed) for key, place in held.items() if place.tensor.is_meta]
    if meta:
        hint = "build the model in memory; what is in its parameters does not matter"
        raise TreealignError("a probe cannot run a model on the meta device", facts=meta[:5], hint=hint)
    return places


def _buffers(places: Places) -> Iterator[tuple[str, Place]]:
    yield from ((key, place) for key, place in places.places.items() if place.kind == "buffer")
    yield from places.recomputed.items()


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that takes no memory of an accelerator."""
    held = tensor.detach()
    return held.clone() if is_sharded(held) else held.to("cpu", copy=True)


@torch.no_grad()
def _shuffle(tensor: torch.Tensor, seed: int) -> None:
    """Slices along the largest dimension in another order; the order depends on nothing but the seed."""
    if not tensor.dim():
        return
    dim = max(range(tensor.dim()), key=lambda at: tensor.shape[at])
    order = torch.randperm(tensor.shape[dim], generator=torch.Generator().manual_seed(seed)).to(tensor.device)
    tensor.copy_(tensor.index_select(dim, order))
