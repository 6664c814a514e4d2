"""What was saved around the state of an optimizer: read, found, converted along with it, and written whole."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from treealign.checkpoint.conversion.again import decided_steps, refuse_unsaid
from treealign.checkpoint.conversion.routing import refuse_lossy
from treealign.errors import FormatError, MappingError
from treealign.formats.addresses import SIGN
from treealign.formats.distributed_metadata import METADATA
from treealign.formats.torch_files import loaded_safely
from treealign.formats.transaction.transaction import transaction
from treealign.mapping.conversion_mapping import ConversionMapping, Converted
from treealign.mapping.execution import run_steps
from treealign.tree.keytree import KeyTree

GROUPS = "param_groups"
MOST = 20
Write: TypeAlias = Callable[[Any, Path], None]


def read_saved(path: Path) -> tuple[Any, Write]:
    """What is in a file of torch or in a distributed checkpoint, and how to write such a one.

    Raises
    ------
    FormatError
        It cannot be read.
    """
    if (path / METADATA).is_file():
        return _distributed(path), _write_distributed
    return loaded_safely(str(path), lambda: torch.load(path, map_location="cpu", weights_only=True)), _write_file


def _distributed(folder: Path) -> dict[str, Any]:
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    found: dict[str, Any] = {}
    reader = FileSystemReader(str(folder))
    planner = _EmptyStateDictLoadPlanner()  # type: ignore[no-untyped-call]
    with _in_our_words("cannot read", folder):
        _load_state_dict(found, storage_reader=reader, planner=planner, no_dist=True)
    return found


@contextmanager
def _in_our_words(what: str, folder: Path) -> Iterator[None]:
    """What stops torch's distributed checkpoints is no `Exception`, and holds those of all processes."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        with warnings.catch_warnings():
            # on purpose: one process does all of it
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            yield
    except CheckpointException as error:
        reasons = [f"{type(fault[0]).__name__}: {fault[0]}" for fault in error.failures.values()]
        raise FormatError(f"{what} the distributed checkpoint", where=str(folder), facts=reasons[:MOST]) from error


def _write_distributed(whole: Any, target: Path) -> None:
    from torch.distributed.checkpoint.state_dict_saver import save

    with transaction(target) as held, _in_our_words("cannot write", target):
        if held.fresh is None or target.exists():
            raise FormatError("there is something already", where=str(target), hint="name a folder that is not there")
        save(whole, checkpoint_id=str(held.stage), no_dist=True)
        held.commit([entry.name for entry in held.stage.iterdir()])


def _write_file(whole: Any, target: Path) -> None:
    with transaction(target, single=True) as held:
        with held.open(target.name) as file:
            torch.save(whole, file)
        held.commit([target.name])


def find_state(whole: Any, where: str, part: str = "") -> tuple[str, Mapping[str, Any]]:
    """The state of an optimizer in what was saved, and its name there; an empty one where it is all.

    Raises
    ------
    FormatError
        There is none, or none of the name `part`; or there are several.
    """
    if isinstance(whole, Mapping) and GROUPS in whole and not part:
        return "", whole
    entries = whole.items() if isinstance(whole, Mapping) else ()
    inside = {str(name): one for name, one in entries if isinstance(one, Mapping) and GROUPS in one}
    chosen = {name: one for name, one in inside.items() if part in ("", name)}
    if len(chosen) != 1:
        what = f"no state of an optimizer {part!r}" if part else f"{len(inside)} states of optimizers"
        facts = [f"[{name!r}]: {len(one.get('state', ()))} parameters" for name, one in inside.items()]
        hint = (
            f"say which is meant: {where}{SIGN}{next(iter(inside), 'optimizer')}" if inside else "is it another file?"
        )
        raise FormatError(f"{what} in what was saved", where=where, facts=facts, hint=hint)
    return next(iter(chosen.items()))


def convert_beside(
    beside: Any, names: Collection[str], transforms: ConversionMapping, converted: Converted, path: str = ""
) -> Any:
    """What was saved beside the state of an optimizer: its model under its new names, the rest as it is.

    Parameters
    ----------
    beside : any
        What was saved.
    names : collection of str
        The parameters of the optimizer, before: what holds all of them is a state dict of its model.
    transforms, converted
        See `ConversionMapping.map_keys`.
    path : str
        Where it stood, for errors.

    Raises
    ------
    MappingError
        Other tensors have names that the mapping changes, so that half would be written under the old names; or those
        of the model cannot follow exactly.
    """
    if not isinstance(beside, Mapping | list | tuple):
        return beside
    entries = list(beside.items()) if isinstance(beside, Mapping) else list(enumerate(beside))
    tensors = {key: value for key, value in entries if isinstance(value, Tensor) and isinstance(key, str)}
    made: dict[Any, Any] = {}
    if _speaks_of(transforms, tensors, converted):
        if not (names and tensors.keys() >= set(names)):
            raise MappingError(
                "beside the state of the optimizer lie tensors whose names the mapping changes: nothing was converted",
                where=path,
                facts=list(tensors)[:MOST],
                hint="load it, and convert each: dict(mapping.apply(model)), convert_optimizer_state(state, …)",
            )
        made, entries = _converted(tensors, transforms, converted, path), [e for e in entries if e[0] not in tensors]
    inner = {
        key: convert_beside(value, names, transforms, converted, f"{path}.{key}" if path else str(key))
        for key, value in entries
    }
    if not made and all(inner[key] is value for key, value in entries):
        return beside
    return made | inner if isinstance(beside, Mapping) else list(inner.values())


def _speaks_of(transforms: ConversionMapping, tensors: Mapping[str, Tensor], converted: Converted) -> bool:
    try:
        steps = transforms.plan(tuple(tensors), converted)
    except MappingError:  # it speaks of them, or nothing tells whether
        return True
    return any(step.operations or step.sources != step.targets for step in steps)


def _converted(
    tensors: Mapping[str, Tensor], transforms: ConversionMapping, converted: Converted, path: str
) -> dict[str, Tensor]:
    keys = KeyTree.from_leaves([(key, None, None) for key in tensors])
    _, steps = decided_steps(transforms, keys, converted, path)
    if converted is None:
        refuse_unsaid(steps, {key: tuple(tensor.shape) for key, tensor in tensors.items()}, path)
    refuse_lossy(steps)
    return dict(run_steps(steps, tensors))
