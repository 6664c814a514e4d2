"""Default configs of transformers, made such that a model can be built from them.

A default config is meant to be filled in: heads that do not divide the width, settings that only the published configs
have, a library of backbones that need not be installed. What follows from other settings is worked out here; what does
not is data, in `default_configs.json` beside this file: ``settings`` holds values for a setting of that name wherever
it is None, ``models`` those of a model type, a config class or a model class (with dots for those within), ``layers``
the kinds of layers of a model type, taken in turns.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache, reduce
from importlib import import_module, resources
from itertools import cycle, islice
from typing import Any

_LAYERS = "num_hidden_layers"


@cache
def _data() -> dict[str, dict[str, Any]]:
    file = resources.files(__package__).joinpath("default_configs.json")
    found: dict[str, dict[str, Any]] = json.loads(file.read_text("utf-8"))
    return found


def sub_configs(config: Any) -> Iterator[Any]:
    """The config and all that it holds, the outermost first."""
    yield config
    for value in list(vars(config).values()):
        if hasattr(value, "to_dict"):
            yield from sub_configs(value)


def completed(kind: Any, config: Any) -> Any:
    """A config for a model class with all that its model type is known to need; the given one stays as it is.

    Parameters
    ----------
    kind : type
        A model class of transformers.
    config : PreTrainedConfig
        Of that class.
    """
    made = copy.deepcopy(config)
    for held in sub_configs(made):
        for name in (held.model_type, type(held).__name__):
            _set(held, _data()["models"].get(name, {}))
        if type(getattr(held, "backbone_config", None)).__name__ == "TimmBackboneConfig":
            held.backbone_config, held.use_timm_backbone = _backbone(), False
    _set(made, _data()["models"].get(kind.__name__, {}))
    for held in sub_configs(made):
        _turns(held)
    return rebuilt(kind, made)


def guessed(kind: Any, config: Any) -> Any:
    """The same with what it leaves open filled in by what is usual: only for a class that is not built without."""
    made = copy.deepcopy(config)
    for held in sub_configs(made):
        for name, value in _data()["settings"].items():
            if getattr(held, name, 0) is None:
                setattr(held, name, value)
        _fit_heads(held)
    return rebuilt(kind, made)


def with_parts(kind: Any, config: Any) -> Any:
    """The config with a default one for each part that it may have and leaves out, such as a tower."""
    made = copy.deepcopy(config)
    for held in sub_configs(made):
        known: dict[str, Any] = {}
        for table in ("sub_configs", "sub_configs_defaults"):
            known |= getattr(held, table, None) or {}
        for name, part in known.items():
            if getattr(held, name, 0) is None and hasattr(part, "model_type") and part.model_type:
                setattr(held, name, _part(part))
    return rebuilt(kind, made)


def _part(part: Any) -> Any:
    """The default of a part: given as its class, or as a model type with settings."""
    if isinstance(part, type):
        return part()
    settings = getattr(part, "init_kwargs", None) or {}
    return import_module("transformers").AutoConfig.for_model(part.model_type, **settings)


def rebuilt(kind: Any, config: Any) -> Any:
    """The config as its class makes it of its settings, those of layers that there are not left out."""
    return kind.config_class.from_dict(within_layers(config.to_dict()))


def within_layers(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of single layers, and stages of a backbone, only for layers that there are."""
    made = {name: within_layers(value) if isinstance(value, dict) else value for name, value in settings.items()}
    layers, single = made.get(_LAYERS), made.get("per_layer_config")
    if isinstance(layers, int) and isinstance(single, dict):
        made["per_layer_config"] = {at: held for at, held in single.items() if int(at) < layers}
    last = next(iter(made.get("out_features") or ()), "")
    if isinstance(layers, int) and last.removeprefix("stage").isdigit() and int(last.removeprefix("stage")) > layers:
        made["out_features"], made["out_indices"] = [f"stage{layers}"], [layers]
    return made


def _set(config: Any, settings: dict[str, Any]) -> None:
    for path, value in settings.items():
        *parts, name = path.split(".")
        setattr(reduce(getattr, parts, config), name, copy.deepcopy(value))


def _turns(config: Any) -> None:
    for name, kinds in _data()["layers"].get(config.model_type, {}).items():
        setattr(config, name, list(islice(cycle(kinds), getattr(config, _LAYERS))))


def _backbone() -> Any:
    return import_module("transformers").ResNetConfig(out_features=["stage2", "stage3", "stage4"])


def _fit_heads(config: Any) -> None:
    """Heads that divide the width, and their size where it is left open."""
    width, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
    if not isinstance(width, int) or not isinstance(heads, int):
        return
    if getattr(config, "head_dim", None) is None and width % heads:
        config.num_attention_heads = heads = max(count for count in range(1, heads + 1) if width % count == 0)
    if getattr(config, "head_dim", 0) is None:
        config.head_dim = width // heads
