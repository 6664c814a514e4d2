"""`convert_checkpoint`: a checkpoint under other names, file to file, without a model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from treealign.checkpoint.conversion.destination import Destination, destination_of
from treealign.checkpoint.conversion.finishing import finish
from treealign.checkpoint.conversion.origin import Origin, read_origin, refuse_changed
from treealign.checkpoint.conversion.others import Others, others_of
from treealign.checkpoint.conversion.placing import place
from treealign.checkpoint.conversion.planning import plan_conversion
from treealign.checkpoint.conversion.publishing import locked, publish, staged
from treealign.checkpoint.conversion.results import results
from treealign.checkpoint.conversion.routing import refuse_lossy, steps_by_mapping
from treealign.checkpoint.conversion.running import Progress, run_tasks
from treealign.checkpoint.conversion.tasks import ConversionPlan
from treealign.errors import TreealignError
from treealign.formats.collector import collector_paused
from treealign.formats.dtypes import safetensors_dtype
from treealign.mapping.conversion_mapping import ConversionMapping, Converted, as_mapping
from treealign.mapping.planning import Step
from treealign.tree.keytree import KeyTree


@dataclass(frozen=True)
class ConversionResult:
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
    digests : mapping of str to str
        Name of a file of weights to its SHA-256, where it was read again.
    """

    destination: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    keys: int
    renamed: int
    computed: int
    nbytes: int
    digests: Mapping[str, str] = field(default_factory=dict)


def convert_checkpoint(
    checkpoint: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    mapping: ConversionMapping | str | os.PathLike[str] | Iterable[Any],
    reverse: bool = False,
    *,
    force: bool = False,
    dtype: str | None = None,
    max_shard_size: int | None = None,
    converted: Converted = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> ConversionResult:
    """Convert a checkpoint, file to file.

    Parameters
    ----------
    checkpoint : path
        A safetensors or torch file, an index of shards, or a folder with one of these. Of a folder, the other files
        (config, tokenizer) go along; weights that are not the ones converted do not.
    destination : path
        A folder; for a single file also the path of a file, which ends in ``.safetensors``.
    mapping : ConversionMapping, path of its JSON, or transforms
        From the checkpoint's names to the model's.
    reverse : bool
        From the model's names to the checkpoint's.
    force : bool
        Replace a checkpoint that is at the destination; other files there stay.
    dtype : str, optional
        Give all floating-point numbers of two bytes or more this dtype, as torch spells it. Otherwise dtypes stay.
    max_shard_size : int, optional
        Bytes of tensors in a file; by default the result has the files of the checkpoint.
    converted : bool or GuardDecision, optional
        Overrides the guards of the mapping; see `ConversionMapping.map_keys`.
    executor : concurrent.futures.Executor, optional
        Where to write the files, one task each; see `treealign.checkpoint.conversion`.
    progress : callable, optional
        Told how many bytes are written, and how many there are to write.

    Returns
    -------
    ConversionResult
        The destination is complete and on the disk.

    Raises
    ------
    FormatError
        The checkpoint cannot be read or has changed, or the system refuses to write.
    MappingError
        The mapping makes one key of two, does not fit the tensors, or cannot tell what was converted already.
    TreealignError
        The destination is the checkpoint, lies in it, or is there already.

        In all of these cases the destination is as it was.

    Notes
    -----
    Bytes that stay as they are, those of renamed tensors and of tensors that are stacked or cut along their first
    dimension, are copied by the system, and not at all where the file system can share them. Other tensors are
    computed one transform at a time, which bounds the memory.
    """
    transforms = as_mapping(mapping)
    if reverse:
        transforms = transforms.reverse
    origin = read_origin(checkpoint)
    target = destination_of(origin, Path(destination), force=force)
    with collector_paused():
        tree = KeyTree.from_leaves([(key, None, None) for key in origin.tensors], source=origin.path)
        steps = steps_by_mapping(transforms, tree, converted)
        refuse_lossy(steps)
        made = results(steps, origin.tensors, _dtype(dtype))
        plan = plan_conversion(origin, made, place(origin, made, max_shard_size=max_shard_size))
    return _carry_out(origin, plan, target, others_of(origin), steps, progress, executor)


def _dtype(dtype: str | None) -> str | None:
    if dtype is None:
        return None
    spelled = safetensors_dtype(dtype.removeprefix("torch."))
    if spelled is None:
        raise TreealignError(f"there is no dtype {dtype!r}", hint="spell it as torch does: bfloat16, float16, float32")
    return spelled


def _carry_out(
    origin: Origin,
    plan: ConversionPlan,
    target: Destination,
    others: Others,
    steps: tuple[Step, ...],
    progress: Progress | None,
    executor: Executor | None,
) -> ConversionResult:
    plan = target.renamed(plan)
    with ExitStack() as stack:
        if origin.folder is not None:
            stack.enter_context(locked(origin.folder, alone=False))
        stage = stack.enter_context(staged(target.path, single=target.single, mode=target.mode))
        written = run_tasks(plan.tasks, stage, progress, executor)
        names = finish(stage, plan, others, {}, origin.modes.get(plan.index_name, 0o666))
        refuse_changed(origin.stamps)
        publish(stage, target.path, names, single=target.single)
    return ConversionResult(
        destination=str(target.path),
        files=tuple(names),
        left_out=others.left_out,
        keys=sum(len(shard.plan) for shard in plan.shards),
        renamed=sum(not step.operations and step.sources != step.targets for step in steps),
        computed=sum(len(step.targets) for step in steps if step.operations),
        nbytes=plan.nbytes,
        digests={result.name: result.digest for result in written if result.digest},
    )
