"""What transformers is doing with a model just now, and what whoever makes it do so should know.

transformers saves a model that was never loaded by the rules of its registry, and one with a list of conversions by
that list, whatever it was loaded under. Neither can be mended from here, and `treealign.save` does both right.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from inspect import currentframe, unwrap
from typing import Any

from treealign.dialects.transformers.installed import LOADING, REGISTRY, renamed

_OWN = "treealign.save writes the model's own names; so does save_pretrained(..., save_original_format=False)"


def loads_an_adapter(module: Any) -> bool:
    """Whether transformers is loading an adapter into this model: what it sets then is about the adapter only.

    What it sets does not show it: the list is empty where no name of the adapter changes. The calls on the way here do.
    """
    adapters = import_module("transformers.integrations.peft").PeftAdapterMixin
    return _within(adapters.load_adapter, "self", module)


def _within(function: Callable[..., Any], argument: str, module: Any) -> bool:
    """Whether one of the calls on the way here is of this function, for this model."""
    code, frame = unwrap(function).__code__, currentframe()
    while frame is not None:
        if frame.f_code is code and frame.f_locals.get(argument) is module:
            return True
        frame = frame.f_back
    return False


def say_replaced() -> None:
    """Warn that a list takes the place of the record of a model."""
    warnings.warn(
        "conversions are set on a model that treealign.load filled: save_pretrained goes by them from now on, and "
        "treealign.save by the names that the model was loaded under",
        stacklevel=4,
    )


def say_other_names(module: Any) -> None:
    """Warn where transformers is saving a model that was never loaded under names that it does not have."""
    if not _within(import_module(LOADING).revert_weight_conversion, "model", module):
        return
    key, name = _other(module)
    if key != name:
        warnings.warn(
            f"a {type(module).__name__} that was never loaded is saved by the registry of transformers, under other "
            f"names than its own: {key} as {name}, say. {_OWN}",
            stacklevel=5,
        )


def _other(module: Any) -> tuple[str, str]:
    """A key that the registry gives another name to, and that name; what removes a prefix is left out, as there."""
    registry, loading = import_module(REGISTRY), import_module(LOADING)
    # to say something must not stop a save, whatever a release does otherwise
    with suppress(Exception):
        prefix = getattr(loading, "PrefixChange", ())
        rules = [
            r for r in registry.get_model_conversion_mapping(module, add_legacy=False) if not isinstance(r, prefix)
        ]
        back = [rule.reverse_transform() for rule in reversed(rules)]
        made = ((key, renamed(key, back, reverse=True)) for key in (module.state_dict() if back else ()))
        return next(((key, name) for key, name in made if name != key), ("", ""))
    return "", ""
