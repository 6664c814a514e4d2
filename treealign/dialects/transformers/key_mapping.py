"""`from_pretrained(key_mapping=…)`: renamings only, each one regular expression and its replacement."""

from __future__ import annotations

from typing import Any

from treealign.dialects.transformers.entries import Call
from treealign.dialects.transformers.proving import prove
from treealign.dialects.transformers.renaming import rename_calls
from treealign.dialects.transformers.sides import sides_of
from treealign.dialects.transformers.writer import build
from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping


def write_key_mapping(mapping: ConversionMapping, checkpoint: Any, model: Any, name: str | None) -> dict[str, str]:
    """Pattern to replacement, in order, proved; see `treealign.emit`. `name` means nothing here.

    Raises
    ------
    MappingError
        The mapping converts tensors or needs several renamings at once, or transformers would not save the names back.
    """
    sides = sides_of(mapping, checkpoint, model)
    if sides.journey.conversions:
        raise MappingError(
            "a key_mapping renames, and this mapping converts",
            facts=[repr(convert) for convert, _ in sides.journey.conversions],
            hint='emit(mapping, "transformers"), or --to transformers, has converters',
        )
    calls: list[Call] = []
    for stage in sides.journey.renamings:
        calls += rename_calls(stage, sides.sampled, only="WeightRenaming")
    pairs = [(call_side(call, "source_patterns"), call_side(call, "target_patterns")) for call in calls]
    repeated = [source for source, _ in pairs if [s for s, _ in pairs].count(source) > 1]
    if repeated:
        raise MappingError("a key_mapping holds each pattern once", facts=sorted(set(repeated)))
    prove(build(calls), sides.journey, sides.shapes, sides.parts)
    return dict(pairs)


def call_side(call: Call, side: str) -> str:
    """A pattern of a renaming."""
    return str(dict(call.arguments)[side])
