"""Optimizer states follow their parameters: momenta are renamed, joined, split and permuted as these are.

What torch's optimizers keep for a parameter is one number (a count of steps) or as large as the parameter (momenta,
second moments, their maxima): number by number, so that whatever only moves numbers moves them too. What computes
numbers, and states of other shapes or codes (Adafactor's rows and columns, moments of 8 bits) below a weight that is
more than renamed, cannot follow: that is refused, with the reason.

A state is by number (``torch.optim``: the order in which the parameters were given to the optimizer) or by name
(`torch.distributed.checkpoint.state_dict.get_optimizer_state_dict`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from treealign.checkpoint.conversion.again import decided_steps, refuse_unsaid
from treealign.checkpoint.optimizer_files import GROUPS, MOST, convert_beside, find_state, read_saved
from treealign.checkpoint.optimizer_slots import AS_LARGE, Size, sizes, states
from treealign.errors import MappingError, TreealignError
from treealign.formats.addresses import split_address
from treealign.mapping.conversion_mapping import ConversionMapping, Converted, as_mapping
from treealign.mapping.marking import mapping_source, refuse_open
from treealign.mapping.planning import Step
from treealign.tree.keytree import KeyTree

STATE, PARAMS, NAMES = "state", "params", "param_names"
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
    UndecidedError
        Nothing tells whether it was converted already: `converted` does.
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
    convert_beside(rest, (), transforms, converted)
    shapes = _shapes(before)
    names = _names(state, before, shapes)
    held = {names[key]: value for key, value in state[STATE].items() if key in names}
    steps = _steps(transforms, names.values(), {**sizes(held), **shapes}, converted)
    faults: list[str] = []
    made = {name: value for step in steps for name, value in states(step, held, shapes, faults).items()}
    groups = _groups(state[GROUPS], names, steps, faults)
    if faults:
        hint = "start the optimizer anew for these parameters, or train on under the names of before"
        raise MappingError("the state of the optimizer cannot follow exactly", facts=faults[:MOST], hint=hint)
    if not _is_numbered(state):
        return {STATE: made, GROUPS: groups, **rest}
    return {**_numbered(made, groups, _order(after, sum(len(group[PARAMS]) for group in groups))), **rest}


def _steps(
    transforms: ConversionMapping, names: Collection[str], shapes: Mapping[str, Size], converted: Converted
) -> tuple[Step, ...]:
    """What becomes of the parameters, as it does in a checkpoint of theirs: nothing a second time, nothing in part."""
    _, steps = decided_steps(transforms, KeyTree.from_leaves([(name, None, None) for name in names]), converted, "")
    if converted is None:
        refuse_unsaid(steps, shapes, "the state of the optimizer")
    _refuse_idle(transforms, steps, names)
    return steps


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
        raise TreealignError("states of other shapes than their parameters", facts=facts[:MOST], hint=hint)


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
        raise TreealignError("parameters that `after` does not have", facts=absent[:MOST], hint=hint)
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

    What was saved beside the state goes along, state dicts of the same model under their new names; ``source#name``
    takes one of several states, alone. The result appears whole, or not at all.

    Raises
    ------
    FormatError
        There is no state of an optimizer in it, or more than one.
    TreealignError, MappingError
        As `convert_optimizer_state`, of all that the file holds; nothing is written.
    """
    path, part = split_address(source)
    whole, write = read_saved(Path(path))
    name, state = find_state(whole, path, part)
    made: Any = convert_optimizer_state(state, mapping, before, after, converted)
    if name and not part:
        names = set(_names(state, before, _shapes(before)).values())
        others = {key: value for key, value in whole.items() if value is not state}
        beside = convert_beside(others, names, as_mapping(mapping), converted)
        made = {key: made if value is state else beside[key] for key, value in whole.items()}
    write(made, Path(destination))
