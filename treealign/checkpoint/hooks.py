"""`attach`: a model whose `load_state_dict` takes, and whose `state_dict` gives, the names of a checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from os import PathLike
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from treealign.checkpoint.carrying import carry, slices
from treealign.checkpoint.layouts import SINGLE, FileLayout, Layout
from treealign.checkpoint.load_record import make_record
from treealign.checkpoint.naming import Naming, mapped_names, original_names
from treealign.checkpoint.places import Place, Places, find_places
from treealign.errors import MappingError
from treealign.mapping.arguments import check_arguments
from treealign.mapping.conversion_mapping import ConversionMapping, as_mapping
from treealign.mapping.execution import run
from treealign.mapping.guards import GuardDecision
from treealign.mapping.marking import refuse_open
from treealign.mapping.planning import Step
from treealign.mapping.repeating import not_repeating


def attach(model: nn.Module, mapping: ConversionMapping | str | PathLike[str] | Iterable[Any]) -> Attachment:
    """Let the state dict of a model have the names of a checkpoint, through torch's own hooks.

    `model.load_state_dict` takes the checkpoint's names, or the model's own, as `map_keys` does; `model.state_dict`
    gives the names that were last loaded or, before that, those from which the mapping would load. That holds for
    everything that goes through state dicts: optimizers and trainers, `torch.save`, wrappers around the model, a model
    that has this one as a part.

    Parameters
    ----------
    model : nn.Module
        The model, or a part of one.
    mapping : ConversionMapping, path of its JSON, or transforms
        From the checkpoint's names to those of `model`.

    Returns
    -------
    Attachment
        Its `remove` takes the hooks off.

    Raises
    ------
    MappingError
        The mapping cannot be read, or still guesses. Later, by `load_state_dict`: two keys reach one name, or a guard
        cannot tell whether it was converted already.
    LoadError
        Later, by `state_dict`: a conversion cannot be undone.
    """
    check_arguments("attach", model, mapping)
    taken = as_mapping(mapping)
    refuse_open(taken, "nothing was attached")
    return Attachment(model, taken)


# what a model of transformers undoes when it is saved, by the names that it expects of its state dict
_REVERSED = "_weight_conversions"
_OWN_NAMES = "take it off with remove() before a state dict is loaded that was converted already"


class Attachment:
    """The hooks on a model. `remove` takes them off again; so does leaving it as a context manager."""

    def __init__(self, model: nn.Module, mapping: ConversionMapping) -> None:
        self.mapping = mapping
        self._name = type(model).__name__
        self._loaded: tuple[GuardDecision, list[Step], dict[str, torch.Tensor]] | None = None
        hooked: Any = model  # torch leaves these untyped
        self._handles = [
            hooked._register_load_state_dict_pre_hook(self._before_load, with_module=True),
            hooked.register_load_state_dict_post_hook(self._after_load),
            hooked._register_state_dict_hook(self._after_state_dict),
        ]
        self._kept = _without_reversal(model)

    def __repr__(self) -> str:
        state = "on" if self._handles else "removed from"
        return f"<Attachment {state} {self._name}: {len(self.mapping)} transforms; remove() takes it off>"

    def remove(self) -> None:
        """Take the hooks off: names are the model's own again."""
        while self._handles:
            self._handles.pop().remove()
        while self._kept:
            model, before = self._kept.pop()
            del model.__dict__[_REVERSED]
            model.__dict__.update(before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()

    def _before_load(self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        """Rename and convert in place what torch is about to load."""
        places = find_places(module)
        tensors = _taken(state_dict, prefix, places)
        decision = self.mapping.decide(tensors)
        planned = self.mapping.plan(tensors, decision, {*places.places, *places.recomputed})
        steps = not_repeating(self.mapping, planned, None, self._name, _OWN_NAMES)
        kept = _put(steps, tensors, state_dict, prefix, places)
        _fill_ties(state_dict, prefix, places)
        self._loaded = decision, [step for step in steps if _lands(step, places)], kept

    def _after_load(self, module: nn.Module, _: Any) -> None:
        """Let the model carry what was loaded, so that `state_dict` and `save` give the same names back."""
        if self._loaded is None:
            return
        decision, steps, kept = self._loaded
        self._loaded = None
        record = make_record(self.mapping, decision, steps, {})
        names = tuple(key for step in steps for key in step.sources)
        layout = Layout((FileLayout(SINGLE, names, sorted=False, metadata={"format": "pt"}),))
        carry(find_places(module).modules, record, layout, kept)

    def _after_state_dict(self, module: nn.Module, state_dict: dict[str, Any], prefix: str, _: Any) -> None:
        """Rename and convert in place what torch has just gathered."""
        places = find_places(module)
        naming = self._naming(module, places)
        tensors = {key: state_dict.pop(prefix + place.raw, place.tensor) for key, place in places.places.items()}
        for emission in naming.emissions:
            made = run(emission.operations, [tensors[place.key] for place in emission.places], emission.keys)
            state_dict.update(zip((prefix + key for key in emission.keys), made, strict=True))
        state_dict.update({prefix + key: tensor for key, tensor in naming.kept.items()})

    def _naming(self, module: nn.Module, places: Places) -> Naming:
        carried = slices(module)
        known = set(self.mapping)
        if carried and set(carried[0].read_record().mapping) <= known:
            return original_names(places)
        return mapped_names(places, self.mapping)


def _taken(state_dict: dict[str, Any], prefix: str, places: Places) -> dict[str, torch.Tensor]:
    """The tensors below a prefix, taken out of a state dict; the model's own names without its wrappers."""
    own = {prefix + place.raw: key for key, place in places.places.items()}
    keys = [k for k, value in state_dict.items() if k.startswith(prefix) and isinstance(value, torch.Tensor)]
    names = {key: own.get(key, key.removeprefix(prefix)) for key in keys}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise MappingError("a key is there with its wrappers and without them", facts=twice[:20])
    return {name: state_dict.pop(key) for key, name in names.items()}


def _put(
    steps: Iterable[Step], tensors: dict[str, torch.Tensor], state_dict: dict[str, Any], prefix: str, places: Places
) -> dict[str, torch.Tensor]:
    """Put tensors under the names they are to be loaded by; what the model computes itself is returned."""
    kept: dict[str, torch.Tensor] = {}
    for step in steps:
        if step.absent:  # left for torch to report
            state_dict.update({prefix + _raw(places.places.get(key), key): tensors[key] for key in step.sources})
        elif step.targets[0] in places.recomputed:
            kept[step.sources[0]] = tensors[step.sources[0]].detach().clone()
        else:
            made = run(step.operations, [tensors[key] for key in step.sources], step.sources)
            names = (prefix + _raw(places.places.get(key), key) for key in step.targets)
            state_dict.update(zip(names, made, strict=True))
    return kept


def _raw(place: Place | None, key: str) -> str:
    return key if place is None else place.raw


def _lands(step: Step, places: Places) -> bool:
    return not step.absent and all(key in places.places or key in places.recomputed for key in step.targets)


def _fill_ties(state_dict: dict[str, Any], prefix: str, places: Places) -> None:
    """A checkpoint holds a tied weight once; torch asks for it under every name."""
    for spots in places.names.values():
        held = [state_dict[prefix + spot.raw] for spot in spots if prefix + spot.raw in state_dict]
        if held and len(held) < len(spots):
            for spot in spots:
                state_dict.setdefault(prefix + spot.raw, held[0])


def _without_reversal(model: nn.Module) -> list[tuple[nn.Module, dict[str, Any]]]:
    """Let `save_pretrained` write the names of the state dict as they are; gives what to put back afterwards."""
    if not hasattr(model, "save_pretrained"):
        return []
    before = {name: held for name, held in model.__dict__.items() if name == _REVERSED}
    model.__dict__[_REVERSED] = []
    return [(model, before)]
