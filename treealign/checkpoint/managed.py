"""Parameters that another library keeps elsewhere: what the module shows is not what it computes with.

They are known by the attributes that the libraries leave on modules and parameters; none of them is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from torch import nn

from treealign.errors import LoadError
from treealign.tree.fold import fold_names

_ACCELERATE = "kept off the device by accelerate, which brings its own copy back before each forward pass"
_DEEPSPEED = "partitioned over processes by DeepSpeed ZeRO-3"
_FSDP = "flattened and sharded over processes by FullyShardedDataParallel"
_HINTS = {
    _ACCELERATE: "load before dispatch_model or cpu_offload; accelerate.hooks.remove_hook_from_submodules undoes them",
    _DEEPSPEED: "do it within deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0)",
    _FSDP: "do it within FullyShardedDataParallel.summon_full_params(model), or shard with fully_shard",
}


def refuse_managed(model: nn.Module, where: str) -> None:
    """Refuse a model with parameters whose values are not where they seem to be.

    Raises
    ------
    LoadError
        Naming them and the library; nothing was touched.
    """
    if not _any_marks(model):
        return
    found: dict[str, list[str]] = {}
    for key, reason in _managed(model):
        found.setdefault(reason, []).append(key)
    if found:
        facts = [
            line for reason, keys in found.items() for line in (f"{reason}:", *(f"  {k}" for k in fold_names(keys)))
        ]
        hint = "; ".join(_HINTS[reason] for reason in found)
        raise LoadError("the values of these parameters are not in the model", where=where, facts=facts, hint=hint)


def _any_marks(model: nn.Module) -> bool:
    """Whether any of the libraries may have a hand in it: one quick look, for most models have no marks."""
    waiting = [model]
    partitions = "deepspeed" in sys.modules  # whose parameters cannot exist without it
    while waiting:
        module = waiting.pop()
        if "_hf_hook" in module.__dict__ or "_handle" in module.__dict__:
            return True
        if partitions and any(hasattr(tensor, "ds_status") for tensor in module._parameters.values()):
            return True
        # not `modules()`, whose generators stand on one another as deep as the model is
        waiting += [child for child in module._modules.values() if child is not None]
    return False


def _managed(model: nn.Module) -> Iterator[tuple[str, str]]:
    offloaded, flattened = set(), set()
    for module in model.modules():
        if (depth := _offloads(module)) is not None:
            offloaded |= {id(tensor) for tensor in _tensors(module, deep=depth) if tensor.is_meta}
        if _is_flattened(module):
            flattened |= {id(tensor) for tensor in module.parameters()}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if id(tensor) in offloaded:
            yield name, _ACCELERATE
        elif getattr(getattr(tensor, "ds_status", None), "name", "AVAILABLE") != "AVAILABLE":
            yield name, _DEEPSPEED
        elif id(tensor) in flattened:
            yield name, _FSDP


def _tensors(module: nn.Module, *, deep: bool) -> Iterator[Any]:
    yield from module.parameters(recurse=deep)
    yield from module.buffers(recurse=deep)


def _offloads(module: nn.Module) -> bool | None:
    """Whether a hook of accelerate holds the values of this module's tensors (False), or of all below it (True)."""
    hook = getattr(module, "_hf_hook", None)
    hooks = [one for one in getattr(hook, "hooks", (hook,)) if getattr(one, "offload", False)]
    return any(getattr(one, "place_submodules", False) for one in hooks) if hooks else None


def _is_flattened(module: nn.Module) -> bool:
    """Whether each process has a part of its parameters, and is not just now shown the whole."""
    handle = getattr(module, "_handle", None)
    sharded = getattr(handle, "uses_sharded_strategy", False) and getattr(handle, "world_size", 1) > 1
    return bool(sharded) and getattr(getattr(handle, "_training_state", None), "name", "IDLE") == "IDLE"
