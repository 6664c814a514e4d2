"""Plain `save_pretrained` after `treealign.load`: transformers is handed the record, as a conversion of its own.

A model of transformers saves by the list in its `_weight_conversions`, which the next load of anything overwrites, and
which undoes patterns and not what was done. So that attribute is answered, for models that carry a record, by one
conversion that knows every key, made of what the modules carry at the moment it is asked for: a load costs nothing
more, and adapters that came and went, heads that were added and parts that are saved alone are named as
`treealign.save` would name them. A list that somebody sets on the model later is left to stand, but for the one that
transformers leaves behind when it loads an adapter: that one knows the names of the adapter only.

The model itself holds an empty tuple there, so that what is pickled is plain data. Where treealign is not installed, or
not in use yet, such a model is saved under its own names.

What a conversion of transformers cannot do stays with `treealign.save`: tensors that the model does not hold, casts,
shards and header as they were, and the names of a model that was never loaded. Whoever saves such a model under names
that it does not have, or sets a list that takes the place of a record, is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from treealign.dialects.transformers.recorded import Group, recorded
from treealign.dialects.transformers.telling import loads_an_adapter, say_other_names, say_replaced
from treealign.errors import TreealignError

ATTRIBUTE = "_weight_conversions"
_RECORD: tuple[()] = ()  # what the model holds where its record is to answer; nobody else puts a tuple there


def listen() -> None:
    """Let models of transformers answer by their records; once for all of them."""
    kind = _kind()
    if not isinstance(vars(kind).get(ATTRIBUTE), Answer):
        setattr(kind, ATTRIBUTE, Answer())


def after_load(modules: Mapping[str, Any]) -> None:
    """Let all models of transformers among the modules of a loaded model save as they were loaded."""
    listen()
    kind = _kind()
    for module in dict.fromkeys(modules.values()):
        if isinstance(module, kind):
            module.__dict__[ATTRIBUTE] = _RECORD


class Answer:
    """The attribute of all models of transformers: what was set, or what the record of the model says."""

    def __get__(self, module: Any, owner: type) -> Any:
        if module is None:
            return self
        held = module.__dict__.get(ATTRIBUTE)
        if ATTRIBUTE in module.__dict__ and held != _RECORD:
            return held
        if _carries(module):  # in a part of it, perhaps, that was loaded alone
            return _answer(module)
        if held == _RECORD:
            return []
        say_other_names(module)
        raise AttributeError(ATTRIBUTE)

    def __set__(self, module: Any, conversions: Any) -> None:
        recorded_ = module.__dict__.get(ATTRIBUTE) == _RECORD
        if recorded_ and loads_an_adapter(module):
            return
        if recorded_ and conversions and _carries(module):
            say_replaced()
        module.__dict__[ATTRIBUTE] = conversions

    def __delete__(self, module: Any) -> None:
        if module.__dict__.pop(ATTRIBUTE, None) is None and not _carries(module):
            raise AttributeError(ATTRIBUTE)


def _kind() -> Any:
    return import_module("transformers.modeling_utils").PreTrainedModel


def _carries(module: Any) -> bool:
    slices = import_module("treealign.checkpoint.carrying").slices
    return any(slices(part) for part in module.modules())


def _answer(module: Any) -> list[Any]:
    try:
        return _conversions(module)
    except AttributeError as error:  # it would pass for a model that has no conversions
        raise RuntimeError(f"the record of the model cannot be read: {error}") from error


def _conversions(module: Any) -> list[Any]:
    try:
        groups = _groups(module)
    except TreealignError as error:
        return [recorded({}, str(error))]
    same = all(group.keys == group.names and not group.operations for group in groups)
    return [] if same else [recorded({name: group for group in groups for name in group.names})]


def _groups(module: Any) -> list[Group]:
    """What is made of which tensors of the state dict; tied names stand for one another."""
    places = import_module("treealign.checkpoint.places").find_places(module)
    naming = import_module("treealign.checkpoint.naming").original_names(places)
    found: dict[tuple[str, ...], Group] = {}
    for emission in naming.emissions:
        names = tuple(place.raw for place in emission.places)
        before = found.get(names)
        keys = emission.keys if before is None else (*before.keys, *emission.keys)
        found[names] = Group(keys, names, emission.operations)
    return [*found.values(), *_aliases(places, found)]


def _aliases(places: Any, found: Mapping[tuple[str, ...], Group]) -> list[Group]:
    alone = {names[0]: group for names, group in found.items() if len(names) == 1}
    pairs = [(places.places[alias].raw, places.places[key].raw) for alias, key in places.tied.items()]
    return [alone[raw]._replace(names=(alias,)) for alias, raw in pairs if raw in alone and alias not in alone]
