"""Plain `save_pretrained` of a model of transformers that `load` has filled: it writes the names of the checkpoint.

transformers undoes, when it saves a model, the conversions in that model's attribute `_weight_conversions`. A load puts
a list with one conversion there, in the attributes of this one model: it knows every key by name, and asks for the
names when they are wanted, from what the modules carry at that moment. So a load costs nothing more, and adapters that
came and went, heads that were added and parts that are saved alone are named as `treealign.save` would name them. What
somebody sets there later stands; transformers itself does so when it loads an adapter, by rules that know the names of
the adapter only, so `load_adapter` of this model leaves the list as it was. ``load(…, original_names=False)`` puts
nothing there, and takes away what an earlier load has put.

Both follow a copy of the model. A pickle holds neither: it is plain data, which can be read where treealign is not
installed, and a model out of it is saved by `treealign.save` under the names that it carries, by `save_pretrained`
under its own. What a conversion of transformers cannot do stays with `treealign.save`, too: tensors that the model does
not hold, casts, shards and header as they were.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from functools import update_wrapper
from importlib import import_module
from inspect import signature
from typing import Any, NamedTuple

from torch import nn

from treealign.checkpoint.naming import original_names as find_original_names
from treealign.checkpoint.places import Places, find_places
from treealign.errors import LoadError
from treealign.mapping.execution import run
from treealign.mapping.operations import Operation, invert

ATTRIBUTE = "_weight_conversions"
_MODELS, _CONVERSIONS = "transformers.modeling_utils", "transformers.core_model_loading"
_PATTERN = "as recorded by treealign"


def remember(modules: Mapping[str, nn.Module], *, original_names: bool) -> None:
    """Let the models of transformers among the modules of a loaded model save as they were loaded, or as ever.

    Nothing is imported for it: where the library is not, no model can be one of its models.
    """
    if not {_MODELS, _CONVERSIONS} <= sys.modules.keys():
        return
    kind = sys.modules[_MODELS].PreTrainedModel
    for module in dict.fromkeys(modules.values()):
        if isinstance(module, kind):
            _forget(module)
            if original_names:
                module.__dict__[ATTRIBUTE] = Conversions(module)
                module.__dict__["load_adapter"] = LoadAdapter(module)


def _forget(module: nn.Module) -> None:
    for name, kind in ((ATTRIBUTE, Conversions), ("load_adapter", LoadAdapter)):
        if isinstance(module.__dict__.get(name), kind):
            del module.__dict__[name]


class Conversions(list[Any]):
    """The conversions of one model: one, which is made of its records whenever it is used."""

    def __init__(self, model: nn.Module) -> None:
        self.model = weakref.ref(model)  # the model holds this: it must not be kept alive by itself
        super().__init__([_kind()(self._groups, saving=False)])

    def _groups(self) -> dict[str, Group]:
        model = self.model()
        if model is None:
            raise LoadError("the model that was loaded is gone", hint="treealign.save saves a shallow copy of it")
        return {name: group for group in _groups(model) for name in group.names}

    def __deepcopy__(self, memo: dict[int, Any]) -> Conversions:
        return Conversions(_copied(self.model(), memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ()


class LoadAdapter:
    """`load_adapter` of one model, after which the model has the conversions that it had before."""

    def __init__(self, model: nn.Module) -> None:
        self.model = weakref.ref(model)
        self.function: Callable[..., Any] = type(model).load_adapter  # type: ignore[attr-defined]  # of transformers
        update_wrapper(self, self.function)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Load an adapter, as the model does."""
        model = self.model()
        held = model.__dict__.get(ATTRIBUTE) if model is not None else None
        try:
            return self.function(model, *arguments, **options)
        finally:
            if model is not None and isinstance(held, Conversions):
                model.__dict__[ATTRIBUTE] = held

    def __deepcopy__(self, memo: dict[int, Any]) -> LoadAdapter:
        return LoadAdapter(_copied(self.model(), memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.model(), "load_adapter")


def _copied(model: Any, memo: Mapping[int, Any]) -> Any:
    """The copy of a model that is being made, in whose attributes a copy goes."""
    return memo.get(id(model), model)


class Group(NamedTuple):
    """Keys of the files, the names in the state dict that they are made of, and how."""

    keys: tuple[str, ...]
    names: tuple[str, ...]
    operations: tuple[Operation, ...]

    @property
    def inverse(self) -> Group:
        """From the files to the model."""
        return Group(self.names, self.keys, invert(self.operations))


def _groups(model: nn.Module) -> list[Group]:
    """What is made of which tensors of the state dict; tied names stand for one another. None where nothing changes."""
    places = find_places(model)
    found: dict[tuple[str, ...], Group] = {}
    for emission in find_original_names(places).emissions:
        names = tuple(place.raw for place in emission.places)
        before = found.get(names)
        keys = emission.keys if before is None else (*before.keys, *emission.keys)
        found[names] = Group(keys, names, emission.operations)
    groups = [*found.values(), *_aliases(places, found)]
    return [] if all(group.keys == group.names and not group.operations for group in groups) else groups


def _aliases(places: Places, found: Mapping[tuple[str, ...], Group]) -> list[Group]:
    alone = {names[0]: group for names, group in found.items() if len(names) == 1}
    pairs = [(places.places[alias].raw, places.places[key].raw) for alias, key in places.tied.items()]
    return [alone[raw]._replace(names=(alias,)) for alias, raw in pairs if raw in alone and alias not in alone]


def _kind() -> Any:
    """The class of conversions that know every key by name: one of transformers' own, so it is made when it is used."""
    if "Recorded" not in globals():
        globals()["Recorded"] = _made(sys.modules.get(_CONVERSIONS) or import_module(_CONVERSIONS))
    return globals()["Recorded"]


def _made(library: Any) -> Any:
    reports = "conversion_errors" in signature(library.WeightConverter.convert).parameters
    body = {
        "__module__": __name__,
        "__init__": _init,
        "__deepcopy__": lambda self, _: _kind()(self.groups, saving=self.saving),
        "rename_source_key": _rename_source_key,
        "add_tensor": _add_tensor,
        # releases differ in whether the errors of a conversion come back beside its tensors
        "convert": _convert_and_report if reports else _convert,
        "reverse_transform": lambda self: _kind()(self.groups(), saving=not self.saving),
    }
    return type("Recorded", (library.WeightConverter,), body)


def _init(self: Any, groups: Any, *, saving: bool) -> None:
    library = sys.modules[_CONVERSIONS]
    # an operation there must be; none is run, for `convert` is ours
    given = {"source_patterns": _PATTERN, "target_patterns": _PATTERN, "operations": [library.Chunk(dim=0)]}
    library.WeightConverter.__init__(self, **given)
    self.groups, self.saving = groups if callable(groups) else lambda: groups, saving
    self.tensors = {}
    self._was_used = True


def _table(self: Any) -> dict[str, Group]:
    """What belongs to each name on the side that is given."""
    if "_by_name" not in self.__dict__:
        groups = self.groups()
        # what is written twice is read once
        once = [g for g in dict.fromkeys(groups.values()) if g.operations or len(g.keys) == 1]
        self.__dict__["_by_name"] = groups if self.saving else {key: g.inverse for g in once for key in g.keys}
    table: dict[str, Group] = self.__dict__["_by_name"]
    return table


def _rename_source_key(self: Any, source_key: str) -> tuple[str, str | None]:
    group = _table(self).get(source_key)
    return (source_key, None) if group is None else (group.keys[0], _PATTERN)


def _add_tensor(self: Any, target_key: str, source_key: str, source_pattern: str, future: Any) -> None:
    self.tensors[source_key] = future
    self.layer_targets[target_key].add(source_key)


def _convert(self: Any, layer_name: str, **_: Any) -> dict[str, Any]:
    given = {key: _value(tensor) for key, tensor in self.tensors.items()}
    self.tensors = {}
    group = _table(self)[next(iter(given))]
    absent = [name for name in group.names if name not in given]
    if absent:
        raise LoadError(f"{', '.join(group.keys)}: made of {', '.join(absent)} too, which is not there")
    if not group.operations:
        return dict.fromkeys(group.keys, given[group.names[0]])
    made = run(group.operations, [given[name] for name in group.names], group.keys)
    return {key: tensor.contiguous() for key, tensor in zip(group.keys, made, strict=True)}


def _convert_and_report(self: Any, layer_name: str, conversion_errors: Any = None, **_: Any) -> tuple[Any, Any]:
    return _convert(self, layer_name), conversion_errors


def _value(tensor: Any) -> Any:
    """The tensor itself: a load may hand over something that reads it."""
    if hasattr(tensor, "result"):
        return tensor.result()
    return tensor if hasattr(tensor, "shape") else tensor()
