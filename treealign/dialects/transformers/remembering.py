"""Plain `save_pretrained` after `treealign.load`: transformers is handed the record, as a conversion of its own.

A model of transformers saves by the list in its `_weight_conversions`, which the next load of anything overwrites, and
which undoes patterns and not what was done. So the list holds one conversion that knows every key, and a hook on the
state dict, which a save asks for first, writes it anew from what the modules carry. Adapters that came and went,
heads that were added and parts that are saved alone are then named as `treealign.save` would name them.

What a conversion of transformers cannot do stays with `treealign.save`: tensors that the model does not hold, casts,
shards and header as they were, and the names of a model that was never loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from treealign.dialects.transformers.recorded import Group, recorded
from treealign.errors import TreealignError

ATTRIBUTE = "_weight_conversions"
_MARK = "_treealign_remembers"


def after_load(modules: Mapping[str, Any]) -> None:
    """Let all models of transformers among the modules of a loaded model save as they were loaded."""
    kind = import_module("transformers.modeling_utils").PreTrainedModel
    for module in dict.fromkeys(modules.values()):
        if isinstance(module, kind):
            refresh(module)
            if _MARK not in module.__dict__:
                module.__dict__[_MARK] = True
                module.register_state_dict_post_hook(before_save)


def before_save(module: Any, state_dict: Any, prefix: str, local_metadata: Any) -> None:
    """Hook on a state dict: a save reads the conversions right after it."""
    if not prefix:
        refresh(module)


def refresh(module: Any) -> None:
    """Write the conversions of a model from the record that it carries."""
    carrying = import_module("treealign.checkpoint.carrying")
    if any(carrying.slices(part) for part in module.modules()):
        setattr(module, ATTRIBUTE, _conversions(module))


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
