"""State dicts within what was saved: which of the dicts in there is the model's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from treealign.errors import FormatError
from treealign.formats.addresses import SIGN
from treealign.formats.legible import legible

_DEPTH = 4
WHOLE = "."  # what the outermost dict is called, where it has tensors of its own beside those of others
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
_LISTS = ("shadow_params",)  # of averages, a model's parameters in their order
_EXTRA_STATE = "_extra_state"
_MOST, _MOST_FOUND = 20, 200  # that are shown, and that are looked for


def single_state_dict(where: str, loaded: Any, name: str = "") -> tuple[str, Mapping[str, Any]]:
    """Where in what was loaded the state dict stands (``['state_dict']``), and the state dict.

    Parameters
    ----------
    where : str
        What stands for the file in errors.
    loaded : any
        What was saved.
    name : str
        The name of the one that is meant, where there are several: its keys with dots between them, or the last of
        them where they tell.

    Raises
    ------
    FormatError
        If there is none, more than one, or none of that name; those that there are, with their counts.
    """
    found = dict(islice(_state_dicts(loaded, (), _DEPTH, set()), _MOST_FOUND))
    chosen = {path: state for path, state in found.items() if not name or _is_named(path, name, found)}
    if len(chosen) != 1:
        raise _no_single_state_dict(where, loaded, found, name)
    [(path, state)] = chosen.items()
    return spelled(path), state


def spelled(path: Iterable[str]) -> str:
    """Where a state dict stands, as Python spells it; nothing for what is the whole."""
    return "".join(f"[{key!r}]" for key in path)


def _is_named(path: tuple[str, ...], name: str, found: Iterable[tuple[str, ...]]) -> bool:
    if any(name in (_dotted(other), spelled(other)) for other in found):
        return name in (_dotted(path), spelled(path))
    return f".{_dotted(path)}".endswith(f".{name}") or f"{_dotted(path)}.".startswith(f"{name}.")


def _dotted(path: Iterable[str]) -> str:
    return ".".join(map(str, path)) or WHOLE


def is_tensor(value: Any) -> bool:
    """Whether it has a shape and a dtype: torch's tensors, and what stands for one that was not read."""
    return hasattr(type(value), "shape") and hasattr(type(value), "dtype")


def _state_dicts(
    node: Any, path: tuple[str, ...], depth: int, barren: set[tuple[int, int]]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every state dict in what was loaded, with where it stands.

    `barren` keeps where there is none, and how far down: a pickle may hold one container in many places.
    """
    if isinstance(node, list | tuple) and path and path[-1] in _LISTS and node and all(map(is_tensor, node)):
        yield path, {f"{path[-1]}.{at}": one for at, one in enumerate(node)}
    if not isinstance(node, Mapping) or "param_groups" in node or (id(node), depth) in barren:
        return
    bare: dict[int, int] = {}
    inner = [(key, value) for key, value in node.items() if not _is_extra(key) and _holds_tensors(value, depth, bare)]
    if inner and depth:
        count = 0
        for key, value in inner:
            if not (isinstance(key, str) and key.startswith(_NOT_WEIGHTS)):
                for found in _state_dicts(value, (*path, key), depth - 1, barren):
                    count += 1
                    yield found
        if not any(map(_is_weight, node.items())):
            if not count:
                barren.add((id(node), depth))
            return
    if all(isinstance(key, str) for key in node) and (any(map(is_tensor, node.values())) or not (node or path)):
        yield path, node


def _is_weight(item: tuple[Any, Any]) -> bool:
    """Whether an entry beside containers is of a module, by its name, and no count of steps or state of a generator."""
    key, value = item
    return isinstance(key, str) and is_tensor(value) and ("." in key or key in ("weight", "bias"))


def _is_extra(key: Any) -> bool:
    """Whether a key is what `torch.nn.Module.get_extra_state` is saved under: anything may be in there."""
    return isinstance(key, str) and key.endswith(_EXTRA_STATE)


def _holds_tensors(value: Any, depth: int, bare: dict[int, int]) -> bool:
    """Whether a container has tensors somewhere in it.

    `bare` keeps how far down the containers are known to have none.
    """
    if isinstance(value, Mapping):
        children = list(value.values())
    elif isinstance(value, list | tuple):
        children = list(value)
    else:
        return False
    if bare.get(id(value), -1) >= depth:
        return False
    if any(map(is_tensor, children)) or (
        depth > 0 and any(_holds_tensors(child, depth - 1, bare) for child in children)
    ):
        return True
    bare[id(value)] = depth
    return False


def _no_single_state_dict(
    where: str, loaded: Any, found: Mapping[tuple[str, ...], Mapping[str, Any]], name: str
) -> FormatError:
    if found:
        facts = [f"{legible(spelled(path) or WHOLE)}: {len(state)} entries" for path, state in found.items()][:_MOST]
        some = legible(_dotted(next(iter(found))))
        hint = f"say which is meant: {legible(where)}{SIGN}{some}, or select={some!r}"
        what = f"no state dict {name!r} in what was saved" if name else "more than one state dict in what was saved"
        return FormatError(what, where=where, facts=facts, hint=hint)
    kind = type(loaded).__name__
    names = f" of {', '.join(map(repr, list(loaded)[:10]))}" if isinstance(loaded, Mapping) and loaded else ""
    hint = "a state dict maps keys to tensors"
    if isinstance(loaded, Mapping) and {"state", "param_groups"} <= loaded.keys():
        hint = "it is an optimizer's: treealign.checkpoint.optimizers.convert_optimizer turns it with a model's mapping"
    return FormatError("no state dict in what was saved", where=where, facts=[f"it holds a {kind}{names}"], hint=hint)
