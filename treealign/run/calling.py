"""How each side is called: the callables and inputs that the user gave, or what the models say of themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from treealign.errors import TreealignError
from treealign.run.importing import named_object
from treealign.tree.tracing import own_inputs

Runner = Callable[[nn.Module], Any]
_PAIR = 2


def runners(run: Any, inputs: Any, original: Any, model: Any) -> tuple[Runner, Runner]:
    """What calls the original, and what calls the model.

    Parameters
    ----------
    run : callable, pair of callables, or None
        ``run(module)`` returns a tensor or several; of a pair the first is for the original. One with a further
        parameter is given the inputs too; a text names one, ``package.module:function``. None: the module is called
        with the inputs.
    inputs : tensor, tuple, mapping, pair of tuples or of mappings, or None
        What `forward` takes: one tensor, positional or keyword arguments; of a pair the first is for the original.
        None: what a transformers model names itself.
    original, model : nn.Module
        The two sides.

    Raises
    ------
    TreealignError
        There is nothing to call, or no inputs to call it with.
    """
    named = [named_object(one) if isinstance(one, str) else one for one in (run if _is_pair(run) else (run,))]
    runs = _pair_of(tuple(named) if _is_pair(run) else named[0], callable, "run")
    if runs == (None, None) and inputs is None:
        inputs = _own(original, model)
    given = _inputs_of(inputs)
    return _runner(runs[0], given[0]), _runner(runs[1], given[1])


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == _PAIR


def _pair_of(value: Any, fits: Callable[[Any], bool], name: str) -> tuple[Any, Any]:
    if value is None or fits(value):
        return value, value
    if isinstance(value, Sequence) and len(value) == _PAIR and all(one is None or fits(one) for one in value):
        return value[0], value[1]
    hint = f"{name} is a callable that takes the module, or a pair of them, the first for the original"
    raise TreealignError(f"{name} is {type(value).__name__}, which cannot be called", hint=hint)


def _inputs_of(inputs: Any) -> tuple[Any, Any]:
    """The same for both, or a pair: two mappings, two tuples, or a mapping and something else."""
    if isinstance(inputs, tuple | list) and len(inputs) == _PAIR:
        kinds = [isinstance(one, Mapping | tuple | list) for one in inputs]
        if all(kinds) or (any(kinds) and any(isinstance(one, Mapping) for one in inputs)):
            return inputs[0], inputs[1]
    return inputs, inputs


def _runner(run: Any, inputs: Any) -> Runner:
    if run is None:
        if inputs is None:
            raise TreealignError("nothing says how to run the modules", hint="give run=…, or inputs=…")
        return lambda module: _call(module, inputs)
    if inputs is None or not _takes_more(run):
        return run  # type: ignore[no-any-return]  # whatever the user calls
    return lambda module: _with_inputs(run, module, _own_copy(inputs))


def _takes_more(run: Any) -> bool:
    """Whether a callable needs more than the module."""
    try:
        inspect.signature(run).bind(object())
    except TypeError:
        return True
    except ValueError:  # it has no signature
        return False
    return False


def _with_inputs(run: Any, module: nn.Module, inputs: Any) -> Any:
    """A callable of several parameters: with the inputs as one, or one by one."""
    try:
        inspect.signature(run).bind(module, inputs)
    except TypeError:
        return run(module, **inputs) if isinstance(inputs, Mapping) else run(module, *inputs)
    return run(module, inputs)


def _call(module: nn.Module, inputs: Any) -> Any:
    inputs = _own_copy(inputs)
    if isinstance(inputs, Mapping):
        return module(**_without_cache(module, inputs))
    return module(*inputs) if isinstance(inputs, tuple | list) else module(inputs)


def _without_cache(module: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments that keep no cache of keys and values, where the module knows the word."""
    known = inspect.signature(module.forward).parameters
    return {"use_cache": False, **inputs} if "use_cache" in known else dict(inputs)


def _own_copy(inputs: Any) -> Any:
    return tree_map(lambda one: one.detach().clone() if isinstance(one, torch.Tensor) else one, inputs)


def _own(original: Any, model: Any) -> tuple[Any, Any]:
    """Example inputs that one side names, for both: by name where both name them, else the main one by position."""
    generator = torch.Generator().manual_seed(0)
    sides = [own_inputs(side) if isinstance(side, nn.Module) else {} for side in (original, model)]
    filled = [{name: _real(value, generator) for name, value in side.items()} for side in sides]
    named = filled[1] or filled[0]
    if not named:
        raise TreealignError(
            "nothing says what the modules are to be run with",
            hint="give run=… (--run package.module:function), which calls a module; or inputs=…, what forward takes: "
            "one tensor, a tuple, or a mapping of keyword arguments",
        )
    names = {key: value for key, value in named.items() if "mask" not in key}
    sole = (next(iter(names.values())),)
    both = [names if names.keys() <= _parameters(side) else sole for side in (original, model)]
    return both[0], both[1]


def _parameters(module: Any) -> set[str]:
    return set(inspect.signature(module.forward).parameters)


def _real(value: Any, generator: torch.Generator) -> Any:
    """Numbers in place of a tensor without data; what has data stays."""
    if isinstance(value, torch.Tensor) and value.is_meta:
        return torch.randn(value.shape, generator=generator)
    return value
