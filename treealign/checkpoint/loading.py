"""A checkpoint into a model: all of it or, before anything is touched, an account of what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import torch
from torch import nn

from treealign.checkpoint.adapters.saving import as_adapter
from treealign.checkpoint.carrying import carry
from treealign.checkpoint.choosing import Chosen, Track, choose, open_questions
from treealign.checkpoint.filling import fill, start_counters
from treealign.checkpoint.judging import Verdict, judge
from treealign.checkpoint.layouts import in_folder
from treealign.checkpoint.load_record import Record, make_record
from treealign.checkpoint.managed import refuse_managed
from treealign.checkpoint.save_pretrained import remember
from treealign.checkpoint.sources import Source, hold_source
from treealign.errors import LoadError, TreealignError
from treealign.formats.collector import collector_paused
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.guards import GuardDecision
from treealign.mapping.marking import answering
from treealign.mapping.mismatches import Mismatch
from treealign.mapping.operations import is_lossy
from treealign.mapping.planning import Step
from treealign.shown import Shown
from treealign.tree.reading import selected

_DTYPES = ("checkpoint", "model")


@dataclass(frozen=True, repr=False)
class LoadResult(Shown):
    """What a load did.

    Attributes
    ----------
    missing_keys : tuple of str
        Keys of the model that were not filled; a tied weight under one name only.
    unexpected_keys : tuple of str
        Keys of the checkpoint that were not used.
    mismatched_keys : tuple of Mismatch
        What both have, but not alike: keys, shapes and the reason.
    recomputed_keys : tuple of str
        Keys of the checkpoint for buffers that the model computes itself; a save writes them back.
    uninitialised_keys : tuple of str
        Buffers that the model computes itself, and that were made on the meta device: they have no values yet.
    ambiguous : tuple
        What the suggestion, or the mapping, left open; see `treealign.suggestion`.
    mapping : ConversionMapping
        The transforms that touched something.
    record : Record
        What was done key by key; the model carries it.
    casts : mapping of str to str
        Key of the checkpoint to its dtype there, where it was cast.
    decided_by : str
        What the mapping came from: ``"mapping"`` (the given one), ``"record"`` (beside the files) or ``"suggestion"``.
    other_settings : tuple of str
        Settings of the config beside an adapter's file with which the model computes otherwise, both sides of each.
    """

    missing_keys: tuple[str, ...]
    unexpected_keys: tuple[str, ...]
    mismatched_keys: tuple[Mismatch, ...]
    recomputed_keys: tuple[str, ...]
    uninitialised_keys: tuple[str, ...]
    ambiguous: tuple[Any, ...]
    mapping: ConversionMapping
    record: Record
    casts: Mapping[str, str] = field(default_factory=dict)
    decided_by: str = "mapping"
    other_settings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        left = (
            ("missing", self.missing_keys),
            ("unexpected", self.unexpected_keys),
            ("mismatched", self.mismatched_keys),
        )
        return (
            f"<LoadResult: {len(self.mapping)} transforms, {', '.join(f'{len(keys)} {name}' for name, keys in left)}>"
        )


@dataclass(frozen=True)
class LoadOptions:
    """How a checkpoint is to be loaded; see `treealign.load`. `suggest` finds a mapping where none is there."""

    mapping: ConversionMapping | str | PathLike[str] | Iterable[Any] | None = None
    strict: bool = True
    dtype: str = "checkpoint"
    allow_lossy: bool = False
    hints: Any = None
    converted: bool | GuardDecision | None = None
    assign: bool = False
    select: str = ""
    adapter: str = ""
    original_names: bool = True
    suggest: Callable[..., Any] | None = None


def load_tensors(
    model: nn.Module, checkpoint: str | PathLike[str] | Mapping[str, Any] | nn.Module, given: LoadOptions
) -> LoadResult:
    """What `treealign.load` does."""
    refuse_managed(model, "the model")
    if given.dtype not in _DTYPES:
        raise TreealignError(f"dtype is {given.dtype!r}", hint=f"it is {' or '.join(map(repr, _DTYPES))}")
    to_model = given.dtype == "model"
    with collector_paused(), hold_source(selected(checkpoint, given.select)) as source:
        chosen = choose(model, source, given.mapping, given.hints, given.converted, given.adapter, given.suggest)
        steps = [step for track in chosen.tracks for step in track.translated]
        verdict = judge(steps, source, chosen.places, to_model=to_model, allow_lossy=given.allow_lossy)
        _refuse(verdict, chosen, source, given.strict)
        kept = _kept(verdict, source)
        casts = fill(
            verdict.steps, source, chosen.places, to_model=to_model, copies=verdict.copies, assign=given.assign
        )
        start_counters(verdict.counters, chosen.places)
        records = [_carry(track, chosen, verdict, source, kept, casts) for track in chosen.tracks]
    remember(chosen.places.modules, original_names=given.original_names)
    return _result(chosen, verdict, records, casts)


def _refuse(verdict: Verdict, chosen: Chosen, source: Source, strict: bool) -> None:
    """Raise if nothing can be loaded at all or, when strict, if anything stands in the way."""
    open_ends, in_question = open_questions(chosen)
    facts = verdict.facts(in_question) + open_ends
    facts += [f"the adapter computes otherwise: {one}" for one in chosen.other_settings]
    said = tuple(getattr(chosen.suggestion, "findings", ()))
    nothing = not (verdict.steps or verdict.mismatched or verdict.lossy or open_ends)
    what = "the checkpoint shares nothing with the model"
    causes = [text for text in said if not text.startswith(what)]
    if facts and causes:
        facts = [*(f"cause: {text}" for text in causes), *facts]
    if nothing and not causes:
        hint = "it is of another model, or of another part of it: suggest(checkpoint, model) shows both sides"
        if not len(source.tree):
            what, hint = (
                "the checkpoint holds no tensor",
                "pass the file, the folder or the state dict with the weights",
            )
        raise LoadError(what, where=source.tree.source, facts=facts, hint=hint)
    if (strict and facts) or not verdict.steps:
        raise LoadError(
            "the checkpoint and the model do not fit as they are; nothing was loaded",
            where=source.tree.source,
            facts=facts,
            hint="see to the cause first; " * bool(causes)
            + (_of_adapter(verdict, chosen) or _hint(verdict, chosen, bool(open_ends))),
        )


def _of_adapter(verdict: Verdict, chosen: Chosen) -> str:
    """What helps where scales are not those of the model; nothing where they are no matter."""
    scales = [key for key in verdict.unexpected if key.endswith(".alpha")]
    if scales and (chosen.adapter or any("lora_" in key for key in scales)):
        return "scales are written as tensors: treealign.dialects.lora_files.kohya.kohya_to_peft makes a folder of PEFT"
    said = "make the model's adapter with the config beside the file: peft's PeftConfig.from_pretrained(folder)"
    return said * bool(chosen.other_settings)


def _hint(verdict: Verdict, chosen: Chosen, ambiguous: bool) -> str:
    if chosen.questions:
        return f"strict=False loads the certain matches only; {answering(chosen.questions)}"
    if ambiguous:
        first = [
            question.options[0].hint for question in getattr(chosen.suggestion, "questions", ()) if question.options
        ]
        such = f", such as hints={first[:3]!r} for the best guess: choose what is true" if first else ""
        return f"settle what is ambiguous with hints or a mapping{such}; strict=False loads the certain matches only"
    if verdict.uninitialised:
        return "make the model with its buffers on a real device, or compute them and pass strict=False"
    if verdict.lossy:
        return "allow_lossy=True takes them, and the model then keeps the originals for save"
    if chosen.by == "mapping":
        return "does the mapping belong to this checkpoint and model? strict=False loads what fits"
    return "strict=False loads what fits and lists the rest"


def _kept(verdict: Verdict, source: Source) -> dict[str, torch.Tensor]:
    """The tensors that a save will need and the model does not hold, by key in the files."""
    steps = [*verdict.recomputed, *(step for step in verdict.steps if step.operations and is_lossy(step.operations))]
    return {key: source.read(key) for step in steps for key in step.sources}


def _carry(
    track: Track,
    chosen: Chosen,
    verdict: Verdict,
    source: Source,
    kept: Mapping[str, torch.Tensor],
    casts: Mapping[str, str],
) -> Record:
    """Make the record of one track and let the model carry it."""
    loaded = {step.sources for steps in (verdict.steps, verdict.copies, verdict.recomputed) for step in steps}
    pairs = [
        (step, there) for step, there in zip(track.steps, track.translated, strict=True) if there.sources in loaded
    ]
    own = [step for step, _ in pairs]
    names = _names(pairs) if kept or casts else {}
    dtypes = {key: casts[name] for key, name in names.items() if name in casts}
    said = track.said and len(own) == len(track.steps)
    record = make_record(track.mapping, track.decision, own, dtypes, said=said)
    tensors = {key: kept[name] for key, name in names.items() if name in kept}
    levels = track.levels
    layout = as_adapter(source.layout) if chosen.adapter else in_folder(source.layout)
    carry(chosen.places.modules, record, layout, tensors, at=levels.module, path=levels.path)
    return record


def _names(pairs: Iterable[tuple[Step, Step]]) -> dict[str, str]:
    """Keys of the checkpoint with the names that these have in the files."""
    return {key: name for step, there in pairs for key, name in zip(step.sources, there.sources, strict=True)}


def _joined(records: Sequence[Record], casts: Mapping[str, str]) -> Record:
    steps = [step._replace(transforms=()) for record in records for step in record.steps]
    marks = {
        name: [mark for record in records for mark in getattr(record.mapping, name)]
        for name in ("questions", "accepted", "answers")
    }
    return make_record(ConversionMapping((), **marks), GuardDecision(()), steps, casts)


def _result(chosen: Chosen, verdict: Verdict, records: Sequence[Record], casts: Mapping[str, str]) -> LoadResult:
    record = records[0] if len(records) == 1 else _joined(records, casts)
    return LoadResult(
        verdict.missing,
        verdict.unexpected,
        verdict.mismatched,
        tuple(key for step in verdict.recomputed for key in step.sources),
        verdict.uninitialised,
        chosen.ambiguous,
        record.mapping,
        record,
        casts,
        chosen.by,
        chosen.other_settings,
    )
