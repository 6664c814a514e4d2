"""`convert_checkpoint`: a checkpoint under other names, file to file, without a model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from treealign.checkpoint.conversion.destination import Destination, destination_of
from treealign.checkpoint.conversion.finishing import finish
from treealign.checkpoint.conversion.in_place import rename_in_place, request_of
from treealign.checkpoint.conversion.planned_conversion import ConvertOptions, PlannedConversion, plan_conversion
from treealign.checkpoint.conversion.running import Progress, run_tasks
from treealign.checkpoint.conversion.side_files import SideFiles, side_files_of
from treealign.checkpoint.conversion.tasks import ShardResult
from treealign.checkpoint.sources import open_source
from treealign.checkpoint.writable import writable
from treealign.errors import TreealignError
from treealign.formats.addresses import SIGN, split_address
from treealign.formats.stamps import refuse_changed
from treealign.formats.transaction.locking import locked
from treealign.formats.transaction.transaction import transaction
from treealign.mapping.arguments import check_arguments
from treealign.mapping.conversion_mapping import ConversionMapping, Converted, as_mapping
from treealign.mapping.marking import mapping_source, refuse_open
from treealign.shown import Shown


@dataclass(frozen=True)
class ConversionResult(Shown):
    """What a conversion did.

    Attributes
    ----------
    destination : str
        Where the result is.
    files : tuple of str
        The names of its files, other files that were carried along included.
    left_out : tuple of str
        Files of the folder that were not carried along: weights under other names, hidden files.
    keys : int
        Keys of the result.
    renamed, computed : int
        How many of them have another name, and how many come out of operations or a change of dtype.
    nbytes : int
        Bytes of the weights' files.
    by : str
        What told the way: ``"mapping"``, or ``"record"``, the one beside the checkpoint.
    recorded : bool
        Whether the mapping alone would not bring the checkpoint back as it was, or guesses of it were accepted, so that
        a record was written.
    rounded : tuple of str
        Keys that a record could not bring back as they were: the tensors have changed since, or were rounded by a cast.
    digests : mapping of str to str
        Name of a file of weights to its SHA-256, where it was read again.
    notes : tuple of str
        What beside the weights names modules and could not be converted: settings of an adapter's config.
    exact : bool
        Whether the way back makes the very files. Files of another format come back as safetensors.
    """

    destination: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    keys: int
    renamed: int
    computed: int
    nbytes: int
    by: str = "mapping"
    recorded: bool = False
    rounded: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    exact: bool = True


def convert_checkpoint(
    checkpoint: str | os.PathLike[str],
    destination: str | os.PathLike[str] | None,
    mapping: ConversionMapping | str | os.PathLike[str] | Iterable[Any],
    reverse: bool = False,
    *,
    in_place: bool = False,
    force: bool = False,
    dtype: str | None = None,
    max_shard_size: int | None = None,
    converted: Converted = None,
    allow_lossy: bool = False,
    verify: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
    select: str = "",
) -> ConversionResult:
    """Convert a checkpoint, file to file.

    Parameters
    ----------
    checkpoint : path
        A safetensors or torch file, an index of shards, or a folder with one of these. Of a folder, the other files
        (config, tokenizer) go along; weights that are not the ones converted do not.
    destination : path
        A folder; for a single file also the path of a file, which ends in ``.safetensors``. None with `in_place`.
    mapping : ConversionMapping, path of its JSON, or transforms
        From the checkpoint's names to the model's.
    reverse : bool
        From the model's names to the checkpoint's. What the mapping alone could not undo stands in a record beside the
        checkpoint since it was converted; it is followed where it is of this mapping.
    in_place : bool
        Rename in the files themselves: only headers are written, and the index. Refused where more than names changes,
        or where the names do not fit into the headers. A run that is killed leaves a journal with which a later one,
        asked for the same, finishes the renaming, or, asked for the reverse, takes it back.
    force : bool
        Replace a checkpoint that is at the destination; other files there stay.
    dtype : str, optional
        Give all floating-point numbers of two bytes or more this dtype, as torch spells it. Otherwise dtypes stay.
    max_shard_size : int, optional
        Bytes of tensors in a file; by default the result has the files of the checkpoint.
    converted : bool or GuardDecision, optional
        Whether the checkpoint was converted already, where neither its keys nor its files say so; overrides the guards
        of the mapping; see `ConversionMapping.map_keys`.
    allow_lossy : bool
        Use conversions that cannot be undone from their result; the originals are kept beside it.
    verify : bool
        Read every file again once it is on the disk, and compare it with what it was made of.
    executor : concurrent.futures.Executor, optional
        Where to write the files, one task each: processes, or the workers of a cluster that see the same files under
        the same paths. A task whose worker dies is run again. See `treealign.checkpoint.conversion`.
    progress : callable, optional
        Told how many bytes are written, and how many there are to write.
    select : str
        The name of one of several state dicts that were saved together; the same as ``checkpoint#name``.

    Returns
    -------
    ConversionResult
        The destination is complete and on the disk.

    Raises
    ------
    FormatError
        The checkpoint cannot be read or has changed, or the system refuses to write.
    MappingError
        The mapping still guesses, makes one key of two, does not fit the tensors, or touches no key.
    UndecidedError
        Nothing tells whether the checkpoint was converted already: `converted` does.
    TreealignError
        The destination is the checkpoint, lies in it, or is there already.

        In all of these cases the destination is as it was.

    Notes
    -----
    Bytes that stay as they are, those of renamed tensors and of tensors that are stacked or cut along their first
    dimension, are copied by the system, and not at all where the file system can share them. Other tensors are
    computed one transform at a time, which bounds the memory.
    """
    check_arguments("convert_checkpoint", checkpoint, destination, mapping)
    transforms = as_mapping(mapping)
    refuse_open(transforms, "nothing was converted", mapping_source(mapping))
    options = ConvertOptions(transforms, reverse, dtype, max_shard_size, converted, allow_lossy, verify)
    checkpoint = f"{os.fspath(checkpoint)}{SIGN}{select}" if select else checkpoint
    if in_place:
        return _in_place(checkpoint, destination, options)
    if destination is None:
        raise TreealignError("there is no destination", hint="name one, or pass in_place=True")
    # workers may stand in another folder
    here = os.path.abspath if executor is not None else os.fspath
    source = writable(open_source(here(checkpoint)))
    target = destination_of(source, Path(here(destination)), force=force)
    found = plan_conversion(source, options)
    side_files = side_files_of(source, found.beside, recalled=found.route.recalled is not None, same=found.same)
    written = _carry_out(found, target, side_files, progress, executor)
    return _result(found, str(target.path), side_files.left_out, written)


class _Written(NamedTuple):
    names: list[str]
    results: list[ShardResult]


def _in_place(
    checkpoint: str | os.PathLike[str], destination: str | os.PathLike[str] | None, options: ConvertOptions
) -> ConversionResult:
    path = Path(split_address(checkpoint)[0])
    if destination is not None and os.path.realpath(destination) != os.path.realpath(path):
        raise TreealignError("in place there is no other destination", where=os.fspath(destination))
    with transaction(path, single=not path.is_dir(), siblings="alone") as held:
        done = request_of(options) in held.finished
        asked = replace(options, mapping=ConversionMapping()) if done else options
        found = plan_conversion(writable(open_source(checkpoint)), asked)
        names = [] if done else rename_in_place(found, options, held)
    return _result(found, os.fspath(path), (), _Written(names, []))


def _carry_out(
    found: PlannedConversion,
    target: Destination,
    side_files: SideFiles,
    progress: Progress | None,
    executor: Executor | None,
) -> _Written:
    source, plan = found.source, target.renamed(found.plan)
    beside = {target.name(name): content for name, content in found.beside.items()}
    with ExitStack() as stack:
        if source.folder is not None:
            stack.enter_context(locked(source.folder, alone=False))
        held = stack.enter_context(
            transaction(target.path, single=target.single, mode=target.mode, siblings="shared" if target.single else "")
        )
        results = run_tasks(plan.tasks, held.stage, progress, executor)
        names = finish(held.stage, plan, side_files, beside, source.modes.get(plan.placement.index_name, 0o666))
        refuse_changed(source.stamps)
        held.commit(names, obsolete=target.obsolete(names))
    return _Written(names, results)


def _result(
    found: PlannedConversion, destination: str, left_out: tuple[str, ...], written: _Written
) -> ConversionResult:
    steps = found.route.steps
    return ConversionResult(
        destination=destination,
        files=tuple(written.names),
        left_out=left_out,
        keys=len(found.plan.made),
        renamed=sum(not step.operations and step.sources != step.targets for step in steps),
        computed=sum(bool(one.step.operations) or one.cast for one in found.plan.made.values()),
        nbytes=sum(result.size for result in written.results),
        by="mapping" if found.route.recalled is None else "record",
        recorded=found.route.recalled is None and bool(found.beside) and bool(written.names),
        rounded=found.rounded,
        digests={result.name: result.digest for result in written.results if result.digest},
        notes=found.notes,
        exact={file.name for file in found.source.layout.files} <= {Path(file).name for file in found.source.files},
    )
