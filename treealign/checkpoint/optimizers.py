"""Optimizer states follow their parameters: momenta are renamed, joined, split and permuted as these are.

What torch's optimizers keep for a parameter is one number (a count of steps) or as large as the parameter (momenta,
second moments, their maxima): number by number, so that whatever only moves numbers moves them too. What computes
numbers, and states of other shapes (Adafactor's rows and columns) below a weight that is more than renamed, cannot
follow: that is refused, with the reason.

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

from treealign.errors import FormatError, MappingError, TreealignError
from treealign.formats.distributed_metadata import METADATA
from treealign.formats.torch_files import loaded_safely
from treealign.formats.transaction.transaction import transaction
from treealign.mapping.conversion_mapping import ConversionMapping, Converted, as_mapping
from treealign.mapping.execution import run
from treealign.mapping.operations import is_lossy
from treealign.mapping.planning import Step
from treealign.tree.keytree import KeyTree

STATE, GROUPS, PARAMS, NAMES = "state", "param_groups", "params", "param_names"
# as large as their parameters in whatever optimizer keeps them
_AS_LARGE = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "exp_inf", "square_avg", "grad_avg", "sum")
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
        Some states cannot follow exactly; each is named with the reason.
    """
    if not (isinstance(state, Mapping) and isinstance(state.get(STATE), Mapping) and GROUPS in state):
        raise TreealignError(
            "not the state of an optimizer", hint=f"it has {STATE!r} and {GROUPS!r}, as optimizer.state_dict() gives"
        )
    names = _names(state, before)
    steps = as_mapping(mapping).plan(list(names.values()), converted)
    held = {names[key]: value for key, value in state[STATE].items() if key in names}
    faults: list[str] = []
    made = {name: value for step in steps for name, value in _states(step, held, faults).items()}
    groups = _groups(state[GROUPS], names, steps, faults)
    if faults:
        hint = "start the optimizer anew for these parameters, or train on under the names of before"
        raise MappingError("the state of the optimizer cannot follow exactly", facts=faults[:_MOST], hint=hint)
    rest = {key: value for key, value in state.items() if key not in (STATE, GROUPS)}
    if not _is_numbered(state):
        return {STATE: made, GROUPS: groups, **rest}
    return {**_numbered(made, groups, _order(after, sum(len(group[PARAMS]) for group in groups))), **rest}


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


def _names(state: Mapping[str, Any], before: Order | None) -> dict[Any, str]:
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
    _refuse_other_shapes(state[STATE], found, before)
    return found


def _refuse_other_shapes(states: Mapping[Any, Any], names: Mapping[Any, str], before: Order | None) -> None:
    shapes: dict[str, Any] = {}
    if isinstance(before, nn.Module):
        shapes = {name: tuple(one.shape) for name, one in before.named_parameters()}
    elif isinstance(before, KeyTree):
        shapes = {leaf.key: leaf.shape for leaf in before.leaves}
    facts = [
        f"{key} is {names[key]} {shapes[names[key]]}, {slot} is {tuple(value.shape)}"
        for key, own in states.items()
        if key in names and names[key] in shapes
        for slot, value in own.items()
        if slot in _AS_LARGE and value is not None and tuple(value.shape) != shapes[names[key]]
    ]
    if facts:
        hint = "is it the model of before, with its parameters in that order?"
        raise TreealignError("states of other shapes than their parameters", facts=facts[:_MOST], hint=hint)


def _states(step: Step, held: Mapping[str, Any], faults: list[str]) -> dict[str, dict[str, Any]]:
    """What the optimizer keeps of the parameters that a step makes."""
    own = [held.get(name) for name in step.sources]
    if not any(own):
        return {}
    if not step.operations and len(step.sources) == len(step.targets) == 1:
        return {step.targets[0]: {slot: _copied(value) for slot, value in (own[0] or {}).items()}}
    where = ", ".join(step.sources[:3])
    kinds = {tuple(sorted(one)) if one else () for one in own}
    if is_lossy(step.operations) or len(kinds) != 1:
        why = "its numbers are computed anew" if is_lossy(step.operations) else "not all parts have the same states"
        faults.append(f"{where}: {why}")
        return {}
    found: dict[str, dict[str, Any]] = {name: {} for name in step.targets}
    for slot in own[0] or {}:
        parts = [one[slot] for one in own if one]
        values = _values(step, parts)
        if values is None:
            faults.append(f"{where}: {slot} is neither one number for all of it nor as large as the parameter")
            continue
        for name, value in zip(step.targets, values, strict=True):
            found[name][slot] = value
    return found


def _values(step: Step, parts: Sequence[Any]) -> list[Any] | None:
    """One slot of all parameters of a step; None where it cannot follow."""
    if all(not isinstance(part, torch.Tensor) or part.ndim == 0 for part in parts):
        same = all(float(part) == float(parts[0]) for part in parts)
        return [_copied(parts[0]) for _ in step.targets] if same else None
    try:
        return list(map(_copied, run(step.operations, parts)))
    except (MappingError, AttributeError, RuntimeError):
        return None


def _copied(value: Any) -> Any:
    """In memory of its own: an optimizer goes on in the tensors that it is given."""
    return value.clone() if isinstance(value, torch.Tensor) else value


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
        As `convert_optimizer_state`; nothing is written.
    """
    path, target = Path(source), Path(destination)
    distributed = (path / METADATA).is_file()
    whole = _distributed(path) if distributed else loaded_safely(str(path), lambda: _loaded(path))
    name, state = _found(whole, str(path))
    made = convert_optimizer_state(state, mapping, before, after, converted)
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
