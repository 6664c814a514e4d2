"""Optimizer states follow their parameters: momenta are renamed, joined, split and permuted as these are.

What torch's optimizers keep for a parameter is one number (a count of steps) or as large as the parameter (momenta,
second moments, their maxima): number by number, so that whatever only moves numbers moves them too. What computes
numbers, and states of other shapes or codes (Adafactor's rows and columns, moments of 8 bits) below a weight that is
more than renamed, cannot follow: that is refused, with the reason.

A state is by number (``torch.optim``: the order in which the parameters were given to the optimizer) or by name
(`torch.distributed.checkpoint.state_dict.get_optimizer_state_dict`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from treealign.checkpoint.optimizer_slots import AS_LARGE, Size, states
from treealign.errors import FormatError, MappingError, TreealignError
from treealign.formats.distributed_metadata import METADATA
from treealign.formats.torch_files import loaded_safely
from treealign.formats.transaction.transaction import transaction
from treealign.mapping.conversion_mapping import ConversionMapping, Converted, as_mapping
from treealign.mapping.marking import mapping_source, refuse_open
from treealign.mapping.planning import Step
from treealign.tree.keytree import KeyTree

STATE, GROUPS, PARAMS, NAMES = "state", "param_groups", "params", "param_names"
_MOST = 20
Order = nn.Module | KeyTree | Iterable[str]


def convert_optimizer_state(
    state: Mapping[str, Any],
    mapping: ConversionMapping | str | PathLike[str],
    before: Order | None = None,
    after: Order | None = None,
    converted: Converted = None,
) -> dict[str, Any]:
    """The state dict of an optimizer for the parameters as a mapping makes them.

    Parameters
    ----------
    state : mapping
        What ``optimizer.state_dict()`` gave, or one by name.
    mapping : ConversionMapping or path
        Of the parameters, before -> after; its reverse leads back.
    before, after : module, KeyTree or iterable of str, optional
        The parameters in the order in which either optimizer was given them, for a state by number: a model stands for
        ``model.parameters()``. Without `before`, the names that torch keeps in the groups are taken; without `after`,
        the order is that of `before`, what is joined in the place of its first part.
    converted : optional
        See `ConversionMapping.map_keys`.

    Returns
    -------
    dict
        ``state`` and ``param_groups``, by number or by name as they were.

    Raises
    ------
    TreealignError
        It is no state of an optimizer, or nothing tells which parameter a number is.
    MappingError
        The mapping still guesses or touches no parameter; what stands beside the states has names that it changes, too;
        or some states cannot follow exactly: each is named with the reason.
    """
    if not (isinstance(state, Mapping) and isinstance(state.get(STATE), Mapping) and GROUPS in state):
        raise TreealignError(
            "not the state of an optimizer", hint=f"it has {STATE!r} and {GROUPS!r}, as optimizer.state_dict() gives"
        )
    transforms = as_mapping(mapping)
    refuse_open(transforms, "nothing was converted", mapping_source(mapping))
    rest = {key: value for key, value in state.items() if key not in (STATE, GROUPS)}
    _refuse_halves(rest, transforms, converted)
    shapes = _shapes(before)
    names = _names(state, before, shapes)
    steps = transforms.plan(list(names.values()), converted)
    _refuse_idle(transforms, steps, names.values())
    held = {names[key]: value for key, value in state[STATE].items() if key in names}
    faults: list[str] = []
    made = {name: value for step in steps for name, value in states(step, held, shapes, faults).items()}
    groups = _groups(state[GROUPS], names, steps, faults)
    if faults:
        hint = "start the optimizer anew for these parameters, or train on under the names of before"
        raise MappingError("the state of the optimizer cannot follow exactly", facts=faults[:_MOST], hint=hint)
    if not _is_numbered(state):
        return {STATE: made, GROUPS: groups, **rest}
    return {**_numbered(made, groups, _order(after, sum(len(group[PARAMS]) for group in groups))), **rest}


def _refuse_idle(transforms: ConversionMapping, steps: Sequence[Step], names: Iterable[str]) -> None:
    # what a guard holds back was done already
    idle = not any(step.transforms for step in (*steps, *transforms.plan(tuple(names), False)))
    if transforms and names and idle:
        facts = [f"the mapping has {one!r}" for one in tuple(transforms)[:3]]
        raise MappingError(
            "the mapping touches no parameter of this optimizer: nothing was converted",
            facts=[*facts, *(f"the optimizer has {name}" for name in list(names)[:3])],
            hint="was the mapping made for another model, or for the other direction (mapping.reverse)?",
        )


def _refuse_halves(beside: Any, transforms: ConversionMapping, converted: Converted, path: str = "") -> None:
    """Refuse what would be written half under the old names: tensors beside the state whose names change, too."""
    entries = beside.items() if isinstance(beside, Mapping) else enumerate(beside)
    keys = []
    for key, value in entries:
        if isinstance(value, torch.Tensor) and isinstance(key, str):
            keys.append(key)
        elif isinstance(value, Mapping | list | tuple):
            _refuse_halves(value, transforms, converted, f"{path}.{key}" if path else str(key))
    changed = _changed(transforms, keys, converted)
    if changed:
        raise MappingError(
            "beside the state of the optimizer lie tensors whose names the mapping changes: nothing was converted",
            where=path,
            facts=changed[:_MOST],
            hint="load it, and convert both: dict(mapping.apply(model)), convert_optimizer_state(state, mapping, …)",
        )


def _changed(transforms: ConversionMapping, keys: list[str], converted: Converted) -> list[str]:
    try:
        steps = transforms.plan(keys, converted)
    except MappingError:  # it speaks of them, or nothing tells whether
        return keys
    return [key for step in steps if step.operations or step.sources != step.targets for key in step.sources]


def _is_numbered(state: Mapping[str, Any]) -> bool:
    return any(isinstance(key, int) for group in state[GROUPS] for key in group[PARAMS])


def _order(given: Order | None, count: int) -> list[str]:
    """The names in order; of a model whose parameters are more than there are states, those that are trained."""
    if isinstance(given, nn.Module):
        named = list(given.named_parameters())
        return [name for name, one in named if len(named) == count or one.requires_grad]
    if isinstance(given, KeyTree):
        return [leaf.key for leaf in given.leaves if leaf.kind == "parameter" and leaf.key not in given.tied]
    return list(given or ())


def _names(state: Mapping[str, Any], before: Order | None, shapes: Mapping[str, Size]) -> dict[Any, str]:
    """What the state calls each parameter, with its name."""
    keys = [key for group in state[GROUPS] for key in group[PARAMS]]
    if not _is_numbered(state):
        return {key: str(key) for key in keys}
    kept = [name for group in state[GROUPS] for name in group.get(NAMES, ())]
    if not kept and len(state[GROUPS]) > 1 and isinstance(before, nn.Module | KeyTree):
        hint = "before=[…], the names group by group, in the order in which the optimizer was given them"
        raise TreealignError("the parameters stand in several groups, so that a model's order does not tell", hint=hint)
    order = kept or _order(before, len(keys))
    if len(order) != len(keys):
        facts = [f"the state speaks of {len(keys)} parameters, {len(order)} names are given"]
        hint = "before=model, as it was given to the optimizer, or the names of what was, in that order"
        raise TreealignError("nothing tells which parameter each number is", facts=facts, hint=hint)
    found = dict(zip(keys, order, strict=True))
    _refuse_other_shapes(state[STATE], found, shapes)
    return found


def _shapes(before: Order | None) -> dict[str, Size]:
    """The shapes of the parameters, as far as what was given has them."""
    if isinstance(before, nn.Module):
        return {name: tuple(one.shape) for name, one in before.named_parameters()}
    leaves = before.leaves if isinstance(before, KeyTree) else ()
    return {leaf.key: leaf.shape for leaf in leaves if leaf.shape is not None}


def _refuse_other_shapes(held: Mapping[Any, Any], names: Mapping[Any, str], shapes: Mapping[str, Size]) -> None:
    facts = [
        f"{key} is {names[key]} {shapes[names[key]]}, {slot} is {tuple(value.shape)}"
        for key, own in held.items()
        if key in names and names[key] in shapes
        for slot, value in own.items()
        if slot in AS_LARGE and isinstance(value, torch.Tensor) and tuple(value.shape) != shapes[names[key]]
    ]
    if facts:
        hint = "is it the model of before, with its parameters in that order?"
        raise TreealignError("states of other shapes than their parameters", facts=facts[:_MOST], hint=hint)


def _groups(
    groups: Iterable[Mapping[str, Any]], names: Mapping[Any, str], steps: Sequence[Step], faults: list[str]
) -> list[dict[str, Any]]:
    """The groups with the names that their parameters have now; what is joined has to stand in one group."""
    of_step = {name: step for step in steps for name in step.sources}
    made, taken = [], dict[str, int]()
    for at, group in enumerate(groups):
        own: dict[str, None] = {}
        for key in group[PARAMS]:
            for target in of_step[names[key]].targets:
                if taken.setdefault(target, at) != at:
                    faults.append(f"{target}: its parts stand in groups {taken[target]} and {at} of other settings")
                own[target] = None
        new = {**group, PARAMS: list(own)}
        made.append(new | ({NAMES: list(own)} if NAMES in group else {}))
    return made


def _numbered(made: Mapping[str, Any], groups: list[dict[str, Any]], order: Sequence[str]) -> dict[str, Any]:
    """States and groups by number again: torch numbers the parameters through all groups."""
    listed = [name for group in groups for name in group[PARAMS]]
    place = {name: at for at, name in enumerate(order)}
    absent = [name for name in listed if place and name not in place]
    if absent:
        hint = "is it the model of after?"
        raise TreealignError("parameters that `after` does not have", facts=absent[:_MOST], hint=hint)
    ordered = [sorted(group[PARAMS], key=place.__getitem__) if place else group[PARAMS] for group in groups]
    number = {name: at for at, name in enumerate(name for names in ordered for name in names)}
    renumbered = [
        group | {PARAMS: [number[name] for name in names]} | ({NAMES: names} if NAMES in group else {})
        for group, names in zip(groups, ordered, strict=True)
    ]
    return {STATE: {number[name]: made[name] for name in number if name in made}, GROUPS: renumbered}


def convert_optimizer(
    source: str | PathLike[str],
    destination: str | PathLike[str],
    mapping: ConversionMapping | str | PathLike[str],
    before: Order | None = None,
    after: Order | None = None,
    converted: Converted = None,
) -> None:
    """As `convert_optimizer_state`, from a file of torch to another, or from a distributed checkpoint to another.

    Raises
    ------
    FormatError
        There is no state of an optimizer in it, or more than one.
    TreealignError, MappingError
        As `convert_optimizer_state`, of all that the file holds; nothing is written.
    """
    path, target = Path(source), Path(destination)
    distributed = (path / METADATA).is_file()
    whole = _distributed(path) if distributed else loaded_safely(str(path), lambda: _loaded(path))
    name, state = _found(whole, str(path))
    made = convert_optimizer_state(state, mapping, before, after, converted)
    if name:
        others = {key: value for key, value in whole.items() if value is not state}
        _refuse_halves(others, as_mapping(mapping), converted)
    written = {**whole, name: made} if name else made
    if distributed:
        from torch.distributed.checkpoint.state_dict_saver import save

        if target.exists():
            raise FormatError("there is something already", where=str(target), hint="name a folder that is not there")
        save(written, checkpoint_id=str(target), no_dist=True)
        return
    with transaction(target, single=True) as held:
        with held.open(target.name) as file:
            torch.save(written, file)
        held.commit([target.name])


def _loaded(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _distributed(folder: Path) -> dict[str, Any]:
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    found: dict[str, Any] = {}
    reader = FileSystemReader(str(folder))
    planner = _EmptyStateDictLoadPlanner()  # type: ignore[no-untyped-call]
    _load_state_dict(found, storage_reader=reader, planner=planner, no_dist=True)
    return found


def _found(whole: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    """The state in what was saved, and its name there; an empty one where it is all."""
    if isinstance(whole, Mapping) and GROUPS in whole:
        return "", whole
    entries = whole.items() if isinstance(whole, Mapping) else ()
    inside = {str(name): one for name, one in entries if isinstance(one, Mapping) and GROUPS in one}
    if len(inside) != 1:
        what = f"{len(inside)} states of optimizers in what was saved"
        hint = "load it, and pass the one that is meant to convert_optimizer_state"
        raise FormatError(what, where=where, facts=list(inside), hint=hint)
    return next(iter(inside.items()))
