"""The classes that an entry of the registry is for, and a model of each without weights.

A default config is meant to be filled in: heads that do not divide the width, settings that only the published configs
have, a library of backbones that need not be installed. What follows from other settings is worked out here; what does
not is data, in `default_configs.json` beside this file: ``settings`` holds values for a setting of that name wherever
it is None, ``models`` those of a model type, a config class or a model class (with dots for those within), ``layers``
the kinds of layers of a model type, taken in turns.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Iterator
from functools import cache, reduce
from importlib import import_module, resources
from inspect import Parameter, signature
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

_LAYER_COUNT = "num_hidden_layers"


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
    layers, single = made.get(_LAYER_COUNT), made.get("per_layer_config")
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
        setattr(config, name, list(islice(cycle(kinds), getattr(config, _LAYER_COUNT))))


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


# -- the classes of an entry -------------------------------------------------------------------------------------------

LAYERS = re.compile(r"^(num_\w*layers|n_layers?|\w*_layers|num_\w*blocks|depth|\w*_depth)$")
_FEW = 4
_MOST_SWITCHES = 24
_NO_SWITCHES = {"return_dict", "output_hidden_states", "output_attentions", "use_cache", "is_encoder_decoder"}


@cache
def homes() -> dict[str, str]:
    """Class name to the module of transformers that defines it; found by name alone, which imports nothing."""
    return {
        name: module
        for path, module in _modules("modeling")
        for name in re.findall(r"^class (\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


@cache
def _folders() -> dict[str, set[str]]:
    """Model type to the folders whose configs bear it."""
    found: dict[str, set[str]] = {}
    for path, _ in _modules("configuration"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"model_type(?:: \w+)? = \"([\w-]+)\"", text):
            found.setdefault(name, set()).add(path.parent.name)
    return found


def _modules(kind: str) -> Iterator[tuple[Path, str]]:
    root = Path(str(import_module("transformers").__file__)).parent / "models"
    for path in sorted(root.glob(f"*/{kind}_*.py"), reverse=True):
        yield path, f"transformers.models.{path.parent.name}.{path.stem}"


def classes_of(entry: str) -> list[Any]:
    """The model classes that an entry applies to, those with a head of their own last."""
    if entry in homes():
        return [getattr(import_module(homes()[entry]), entry)]
    folders = _folders().get(entry, set())
    names = {name: home for name, home in homes().items() if home.split(".")[2] in folders}
    found: list[Any] = [getattr(import_module(home), name, None) for name, home in names.items()]
    own = [kind for kind in found if _is_model(kind) and getattr(kind.config_class, "model_type", None) == entry]
    return sorted(own, key=lambda kind: ("For" in kind.__name__, kind.__name__))


def _is_model(kind: Any) -> bool:
    base = import_module("transformers.modeling_utils").PreTrainedModel
    if not (isinstance(kind, type) and issubclass(kind, base)) or kind.__name__.endswith("PreTrainedModel"):
        return False
    # what needs more than its config is a part of a model, and is never loaded by itself
    needed = [p for p in signature(kind).parameters.values() if p.default is Parameter.empty]
    return len([p for p in needed if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]) == 1


def build(kind: Any, config: Any = None) -> Any:
    """A model of a class on the meta device: by its default config with few layers, or else with all of them.

    Raises
    ------
    Exception
        Whatever the first attempt raised.
    """
    if config is not None:
        return _on_meta(kind, config)
    return _built(kind, _default(kind))


def _built(kind: Any, config: Any) -> Any:
    """The first that can be built of the config with few layers, or all of them, as it is, or with guesses."""
    failure: Exception | None = None
    for complete, most in product((_as_it_is, guessed), (_FEW, None)):
        try:
            return _on_meta(kind, complete(kind, _shorter(kind, config, most)))
        except Exception as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _as_it_is(_: Any, config: Any) -> Any:
    return config


def _on_meta(kind: Any, config: Any) -> Any:
    with import_module("torch").device("meta"):
        return kind(copy.deepcopy(config))


def _default(kind: Any) -> Any:
    return completed(kind, kind.config_class())


def _shorter(kind: Any, config: Any, most: int | None) -> Any:
    """The config with few layers, or as it is."""
    if most is None:
        return config
    made = copy.deepcopy(config)
    _cut(made, most)
    return rebuilt(kind, made)


def _cut(config: Any, most: int) -> None:
    cut: set[int] = set()
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict"):
            _cut(value, most)
        elif type(value) is int and LAYERS.match(name) and value > most:
            cut.add(value)
            setattr(config, name, most)
    for name, value in list(vars(config).items()):
        # one entry a layer
        if isinstance(value, list) and len(value) in cut:
            setattr(config, name, value[:most])


def variants(kind: Any) -> Iterator[Any]:
    """Models of a class by its default config that can be built: with all layers, all parts, or one switch turned."""
    config = _default(kind)
    with contextlib.suppress(Exception):
        yield _on_meta(kind, config)
    with contextlib.suppress(Exception):
        yield _built(kind, with_parts(kind, config))
    for path in list(_switches(config))[:_MOST_SWITCHES]:
        turned = copy.deepcopy(config)
        *parts, name = path
        held = turned
        for part in parts:
            held = getattr(held, part)
        setattr(held, name, not getattr(held, name))
        with contextlib.suppress(Exception):
            yield _built(kind, turned)


def _switches(config: Any) -> Iterator[tuple[str, ...]]:
    for name, value in vars(config).items():
        if hasattr(value, "to_dict"):
            yield from ((name, *rest) for rest in _switches(value))
        elif isinstance(value, bool) and not name.startswith("_") and name not in _NO_SWITCHES:
            yield (name,)
