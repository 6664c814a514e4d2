"""The classes that an entry of the registry is for, and a model of each without weights."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

_LAYERS = re.compile(r"^(num_\w*layers|n_layers?|\w*_layers|num_\w*blocks|depth|\w*_depth)$")
_FEW = 4
_MOST_SWITCHES = 24
_NO_SWITCHES = {"return_dict", "output_hidden_states", "output_attentions", "use_cache", "is_encoder_decoder"}


@cache
def _homes() -> dict[str, str]:
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
    if entry in _homes():
        return [getattr(import_module(_homes()[entry]), entry)]
    folders = _folders().get(entry, set())
    names = {name: home for name, home in _homes().items() if home.split(".")[2] in folders}
    found: list[Any] = [getattr(import_module(home), name, None) for name, home in names.items()]
    own = [kind for kind in found if _is_model(kind) and getattr(kind.config_class, "model_type", None) == entry]
    return sorted(own, key=lambda kind: ("For" in kind.__name__, kind.__name__))


def _is_model(kind: Any) -> bool:
    base = import_module("transformers.modeling_utils").PreTrainedModel
    return isinstance(kind, type) and issubclass(kind, base) and not kind.__name__.endswith("PreTrainedModel")


def build(kind: Any, config: Any = None) -> Any:
    """A model of a class on the meta device: by its default config with few layers, or else with all of them.

    Raises
    ------
    Exception
        Whatever the last attempt raised.
    """
    torch = import_module("torch")
    failure: Exception | None = None
    for most in (None,) if config is not None else (_FEW, None):
        try:
            made = config if config is not None else _default(kind, most)
            with torch.device("meta"):
                return kind(copy.deepcopy(made))
        except Exception as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _default(kind: Any, most: int | None) -> Any:
    config = kind.config_class()
    _complete(config)
    return _shorter(kind, config, most)


def _shorter(kind: Any, config: Any, most: int | None) -> Any:
    """The config with few layers, or as it is."""
    if most is None:
        return config
    made = copy.deepcopy(config)
    _cut(made, most)
    return kind.config_class.from_dict(made.to_dict())


def _complete(config: Any) -> None:
    """Fill in what a default config leaves to the published ones, or to a library that need not be there."""
    if type(getattr(config, "backbone_config", None)).__name__ == "TimmBackboneConfig":
        stages = ["stage2", "stage3", "stage4"]
        config.backbone_config = import_module("transformers").ResNetConfig(out_features=stages)
        config.use_timm_backbone = False
    if getattr(config, "vocab_size", 0) is None:
        config.vocab_size = 33
    for value in vars(config).values():
        if hasattr(value, "to_dict"):
            _complete(value)


def _cut(config: Any, most: int) -> None:
    cut: set[int] = set()
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict"):
            _cut(value, most)
        elif type(value) is int and _LAYERS.match(name) and value > most:
            cut.add(value)
            setattr(config, name, most)
    for name, value in list(vars(config).items()):
        # one entry a layer
        if isinstance(value, list) and len(value) in cut:
            setattr(config, name, value[:most])


def variants(kind: Any) -> Iterator[Any]:
    """Models of a class by its default config with one switch turned, those that can be built."""
    config = kind.config_class()
    _complete(config)
    for path in list(_switches(config))[:_MOST_SWITCHES]:
        turned = copy.deepcopy(config)
        *parts, name = path
        held = turned
        for part in parts:
            held = getattr(held, part)
        setattr(held, name, not getattr(held, name))
        for most in (_FEW, None):
            with contextlib.suppress(Exception):
                yield build(kind, _shorter(kind, turned, most))
                break


def _switches(config: Any) -> Iterator[tuple[str, ...]]:
    for name, value in vars(config).items():
        if hasattr(value, "to_dict"):
            yield from ((name, *rest) for rest in _switches(value))
        elif isinstance(value, bool) and not name.startswith("_") and name not in _NO_SWITCHES:
            yield (name,)
