"""State dicts within what was saved: which of the dicts in there is the model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from treealign.errors import FormatError

_DEPTH = 4
# what training frameworks save beside the weights; tensors in there are no weights
_NOT_WEIGHTS = (
    "optim",
    "lr_",
    "sched",
    "rng",
    "random",
    "scaler",
    "grad_scaler",
    "callbacks",
    "loops",
    "hparams",
    "hyper_",
)
_EXTRA_STATE = "_extra_state"


def single_state_dict(where: str, loaded: Any) -> tuple[str, Mapping[str, Any]]:
    """Where in what was loaded the state dict stands (``['state_dict']``), and the state dict.

    Raises
    ------
    FormatError
        If there is none, or more than one.
    """
    found = dict(_state_dicts(loaded, "", _DEPTH))
    if len(found) != 1:
        raise _no_single_state_dict(where, loaded, found)
    [single] = found.items()
    return single


def is_tensor(value: Any) -> bool:
    """Whether it has a shape and a dtype: torch's tensors, and what stands for one that was not read."""
    return hasattr(type(value), "shape") and hasattr(type(value), "dtype")


def _state_dicts(node: Any, path: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every state dict in what was loaded, with where it stands."""
    if not isinstance(node, Mapping) or "param_groups" in node:
        return
    inner = [(key, value) for key, value in node.items() if not _is_extra(key) and _holds_tensors(value, depth)]
    if inner and depth:
        for key, value in inner:
            if not (isinstance(key, str) and key.startswith(_NOT_WEIGHTS)):
                yield from _state_dicts(value, f"{path}[{key!r}]", depth - 1)
    elif all(isinstance(key, str) for key in node) and (any(map(is_tensor, node.values())) or not (node or path)):
        yield path, node


def _is_extra(key: Any) -> bool:
    """Whether a key is what `torch.nn.Module.get_extra_state` is saved under: anything may be in there."""
    return isinstance(key, str) and key.endswith(_EXTRA_STATE)


def _holds_tensors(value: Any, depth: int) -> bool:
    """Whether a container has tensors somewhere in it."""
    if isinstance(value, Mapping):
        children = list(value.values())
    elif isinstance(value, list | tuple):
        children = list(value)
    else:
        return False
    return any(map(is_tensor, children)) or (depth > 0 and any(_holds_tensors(child, depth - 1) for child in children))


def _no_single_state_dict(name: str, loaded: Any, found: Mapping[str, Any]) -> FormatError:
    if found:
        facts = [f"{taken}: {len(state)} entries" for taken, state in found.items()]
        hint = "load it yourself, and pass the one that is meant: torch.load(path)['…']"
        return FormatError("more than one state dict in what was saved", where=name, facts=facts, hint=hint)
    kind = type(loaded).__name__
    names = f" of {', '.join(map(repr, list(loaded)[:10]))}" if isinstance(loaded, Mapping) and loaded else ""
    hint = "a state dict maps keys to tensors"
    return FormatError("no state dict in what was saved", where=name, facts=[f"it holds a {kind}{names}"], hint=hint)
