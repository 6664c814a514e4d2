"""One side of a comparison: a copy of a module that can be given values and be run, again and again alike."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from treealign.checkpoint.places import Place, Places, find_places
from treealign.errors import TreealignError
from treealign.run.calling import Runner
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
        self.module.requires_grad_(False)
        if getattr(getattr(self.module, "config", None), "use_cache", False):
            self.module.config.use_cache = False  # type: ignore[union-attr]
        self.places: Places = find_places(self.module, raw=wrappers)
        self._tie()
        self._depth = 0
        for part in self.module.modules():
            part.register_forward_pre_hook(self._enter, with_kwargs=True)
            part.register_forward_hook(self._leave, always_call=True)
        self._buffers: dict[str, torch.Tensor] = {}
        self.keep()

    @property
    def tensors(self) -> Mapping[str, Place]:
        """Key to place, of parameters and buffers, those that no checkpoint holds too."""
        return {**self.places.places, **self.places.recomputed}

    def keep(self) -> None:
        """Begin each run with the buffers as they are now; forget what was computed from other values."""
        self.module.train()  # some modules fold parameters into tables when they leave this mode
        self.module.eval()
        self._buffers = {k: p.tensor.detach().clone() for k, p in self.tensors.items() if p.kind != "parameter"}

    @torch.no_grad()
    def put(self, values: Mapping[str, torch.Tensor]) -> None:
        """Give tensors values, by key."""
        tensors = self.tensors
        for key, value in values.items():
            tensors[key].tensor.copy_(value)
        self.keep()

    def values(self, keys: Iterable[str]) -> dict[str, torch.Tensor]:
        """Copies of what tensors hold."""
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
        with torch.no_grad():
            for key, value in self._buffers.items():
                self.tensors[key].tensor.copy_(value)
        try:
            with calm(seed, double=self.double), torch.set_grad_enabled(grad):
                if inside is None:
                    return self._run(self.module)
                with inside():
                    return self._run(self.module)
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


def copied(module: Any, name: str) -> nn.Module:
    """A deep copy of a module, what compiles it, or parts of it, left out.

    Raises
    ------
    TreealignError
        It is no module, it has no values (meta device), or cannot be copied.
    """
    module = getattr(module, "_orig_mod", module)
    if not isinstance(module, nn.Module):
        hint = "pass the module itself, made in memory"
        raise TreealignError(f"the {name} is {type(module).__name__}, which cannot be run", hint=hint)
    meta = [key for key, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    if meta:
        hint = "build it in memory; what is in its parameters does not matter"
        raise TreealignError(f"the {name} is on the meta device and cannot be run", facts=meta[:5], hint=hint)
    # tensors that were computed from parameters cannot be copied with their history
    made = [v for part in module.modules() for v in vars(part).values() if isinstance(v, torch.Tensor)]
    memo = {id(value): value.detach().clone() for value in made if not value.is_leaf}
    try:
        found: nn.Module = copy.deepcopy(module, memo)
    except Exception as error:
        facts = [f"{type(error).__name__}: {error}"]
        raise TreealignError(f"the {name} cannot be copied", facts=facts, hint="build it anew") from error
    for part in found.modules():
        part._compiled_call_impl = None
        for child, held in part.named_children():
            if hasattr(held, "_orig_mod"):
                setattr(part, child, held._orig_mod)
    return found


def uncompiled(key: str) -> str:
    """A key without the names of what compiles modules.

    >>> uncompiled("_orig_mod.layers.0._orig_mod.weight")
    'layers.0.weight'
    """
    return key.replace("_orig_mod.", "")
