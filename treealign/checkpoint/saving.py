"""`save`: a model back into files, under the names, dtypes and in the layout of what it was loaded from."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn

from treealign.checkpoint.adapters.parts import WEIGHTS
from treealign.checkpoint.adapters.saving import adapter_names, config_beside, scope_to_save
from treealign.checkpoint.assigning import is_sharded
from treealign.checkpoint.conversion.computing import computed
from treealign.checkpoint.conversion.finishing import finish
from treealign.checkpoint.conversion.placing import Placement, arrange
from treealign.checkpoint.conversion.planning import ConversionPlan, plan_files
from treealign.checkpoint.conversion.running import run_tasks
from treealign.checkpoint.conversion.side_files import SideFiles
from treealign.checkpoint.emitting import Outgoing, emit_tensors
from treealign.checkpoint.load_record import Record
from treealign.checkpoint.managed import refuse_managed
from treealign.checkpoint.naming import Naming, mapped_names, original_names, own_names
from treealign.checkpoint.obsolete import CONVERSIONS, obsolete
from treealign.checkpoint.places import Places, find_places
from treealign.checkpoint.readers import Reader
from treealign.checkpoint.record_file import BEFORE, NAME, Part, read_section, to_bytes
from treealign.errors import FormatError, LoadError
from treealign.formats.checkpoints import keys_by_shard, open_checkpoint
from treealign.formats.collector import collector_paused
from treealign.formats.transaction.transaction import transaction
from treealign.mapping.arguments import check_arguments
from treealign.mapping.conversion_mapping import ConversionMapping, as_mapping
from treealign.mapping.marking import refuse_open
from treealign.shown import Shown
from treealign.tree.fold import fold_names


@dataclass(frozen=True)
class SaveResult(Shown):
    """What a save wrote.

    Attributes
    ----------
    files : tuple of str
        Names of the files in the folder: weights, then index and record, if there are any; none where another process
        wrote.
    keys : tuple of str
        The keys in them.
    uncast : mapping of str to (str, str)
        Key to the dtype it was saved in and the dtype it was loaded from, where casting back would have lost something.
    approximate : tuple of str
        Keys that stand for changed weights behind a conversion that cannot be undone exactly.
    """

    files: tuple[str, ...]
    keys: tuple[str, ...]
    uncast: Mapping[str, tuple[str, str]]
    approximate: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<SaveResult: {len(self.keys)} keys, files {', '.join(self.files[:4])}{', …' * (len(self.files) > 4)}>"


def save(
    model: nn.Module,
    directory: str | PathLike[str],
    original_names: bool = True,
    *,
    max_shard_size: int | None = None,
    mapping: ConversionMapping | str | PathLike[str] | Iterable[Any] | None = None,
    adapter: str = "",
) -> SaveResult:
    """Save a model as safetensors.

    What was loaded goes back as it came: keys, dtypes, metadata, shards and the order of tensors; byte for byte where
    no value changed. What a load left out is not written. A model that was never loaded is saved under its own names,
    and so are parameters that no checkpoint had, unless everything around them was renamed in the same way.

    Of a model of PEFT into which nothing but an adapter was loaded, that adapter is saved, with its config; the base
    model is as it was.

    Of a model that is sharded over processes, every process has to call this; the first one writes.

    Parameters
    ----------
    model : nn.Module
        Wrapped or not; a part of a model that was loaded is saved under the names of that part.
    directory : str or PathLike
        Made if it is absent. Its checkpoint is replaced, whole or not at all; other files stay. A path that ends in
        ``.safetensors`` is that one file, without a record beside it.
    original_names : bool
        False for the model's own names.
    max_shard_size : int, optional
        Bytes of tensors in a file; by default, as many files as the checkpoint had.
    mapping : ConversionMapping, path of its JSON, or transforms, optional
        For weights that came into the model by other means than `load`: save under the names that the mapping would
        load from. What the model carries is then not asked.
    adapter : str
        Save the adapter of this name (of PEFT) and nothing else.

    Returns
    -------
    SaveResult
        A record is written beside the weights where their names are not the model's, or where they were loaded by a
        guess, and `load` picks it up.

    Raises
    ------
    LoadError
        Something cannot be saved: a parameter on the meta device, or kept elsewhere by another library, a conversion
        that no longer fits the tensors, two tensors under one name. Nothing was written.
    MappingError
        The mapping cannot be read, or still guesses.
    FormatError
        The system refuses to write; the folder is as it was.

    Warns
    -----
    UserWarning
        Where tensors were cast on loading and casting back would lose something: they keep the dtype they have.
    """
    check_arguments("save", model, directory)
    folder, file = _folder_and_file(Path(directory))
    refuse_managed(model, str(folder))
    with collector_paused():
        places = find_places(model)
        _refuse_empty(places, folder)
        given = None if mapping is None else as_mapping(mapping)
        if given is not None:
            refuse_open(given, "nothing was written", str(folder))
        scope = None if given is not None else scope_to_save(model, places, adapter, str(folder))
        naming = adapter_names(scope, original=original_names) if scope else _naming(places, original_names, given)
        if max_shard_size is not None:
            naming.in_order_of(places)
        outgoing = emit_tensors(naming, str(folder))
        placement = _placed(outgoing, naming, max_shard_size, file or (WEIGHTS if scope and not naming.layouts else ""))
        beside = config_beside(model, scope, naming) if scope and not file else {}
        # beside an adapter may stand its base model, and a file that is asked for by its name is no checkpoint of a
        # folder: what is there is another's, which is neither replaced nor spoken of
        whole = not (scope or file)
        parts = naming.parts if whole and any(_tells_something(part.record) for part in naming.parts) else ()
        plan = plan_files(outgoing.source, outgoing.made, placement)
    sharded = any(is_sharded(place.tensor) for place in places.places.values())
    writes = not sharded or torch.distributed.get_rank() == 0
    replaced = outgoing.made.keys() if whole else None
    files = _write(folder, plan, beside, parts, replaced) if writes else _take_part(plan)
    _warn(outgoing.uncast)
    return SaveResult(tuple(files), tuple(outgoing.made), outgoing.uncast, outgoing.approximate)


def _placed(outgoing: Outgoing, naming: Naming, max_shard_size: int | None, file: str) -> Placement:
    found = arrange([one.planned(key) for key, one in outgoing.made.items()], naming.layouts, max_shard_size)
    return found.in_one_file(file) if file else found


def _folder_and_file(path: Path) -> tuple[Path, str]:
    """The folder to write to, and the name of the one file that is asked for; empty for a whole folder."""
    return (path.parent, path.name) if path.suffix == ".safetensors" and not path.is_dir() else (path, "")


def _naming(places: Places, original: bool, mapping: ConversionMapping | None) -> Naming:
    if mapping is not None:
        return mapped_names(places, mapping)
    return original_names(places) if original else own_names(places)


def _refuse_empty(places: Places, folder: Path) -> None:
    bare = [key for key, place in places.places.items() if place.tensor.is_meta]
    if bare:
        raise LoadError("these have no values yet", where=str(folder), facts=fold_names(bare), hint="load them first")
    if not places.places:
        raise LoadError("the model has no parameters and no buffers", where=str(folder))


def _write(
    folder: Path, plan: ConversionPlan, beside: Mapping[str, bytes], parts: Sequence[Part], keys: Set[str] | None
) -> list[str]:
    """Put the files in their places; as a checkpoint of these keys they replace the one that is there."""
    with transaction(folder) as held:
        run_tasks(plan.tasks, held.stage, alone=True)
        conversion = None if keys is None else _conversion(folder, keys)
        told = {NAME: to_bytes(parts, conversion)} if parts or conversion is not None else {}
        names = finish(held.stage, plan, SideFiles(), {**beside, **told})
        going = [] if keys is None else obsolete(folder, names, chosen=False)
        if conversion is not None:  # what it kept goes on to stand beside it
            going = [name for name in going if not name.startswith(CONVERSIONS) or name == BEFORE]
        held.commit(names, obsolete=going)
    weights = [task.name for task in plan.tasks]
    return [
        *weights,
        *sorted(set(names).difference(weights), key=lambda name: (name == NAME, name == plan.placement.index_name)),
    ]


def _conversion(folder: Path, keys: Set[str]) -> Mapping[str, Any] | None:
    """What the record there says of a conversion, where that goes on to be true: it speaks of these keys."""
    try:
        said = [read_section(folder / name, "conversion", dict, "") for name in (NAME, BEFORE)]
        found = next((one for one in said if one is not None), None)
        if found is None:
            return None
        there = {key for held in keys_by_shard(open_checkpoint(folder).files).values() for key in held}
    except FormatError:
        return None
    return found if there == keys else None


def _tells_something(record: Record) -> bool:
    return bool(record.mapping or record.mapping.marked or record.exceptions)


def _take_part(plan: ConversionPlan) -> list[str]:
    """Give what another process writes: all of them gather the tensors that are sharded, in the same order."""
    with Reader() as reader:
        for task in plan.tasks:
            for computation in task.computations:
                for _ in computed(computation, reader):
                    pass
    return []


def _warn(uncast: Mapping[str, tuple[str, str]]) -> None:
    for now, before in sorted(set(uncast.values())):
        keys = fold_names(key for key, pair in uncast.items() if pair == (now, before))
        lines = "\n".join(f"  {key}" for key in keys)
        warnings.warn(f"saved as {now}, for casting back to {before} would lose something:\n{lines}", stacklevel=3)
