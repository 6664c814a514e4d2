"""A model without weights for transformers' own loader: the keys and shapes of a tree, and the classes of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple


class Part(NamedTuple):
    """What transformers looks at in a model, or a part of one that is a model itself."""

    class_name: str
    model_type: str | None
    base_model_prefix: str = ""
    config: Any = None


def parts_of(model: Any) -> dict[str, Part]:
    """The parts of a model that are models themselves, by path, in the order in which transformers meets them.

    Parameters
    ----------
    model : PreTrainedModel
        Of any device.
    """
    kind = _pretrained()
    return {
        path: Part(type(module).__name__, module.config.model_type, module.base_model_prefix, module.config)
        for path, module in model.named_modules()
        if isinstance(module, kind)
    }


def parts_named(modules: Mapping[str, str]) -> dict[str, Part]:
    """The same from the class names of a tree: those that transformers knows as models."""
    kind, library = _pretrained(), import_module("transformers")
    found: dict[str, Part] = {}
    for path, name in modules.items():
        known = getattr(library, name, None) if name.isidentifier() and not path.endswith(".") else None
        if isinstance(known, type) and issubclass(known, kind):
            config = getattr(known, "config_class", None)
            found[path] = Part(name, getattr(config, "model_type", None), getattr(known, "base_model_prefix", ""))
    return found


def classes_of(model_type: str) -> list[str]:
    """The model classes that transformers has for a model type, those with a task first; none for any other name."""
    tables = vars(import_module("transformers.models.auto.modeling_auto"))
    given = [table.get(model_type) for name, table in tables.items() if name.endswith("_MAPPING_NAMES")]
    names = dict.fromkeys(one for held in given if held for one in ([held] if isinstance(held, str) else held))
    return sorted(names, key=lambda name: ("For" not in name, name))


def skeleton(shapes: Mapping[str, tuple[int, ...]], parts: Mapping[str, Part], device: str = "meta") -> Any:
    """A module with parameters of these shapes, integers without gradient, whose parts bear these class names.

    Its root is always a model to transformers.
    """
    modules: dict[str, Any] = {"": _module(parts.get("") or Part("Skeleton", None))}
    for path in sorted(parts, key=lambda path: path.count(".")):
        _reach(modules, path, parts)
    for key, shape in shapes.items():
        path, _, name = key.rpartition(".")
        _reach(modules, path, parts).register_parameter(name, _empty(shape, device))
    return modules[""]


def _reach(modules: dict[str, Any], path: str, parts: Mapping[str, Part]) -> Any:
    if path not in modules:
        above, _, name = path.rpartition(".")
        part = parts.get(path)
        modules[path] = _module(part) if part else import_module("torch.nn").Module()
        _reach(modules, above, parts)._modules[name] = modules[path]
    return modules[path]


def _module(part: Part) -> Any:
    """A module that transformers takes for a model of that class."""
    kind = _pretrained()
    # a class of this module counts as custom code, to which the registry does not apply
    body = {"is_custom_code": classmethod(lambda cls: False), "base_model_prefix": part.base_model_prefix}
    made: Any = type(part.class_name, (kind,), body)
    module = made.__new__(made)
    import_module("torch.nn").Module.__init__(module)
    # found before `__init__` of a model would have made it
    module.__dict__["config"] = part.config or SimpleNamespace(model_type=part.model_type)
    return module


def _empty(shape: tuple[int, ...], device: str) -> Any:
    torch = import_module("torch")
    return torch.nn.Parameter(torch.empty(shape, dtype=torch.int64, device=device), requires_grad=False)


def _pretrained() -> Any:
    return import_module("transformers.modeling_utils").PreTrainedModel
