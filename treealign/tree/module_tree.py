"""Trees of torch modules and of state dicts in memory, read through their own methods: torch is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treealign.errors import TreealignError
from treealign.tree.keytree import KeyTree, Leaf
from treealign.tree.ties import declared_ties, tied_keys
from treealign.tree.tracing import trace_model

_EXTRA_STATE = "_extra_state"  # what a module saves beside its tensors; seldom a tensor itself


def module_tree(module: Any, example_inputs: Any = None) -> KeyTree:
    """The tree of a `torch.nn.Module`, on any device, the meta device included.

    Keys, and their order, are those of its ``state_dict()``, hooks and parametrizations included. Two keys are tied
    where they show the same storage in the same way, or where a transformers model declares them tied. With example
    inputs the module is run once on the meta device, see `treealign.tree.tracing`.
    """
    state = {key: value for key, value in module.state_dict(keep_vars=True).items() if _is_tensor(value)}
    buffers = {id(buffer) for buffer in module.buffers()}
    leaves = [_leaf(key, value, "buffer" if id(value) in buffers else "parameter") for key, value in state.items()]
    modules = {path: type(part).__name__ for path, part in module.named_modules(remove_duplicate=False)}
    tied = tied_keys(state, declared_ties(module.named_modules()))
    trace = None if example_inputs is None else trace_model(module, example_inputs)
    return KeyTree.from_leaves(leaves, modules, tied, ordered=True, source=type(module).__name__, trace=trace)


def state_dict_tree(state: Mapping[Any, Any]) -> KeyTree:
    """The tree of a state dict: a mapping of keys to tensors (torch's or numpy's).

    It is ordered if a module made it, which torch marks by a ``_metadata`` attribute; any other dict may be in any
    order.

    Raises
    ------
    TreealignError
        If a key is no string or a value no tensor, naming them all.
    """
    wrong = [f"{key!r}: {type(value).__name__}" for key, value in state.items() if not _fits(key, value)]
    if wrong:
        hint = "pass the mapping of keys to tensors itself, such as checkpoint['state_dict']"
        raise TreealignError("not a state dict: not a tensor under a text", facts=wrong[:20], hint=hint)
    tensors = {key: value for key, value in state.items() if _is_tensor(value)}
    return tensors_tree(tensors, ordered=hasattr(state, "_metadata"), source="a state dict")


def tensors_tree(tensors: Mapping[str, Any], ordered: bool, source: str, architecture: str = "") -> KeyTree:
    """The tree of tensors by key, all of them taken for parameters: a file does not say which are buffers."""
    leaves = [_leaf(key, value, "parameter") for key, value in tensors.items()]
    tied = tied_keys(tensors)
    return KeyTree.from_leaves(leaves, tied=tied, ordered=ordered, source=source, architecture=architecture)


def _is_tensor(value: Any) -> bool:
    # asked of the class: a lazy module's parameter raises when it is asked for its shape itself
    return hasattr(type(value), "shape") and hasattr(type(value), "dtype")


def _fits(key: Any, value: Any) -> bool:
    return isinstance(key, str) and (_is_tensor(value) or key.rpartition(".")[2] == _EXTRA_STATE)


def _leaf(key: str, tensor: Any, kind: str) -> Leaf:
    return Leaf(key, _shape(tensor), str(tensor.dtype).removeprefix("torch."), kind)


def _shape(tensor: Any) -> tuple[int, ...] | None:
    try:
        return None if tensor.shape is None else tuple(tensor.shape)
    except RuntimeError:  # a lazy module's parameter, which has none before the first batch
        return None
