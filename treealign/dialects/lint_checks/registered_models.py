"""The classes that an entry of the registry is for, and a model of each without weights."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
from itertools import product
from pathlib import Path
from typing import Any

from treealign.dialects.transformers.default_configs import completed, guessed, rebuilt, with_parts

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
