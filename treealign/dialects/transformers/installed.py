"""What the installed release of transformers has: found by looking, for releases differ in what rules can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import Any

from treealign.errors import MappingError, TreealignError, install_hint

LOADING = "transformers.core_model_loading"
REGISTRY = "transformers.conversion_mapping"
RANGE = "transformers>=5.9,<6"
_HINT = f"rules of transformers are written, read and checked with {RANGE}; load, save and suggest need none of it"


def require() -> None:
    """Refuse a transformers whose rules are not those that are written, read and checked here.

    Raises
    ------
    TreealignError
        It is not installed, or its rules know no scope, as all rules do from 5.9 on.
    """
    try:
        import_module("transformers")
    except ImportError as error:
        raise TreealignError("transformers is not installed", hint=install_hint("transformers")) from error
    if not _has_scopes():
        raise TreealignError(f"transformers {version()} has no rules that work below a part of a model", hint=_HINT)


def _has_scopes() -> bool:
    try:
        return hasattr(import_module(LOADING).WeightTransform, "scope_prefix")
    except ImportError:
        return False


def version() -> str:
    """The installed release."""
    return str(import_module("transformers").__version__)


def has(name: str) -> bool:
    """Whether there is a rule or an operation of this name."""
    return hasattr(import_module(LOADING), name)


def make(name: str, arguments: Mapping[str, Any]) -> Any:
    """A rule or an operation of transformers.

    Raises
    ------
    MappingError
        The installed release has none of this name, or none that takes these arguments.
    """
    kind = getattr(import_module(LOADING), name, None)
    lacks = name if kind is None else ", ".join(arguments.keys() - signature(kind).parameters.keys())
    if kind is None or lacks:
        what = name if kind is None else f"{name} with {lacks}"
        raise MappingError(f"transformers {version()} has no {what}", hint="treealign's own load and save do it")
    return kind(**arguments)


def scope_settings(scope: str) -> dict[str, str]:
    """The attributes of a rule that works below a module only, counted from the root of the model."""
    kind = import_module(LOADING).WeightTransform
    # where rules have it, transformers would put the level of the base model in front or take it away
    return {"scope_prefix": scope} | ({"base_model_prefix": ""} if hasattr(kind, "base_model_prefix") else {})


def load_into(model: Any, state: Mapping[str, Any], rules: Sequence[Any], device: str) -> Any:
    """Load a state dict by rules, by transformers' own loader; gives its report."""
    loading, utils = import_module(LOADING), import_module("transformers.modeling_utils")
    config = utils.LoadStateDictConfig(weight_mapping=list(rules), device_map={"": device})
    load = loading.convert_and_load_state_dict_in_model
    apart = {"tp_plan": None} if "tp_plan" in signature(load).parameters else {}
    return load(model, dict(state), config, **apart)[0]


def renamed(key: str, rules: Sequence[Any], reverse: bool = False) -> str:
    """What rules make of a key: loading, renamings and then a converter; saving, by reversed rules, the other way."""
    loading = import_module(LOADING)
    renamings = [rule for rule in rules if isinstance(rule, loading.WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, loading.WeightConverter)]
    steps: tuple[tuple[list[Any], list[Any]], ...] = ((renamings, []), ([], converters))
    for step in reversed(steps) if reverse else steps:
        key = loading.rename_source_key(key, *step)[0]
    return key


def registered_by_users() -> set[str]:
    """The names that were registered by hand, where transformers keeps them."""
    home: ModuleType = import_module(REGISTRY)
    return getattr(home, "USER_REGISTERED_MAPPINGS", set())
