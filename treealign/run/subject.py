"""One side of a comparison: a copy of a module that can be given values and be run, again and again alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from treealign.checkpoint.places import Place, Places, find_places
from treealign.errors import TreealignError
from treealign.run.calling import Runner
from treealign.run.copying import copied
from treealign.run.outputs import tensors_of
from treealign.run.recorder import calm

SEED = 0


class Subject:
    """A module's copy, in eval mode and double precision (or float32), with what it takes to run it.

    With `wrappers` the keys keep the names of what wraps it, as those of a `KeyTree` do; but for what compiles it.

    Attributes
    ----------
    name : str
        What errors call it: ``"original"`` or ``"model"``.
    module : nn.Module
        The copy.
    places : Places
        Where its tensors are.
    runs : int
        How often it was run.
    """

    def __init__(
        self, module: nn.Module, run: Runner, name: str, *, double: bool = True, wrappers: bool = False
    ) -> None:
        self.name, self.double, self.runs = name, double, 0
        self._run = run
        self.module = copied(module, name)
        self.module = self.module.double() if double else self.module.float()
        for parameter in self.module.parameters():
            if parameter.is_leaf:  # of a compiled module they are not
                parameter.requires_grad_(False)
        if getattr(getattr(self.module, "config", None), "use_cache", False):
            self.module.config.use_cache = False  # type: ignore[union-attr]
        self.places: Places = find_places(self.module, raw=wrappers)
        self._tie()
        self._depth = 0
        for part in self.module.modules():
            if not isinstance(part, torch.jit.ScriptModule):  # which allows no hooks
                part.register_forward_pre_hook(self._enter, with_kwargs=True)
                part.register_forward_hook(self._leave, always_call=True)
        held = [value for part in self.module.modules() for value in vars(part).values()]
        self._generators = [(one, one.get_state()) for one in held if isinstance(one, torch.Generator)]
        self._buffers: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self.keep()

    @property
    def tensors(self) -> Mapping[str, Place]:
        """Key to place, of parameters and buffers, those that no checkpoint holds too."""
        return {**self.places.places, **self.places.recomputed}

    def keep(self) -> None:
        """Begin each run with the buffers as they are now; forget what was computed from other values."""
        self.module.train()  # some modules fold parameters into tables when they leave this mode
        self.module.eval()
        buffers = {key: place.tensor for key, place in self.tensors.items() if place.kind != "parameter"}
        self._buffers = {key: (tensor, tensor.detach().clone()) for key, tensor in buffers.items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Let buffers be what they were before the last run, and hold what they held."""
        tensors = self.tensors
        for key, (tensor, value) in self._buffers.items():
            tensors[key].put(tensor.copy_(value))
        for generator, state in self._generators:
            generator.set_state(state)

    @torch.no_grad()
    def put(self, values: Mapping[str, torch.Tensor]) -> None:
        """Give tensors values, by key."""
        self.restore()
        tensors = self.tensors
        for key, value in values.items():
            tensors[key].tensor.copy_(value)
        self.keep()

    def values(self, keys: Iterable[str]) -> dict[str, torch.Tensor]:
        """Copies of what tensors hold."""
        self.restore()
        tensors = self.tensors
        return {key: tensors[key].tensor.detach().clone() for key in keys}

    def run(self, *, grad: bool = False, seed: int = SEED, inside: Callable[[], Any] | None = None) -> Any:
        """Run it once.

        Parameters
        ----------
        grad : bool
            Whether gradients can be taken of the result.
        seed : int
            Of all random numbers that the code draws.
        inside : callable, optional
            Gives a context that is entered around the call.

        Raises
        ------
        TreealignError
            The code raises.
        """
        self.runs += 1
        self._depth = 0
        self.restore()
        try:
            with calm(seed, double=self.double), torch.set_grad_enabled(grad), (inside or nullcontext)():
                result = self._run(self.module)
                return list(result) if isinstance(result, Iterator) else result
        except Exception as error:
            raise TreealignError(
                f"the run of the {self.name} raises {type(error).__name__}",
                facts=str(error).strip().splitlines()[:5],
                hint="does `run` work with this module by itself, in eval mode?",
            ) from error

    def outputs(self) -> list[torch.Tensor]:
        """Run it once and take the tensors of the result."""
        return [t.detach().clone() for t in tensors_of(self.run())]

    def _tie(self) -> None:
        """Names that were of one tensor are of one tensor still, after their type changed."""
        places = self.places.places
        for key, other in self.places.tied.items():
            if key in places and other in places:
                places[key].tensor.data = places[other].tensor.data

    def _enter(self, part: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        self._depth += 1
        if self._depth > 1:
            return args, kwargs
        return tree_map(self._given, args), tree_map(self._given, kwargs)

    def _leave(self, part: nn.Module, args: Any, result: Any) -> None:
        self._depth -= 1

    def _given(self, value: Any) -> Any:
        """An input as the module is to have it: of its own memory, floats as wide as the module."""
        if not isinstance(value, torch.Tensor):
            return value
        wanted = (torch.float64 if self.double else torch.float32) if value.is_floating_point() else value.dtype
        return value.detach().to(wanted, copy=True)


def uncompiled(key: str) -> str:
    """A key without the names of what compiles modules.

    >>> uncompiled("_orig_mod.layers.0._orig_mod.weight")
    'layers.0.weight'
    """
    return key.replace("_orig_mod.", "")
