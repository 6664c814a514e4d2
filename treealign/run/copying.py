"""Deep copies of modules as they are written: with closures, hooks, locks and tensors that have a history."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import nn

from treealign.errors import TreealignError

_TREE = ("_modules", "_parameters", "_buffers")  # what `nn.Module` itself keeps there


def copied(module: Any, name: str) -> nn.Module:
    """A deep copy of a module, what compiles it, or parts of it, left out.

    Functions that are kept in it, hooks among them, and that refer to it in a closure refer to the copy. What cannot be
    copied, a lock, is shared.

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
    try:
        found = _copy(module)
    except Exception as error:
        facts = [f"{type(error).__name__}: {error}"]
        raise TreealignError(f"the {name} cannot be copied", facts=facts, hint="build it anew") from error
    for part in found.modules():
        part._compiled_call_impl = None
        for child, held in part.named_children():
            if hasattr(held, "_orig_mod"):
                setattr(part, child, held._orig_mod)
    return found


def _copy(module: nn.Module) -> nn.Module:
    held = list(_held(module))
    # tensors that were computed from parameters cannot be copied with their history
    histories = [one for one in held if isinstance(one, torch.Tensor) and not one.is_leaf]
    functions = {id(one): one for one in _functions(held)}
    made = {key: _unbound(function) for key, function in functions.items()}
    given: dict[int, Any] = {**{id(one): one.detach().clone() for one in histories}, **made}
    memo = dict(given)
    try:
        found: nn.Module = copy.deepcopy(module, memo)
    except Exception:  # whatever an object's own code says of it
        memo = {**given, **{id(one): one for one in held if not _can_be_copied(one)}}
        found = copy.deepcopy(module, memo)
    for key, function in functions.items():
        for cell, filled in zip(function.__closure__ or (), made[key].__closure__ or (), strict=True):
            if _is_filled(cell):
                filled.cell_contents = _counterpart(cell.cell_contents, memo)
    return found


def _held(module: nn.Module) -> Iterator[Any]:
    """What modules hold beside modules, parameters and buffers; of dicts and lists, hooks among them, the values."""
    for part in module.modules():
        for name, value in vars(part).items():
            if name not in _TREE:
                yield value
                if isinstance(value, dict | list | tuple):
                    yield from value.values() if isinstance(value, dict) else value


def _functions(held: list[Any]) -> Iterator[FunctionType]:
    """Functions with a closure, and those that their closures refer to."""
    waiting = [one for one in held if isinstance(one, FunctionType)]
    seen: set[int] = set()
    while waiting:
        function = waiting.pop()
        if id(function) not in seen and function.__closure__:
            seen.add(id(function))
            yield function
            inside = [cell.cell_contents for cell in function.__closure__ if _is_filled(cell)]
            waiting += [one for one in inside if isinstance(one, FunctionType)]


def _unbound(function: FunctionType) -> FunctionType:
    """A function of the same code, whose closure is not filled yet."""
    cells = tuple(CellType() for _ in function.__closure__ or ())
    made = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(vars(function))
    return made


def _is_filled(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _counterpart(value: Any, memo: dict[int, Any]) -> Any:
    """What stands for a value in the copy; the value itself where the copy has nothing of it."""
    if isinstance(value, MethodType):
        return MethodType(value.__func__, _counterpart(value.__self__, memo))
    return memo.get(id(value), value)


def _can_be_copied(value: Any) -> bool:
    try:
        copy.deepcopy(value)
    except Exception:
        return isinstance(value, torch.Tensor | nn.Module)
    return True
