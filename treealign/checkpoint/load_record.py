"""The record: what a load did, key by key, so that a save can undo exactly that.

It is the used mapping, the decision about its guards, the keys of the checkpoint, and the exceptions: keys for which
the mapping alone says something else. Undoing it needs no reversed patterns, which may have forgotten where a level was
removed: the steps are worked out forward again, and read the other way round.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from treealign.checkpoint.packing import pack_keys, pack_lists, unpack_keys, unpack_lists
from treealign.errors import FormatError, MappingError
from treealign.formats.cached import cached_property
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.guards import Decided, Evidence, Groups, GuardDecision, Verdict
from treealign.mapping.mapping_json import mapping_from_data, mapping_to_data
from treealign.mapping.operations import sequence_from_json, sequence_to_json
from treealign.mapping.planning import Step

FORMAT = "treealign.record"
VERSION = 1


@dataclass(frozen=True, repr=False)
class Record:
    """What a load did. Make one with `make_record`.

    Attributes
    ----------
    mapping : ConversionMapping
        Only the transforms that touched something.
    decision : GuardDecision
        What was decided about each of them.
    keys : tuple of str
        The keys of the checkpoint that were loaded, but for those of `exceptions`.
    exceptions : tuple of Step
        What was done otherwise than the mapping says.
    dtypes : mapping of str to str
        Key of the checkpoint to its dtype there, where the load cast it; as torch spells it.
    """

    mapping: ConversionMapping = field(default_factory=ConversionMapping)
    decision: GuardDecision = field(default_factory=lambda: GuardDecision(()))
    keys: tuple[str, ...] = ()
    exceptions: tuple[Step, ...] = ()
    dtypes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Everything that was loaded, from the checkpoint's keys to the model's."""
        return (*self.mapping.plan(self.keys, self.decision), *self.exceptions)

    @cached_property
    def by_model(self) -> dict[str, Step]:
        """Key of the model to the step that filled it."""
        return {key: step for step in self.steps for key in step.targets}

    @property
    def trivial(self) -> bool:
        """Whether there is nothing to undo: names and dtypes were the model's own."""
        return not self.mapping and not self.exceptions and not self.dtypes

    def __repr__(self) -> str:
        others = f", {len(self.exceptions)} exceptions" if self.exceptions else ""
        return f"<Record: {len(self.keys)} keys by {self.mapping!r}{others}>"

    def to_data(self) -> dict[str, Any]:
        """As plain JSON; what holds its default is left out."""
        data: dict[str, Any] = {"format": FORMAT, "version": VERSION, "keys": pack_keys(self.keys)}
        if self.mapping or self.mapping.marked:
            data["mapping"] = mapping_to_data(self.mapping)
            data["decision"] = [_decided_to_data(decided) for decided in self.decision.decided]
        if self.exceptions:
            data["exceptions"] = _exceptions_to_data(self.exceptions)
        if self.dtypes:
            by_dtype: dict[str, list[str]] = {}
            for key, dtype in self.dtypes.items():
                by_dtype.setdefault(dtype, []).append(key)
            data["dtypes"] = {dtype: pack_keys(keys) for dtype, keys in by_dtype.items()}
        return data

    def to_text(self) -> str:
        """As JSON text, the form in which modules carry it."""
        return json.dumps(self.to_data(), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_data(cls, data: Any) -> Record:
        """Record from `to_data`.

        Raises
        ------
        FormatError
            The data is no record, of another version, or malformed.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise FormatError("this is no record")
        if data.get("version") != VERSION:
            facts = [f"it says {data.get('version')!r}", f"this treealign reads {VERSION}"]
            raise FormatError("unknown version of a record", facts=facts, hint="upgrade treealign")
        try:
            mapping = mapping_from_data(data["mapping"]) if "mapping" in data else ConversionMapping()
            return cls(
                mapping,
                GuardDecision(tuple(map(_decided_from_data, data.get("decision", ())))),
                tuple(unpack_keys(data["keys"])),
                tuple(_exceptions_from_data(data.get("exceptions", []))),
                {key: dtype for dtype, keys in data.get("dtypes", {}).items() for key in unpack_keys(keys)},
            )
        except (KeyError, TypeError, ValueError, AttributeError, MappingError) as e:
            raise FormatError("a malformed record", facts=[str(e)]) from e


def make_record(
    mapping: ConversionMapping,
    decision: GuardDecision,
    steps: Sequence[Step],
    dtypes: Mapping[str, str],
    *,
    said: bool = False,
) -> Record:
    """The record of what was done.

    Parameters
    ----------
    mapping : ConversionMapping
        What the steps come from, as a rule.
    decision : GuardDecision
        What was decided about its guards.
    steps : sequence of Step
        What was loaded, from keys of the checkpoint to keys of the model.
    dtypes : mapping of str to str
        Key of the checkpoint to its dtype there, where it was cast.
    said : bool
        Whether the steps are just what the mapping makes of their keys, none left out.

    Notes
    -----
    Linear in the number of keys: unless that was `said`, the mapping is run once more, and what differs is kept as an
    exception.
    """
    used = sorted({at for step in steps for at in step.transforms})
    if said and len(used) == len(mapping.transforms):
        record = Record(mapping, decision, tuple(key for step in steps for key in step.sources), (), dict(dtypes))
        record.__dict__["steps"] = tuple(steps)
        return record
    kept = mapping.with_transforms(tuple(mapping)[at] for at in used)
    decided = GuardDecision(tuple(decision.decided[at] for at in used))
    alone = _says(kept, decided, tuple(key for step in steps for key in step.sources))
    says = {step.sources: (step.targets, step.operations) for step in alone}
    exceptions = [step for step in steps if says.get(step.sources) != (step.targets, step.operations)]
    excepted = {key for step in exceptions for key in step.sources}
    keys = tuple(key for step in steps for key in step.sources if key not in excepted)
    record = Record(kept, decided, keys, tuple(step._replace(transforms=()) for step in exceptions), dict(dtypes))
    if not exceptions:
        record.__dict__["steps"] = alone  # worked out already
    return record


def _says(mapping: ConversionMapping, decision: GuardDecision, keys: Sequence[str]) -> tuple[Step, ...]:
    """What the mapping alone makes of the keys; nothing where it makes one key of two, so that all are exceptions."""
    try:
        return mapping.plan(keys, decision)
    except MappingError:
        return ()


def _exceptions_to_data(steps: Iterable[Step]) -> list[dict[str, Any]]:
    alike: dict[str, tuple[list[Any], int, list[tuple[str, ...]]]] = {}
    for step in steps:
        operations = sequence_to_json(step.operations)
        group = alike.setdefault(f"{json.dumps(operations)} {len(step.sources)}", (operations, len(step.sources), []))
        group[2].append((*step.sources, *step.targets))
    return [
        {"sources": count, "keys": pack_lists(lists)} | ({"operations": operations} if operations else {})
        for operations, count, lists in alike.values()
    ]


def _exceptions_from_data(data: Any) -> Iterable[Step]:
    for group in data:
        count, operations = group["sources"], sequence_from_json(group.get("operations", []))
        for keys in unpack_lists(group["keys"]):
            yield Step(keys[:count], keys[count:], operations)


def _decided_to_data(decided: Decided) -> Any:
    if isinstance(decided, Verdict):
        return decided.value
    return {"evidence": [[e.after, list(map(list, e.captures)), list(e.modules)] for e in decided.evidence]}


def _decided_from_data(data: Any) -> Decided:
    return Verdict(data) if isinstance(data, str) else Groups(tuple(map(_evidence, data["evidence"])))


def _evidence(row: Sequence[Any]) -> Evidence:
    after, captures, modules = row
    return Evidence(bool(after), tuple((name, value) for name, value in captures), tuple(modules))
