"""What a mapping alone cannot undo: written beside the result, and followed on the way back.

A mapping forgets. After a level has been removed from half the keys of a checkpoint, the reverse adds it to all of
them; weights that were folded, cast or put into other files do not say what they were. So a conversion is undone in
thought first, and where that gives anything but the checkpoint as it was, a record of it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from treealign.checkpoint.conversion.again import marks_after, needs_mark
from treealign.checkpoint.conversion.marks import Mark
from treealign.checkpoint.conversion.placing import Placement, place
from treealign.checkpoint.conversion.results import Made, results
from treealign.checkpoint.layouts import FileLayout, Layout, refuse_elsewhere
from treealign.checkpoint.load_record import Record
from treealign.checkpoint.record_file import read_section
from treealign.checkpoint.sources import Source
from treealign.checkpoint.tensors import Stored
from treealign.errors import MappingError
from treealign.formats.safetensors_writer import Shard, TensorPlan
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.mapping_json import mapping_from_data, mapping_to_data
from treealign.mapping.operations import invert, is_lossy
from treealign.mapping.planning import Step
from treealign.tree.keytree import KeyTree

ORIGINALS = "treealign_conversion.tensors"


@dataclass(frozen=True)
class Conversion:
    """What a conversion did, as far as its mapping does not say it.

    Attributes
    ----------
    mapping : ConversionMapping
        The mapping as it was given.
    reverse : bool
        The direction in which it was used.
    record : Record
        From the keys before to the keys after.
    layout : Layout
        How the files lay before.
    beside : mapping of str to str
        Records that stood beside the files before, by name: they speak of the names of before.
    """

    mapping: ConversionMapping
    reverse: bool
    record: Record
    layout: Layout
    beside: Mapping[str, str] = field(default_factory=dict)

    def to_data(self) -> dict[str, Any]:
        """As plain JSON, a section of a record."""
        data = {
            "reverse": self.reverse,
            "mapping": mapping_to_data(self.mapping),
            "record": self.record.to_data(),
            "layout": self.layout.to_json(),
        }
        return data | ({"beside": dict(self.beside)} if self.beside else {})


def read_conversion(path: Path) -> Conversion | None:
    """What `Conversion.to_data` gave; None where there is no such file, or it does not speak of a conversion.

    Raises
    ------
    FormatError
        The file is no record, of another version, or malformed.
    """
    return read_section(path, "conversion", _from_data, "move the file away to convert by the mapping alone")


def _from_data(data: Mapping[str, Any]) -> Conversion:
    beside = {str(name): str(text) for name, text in data.get("beside", {}).items()}
    refuse_elsewhere(beside)
    return Conversion(
        mapping_from_data(data["mapping"]),
        bool(data["reverse"]),
        Record.from_data(data["record"]),
        Layout.from_json(data["layout"]),
        beside,
    )


def is_undone_by(
    transforms: ConversionMapping,
    source: Source,
    steps: Sequence[Step],
    made: Mapping[str, Made],
    placement: Placement,
    mark: Mark,
) -> bool:
    """Whether a mapping, given the result, makes the checkpoint of it again: keys, bytes, files, order, metadata.

    Parameters
    ----------
    transforms : ConversionMapping
        From the result to the checkpoint.
    source, steps, made, placement
        The conversion that it is to undo.
    mark : Mark
        What the files would say that it makes.

    Notes
    -----
    Nothing is read and nothing is computed: it is a second plan.
    """
    if any(one.cast for one in made.values()) or any(is_lossy(step.operations) for step in steps):
        return False
    result = _as_source(source, made, placement)
    try:
        keys = KeyTree.from_leaves([(key, None, None) for key in made], ordered=True)
        back = transforms.plan(keys, transforms.decide(keys))
        if not _are_inverse(steps, back):
            return False
        needed = needs_mark(transforms, source.tensors)
        again = place(result, results(back, result.tensors)).saying(marks_after(result, mark, needed=needed))
    except MappingError:
        return False
    before = source.layout
    if before.index is not None and (dict(again.index or {}), again.text) != (dict(before.index), before.text):
        return False
    return again.shards == shards_of(source)


def _are_inverse(steps: Sequence[Step], back: Sequence[Step]) -> bool:
    return {(s.sources, s.targets, s.operations) for s in back} == {
        (s.targets, s.sources, invert(s.operations)) for s in steps
    }


def _as_source(source: Source, made: Mapping[str, Made], placement: Placement) -> Source:
    """The result, as if it were there."""
    files = tuple(
        FileLayout(shard.name, tuple(tensor.key for tensor in shard.plan), metadata=shard.metadata)
        for shard in placement.shards
    )
    tensors = {key: Stored("", 0, one.dtype, one.shape) for key, one in made.items()}
    layout = Layout(files, placement.index, placement.index_name, text=placement.text)
    return replace(source, tensors=tensors, layout=layout)


def shards_of(source: Source) -> tuple[Shard, ...]:
    """The files of a checkpoint, as what would be written."""
    return tuple(
        Shard(file.name, tuple(_planned(source, key) for key in file.keys), file.metadata)
        for file in source.layout.files
    )


def _planned(source: Source, key: str) -> TensorPlan:
    tensor = source.tensors[key]
    return TensorPlan(key, tensor.dtype, tensor.shape)
