"""Where the tensors of a model live: every name of every tensor, wrappers looked through, ties noticed.

Names come from the modules themselves, not from `state_dict()`, so that hooks on state dicts change nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from treealign.formats.cached import cached_property
from treealign.tree.keytree import COUNTER, STATISTIC, KeyTree, Leaf
from treealign.tree.ties import declared_ties, tied_keys

# the name under which a wrapper holds what it wraps, and the classes of which that is true; None where the name says it
_HOPS: dict[str, frozenset[str] | None] = {
    "_orig_mod": None,
    "_fsdp_wrapped_module": None,
    "_checkpoint_wrapped_module": None,
    "module": frozenset({"DistributedDataParallel", "DataParallel", "FullyShardedDataParallel"}),
    "base_model": frozenset({"PeftModel"}),
    "model": frozenset({"BaseTuner"}),
    "base_layer": frozenset({"BaseTunerLayer"}),
}


class Place(NamedTuple):
    """One name of one tensor.

    Attributes
    ----------
    key : str
        Dotted name, wrappers left out.
    raw : str
        The name as `state_dict()` gives it, wrappers included.
    owner : nn.Module
        The module that holds the tensor.
    name : str
        Its name there.
    kind : str
        ``"parameter"``, ``"buffer"``, or ``"recomputed"``: a buffer that `state_dict()` leaves out.
    """

    key: str
    raw: str
    owner: nn.Module
    name: str
    kind: str

    @property
    def tensor(self) -> torch.Tensor:
        """What stands there now."""
        held = self.owner._parameters if self.kind == "parameter" else self.owner._buffers
        return held[self.name]  # type: ignore[return-value]  # places are made of names that hold a tensor

    @property
    def is_counted_by_torch(self) -> bool:
        """Whether torch itself goes on without it; see `KeyTree.counters`."""
        return self.name == COUNTER and STATISTIC in self.owner._buffers

    def put(self, tensor: torch.Tensor) -> None:
        """Let the owner hold another tensor."""
        held: dict[str, Any] = self.owner._parameters if self.kind == "parameter" else self.owner._buffers
        held[self.name] = tensor


@dataclass(frozen=True)
class Places:
    """All places of a model, in order of definition.

    Attributes
    ----------
    places : dict of str to Place
        Key to place: parameters and persistent buffers, tied names included.
    recomputed : dict of str to Place
        Buffers that `state_dict()` leaves out.
    tied : dict of str to str
        Key to the key that stands for the same tensor; see `treealign.tree.ties`.
    modules : dict of str to nn.Module
        Path to module, wrappers left out of the path; of a wrapper and what it wraps, the latter.
    """

    places: dict[str, Place]
    recomputed: dict[str, Place]
    tied: dict[str, str]
    modules: dict[str, nn.Module]

    @cached_property
    def names(self) -> dict[str, tuple[Place, ...]]:
        """The key that stands for a tensor, to all places that hold it."""
        found: dict[str, list[Place]] = {}
        for key, place in self.places.items():
            found.setdefault(self.tied.get(key, key), []).append(place)
        return {key: tuple(places) for key, places in found.items()}

    @cached_property
    def tree(self) -> KeyTree:
        """The model as a `KeyTree`."""
        leaves = [Leaf(key, shape_of(p.tensor), dtype_name(p.tensor.dtype), p.kind) for key, p in self.places.items()]
        classes = {path: type(module).__name__ for path, module in self.modules.items()}
        return KeyTree.from_leaves(leaves, classes, self.tied, ordered=True, source="the model")


def find_places(model: nn.Module, *, raw: bool = False) -> Places:
    """Every place of a model.

    Parameters
    ----------
    model : nn.Module
        On any device, wrapped or not.
    raw : bool
        Keep wrappers in the keys, as `state_dict()` does.

    Notes
    -----
    Linear in the number of tensors.
    """
    places: dict[str, Place] = {}
    recomputed: dict[str, Place] = {}
    modules: dict[str, nn.Module] = {}
    walked = _walk(model, "", "", [], root=True)
    for full, clean, module in walked:
        path = full if raw else clean
        modules[path] = module
        if not (module._parameters or module._buffers):
            continue
        for place in _places_of(module, path, full):
            held = recomputed if place.kind == "recomputed" else places
            if place.key in held:  # a wrapper holds something under the name of what it wraps
                return find_places(model, raw=True)
            held[place.key] = place
    key_of = {place.raw: key for key, place in places.items()}
    stated = declared_ties((full, module) for full, _, module in walked)
    declared = {key_of[a]: key_of[b] for a, b in stated.items() if a in key_of and b in key_of}
    tied = tied_keys({key: place.tensor for key, place in places.items()}, declared)
    return Places(places, recomputed, tied, modules)


@cache
def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as torch spells it, without its module.

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def _is_hop(parent: nn.Module, name: str, *, root: bool) -> bool:
    """Whether a child is what its parent wraps, so that its name is no level of the model.

    Below a root that holds nothing else, ``module`` is taken for that whatever the class.
    """
    if name not in _HOPS:
        return False
    kinds = _HOPS[name]
    if kinds is None or any(kind.__name__ in kinds for kind in type(parent).__mro__):
        return True
    alone = len(parent._modules) == 1 and not parent._parameters and not parent._buffers
    return root and alone and name == "module"


_Walked: TypeAlias = list[tuple[str, str, nn.Module]]


def _walk(module: nn.Module, full: str, clean: str, walked: _Walked, *, root: bool) -> _Walked:
    """Add a module and all below it, in order of definition, with their paths, wrappers in and out."""
    walked.append((full, clean, module))
    for name, child in module._modules.items():
        if child is not None:
            hop = _is_hop(module, name, root=root)
            _walk(child, join(full, name), clean if hop else join(clean, name), walked, root=root and hop)
    return walked


def join(path: str, name: str) -> str:
    """A dotted path and a further level; either may be empty."""
    return f"{path}.{name}" if path and name else path or name


def _places_of(module: nn.Module, path: str, full: str) -> Iterator[Place]:
    for name, parameter in module._parameters.items():
        if parameter is not None:
            key = join(path, name)
            yield Place(key, key if path == full else join(full, name), module, name, "parameter")
    for name, buffer in module._buffers.items():
        if buffer is not None:
            kind = "recomputed" if name in module._non_persistent_buffers_set else "buffer"
            yield Place(join(path, name), join(full, name), module, name, kind)


def shape_of(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """The shape of a tensor; None where it has none yet."""
    try:
        return tuple(tensor.shape)
    except RuntimeError:  # a lazy parameter that no forward pass has given a shape
        return None
