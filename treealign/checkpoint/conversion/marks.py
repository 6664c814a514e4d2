"""What a file says of its own conversion, where its names and shapes do not: an entry in the metadata of each file.

A square tensor that was turned looks as before, and so does a name below a level that was added to names that began
with it already. A file that such a conversion made says by which mapping it was made, and in which direction; undone,
it says nothing again, and is what it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from treealign.checkpoint.layouts import Layout
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.mapping_json import mapping_to_data

ENTRY = "treealign_converted"
_ALONE = "alone"  # a file that had no metadata of its own


class Mark(NamedTuple):
    """A mapping, by the digest of its transforms, and the direction in which it was followed."""

    mapping: str
    reverse: bool = False

    @property
    def undone(self) -> Mark:
        """What a file says that the opposite conversion made."""
        return Mark(self.mapping, not self.reverse)


def mark_of(mapping: ConversionMapping, reverse: bool) -> Mark:
    """What a file says that the mapping made."""
    text = json.dumps(mapping_to_data(ConversionMapping(tuple(mapping))), sort_keys=True)
    return Mark(hashlib.sha256(text.encode()).hexdigest()[:32], reverse)


def marks_in(metadata: Mapping[str, str] | None) -> tuple[Mark, ...]:
    """What a file says, the latest conversion last; nothing where it says something else."""
    try:
        return tuple(Mark(str(name), bool(way)) for name, way in json.loads((metadata or {})[ENTRY])["by"])
    except (KeyError, ValueError, TypeError, RecursionError):
        return ()


def marks_of(layout: Layout) -> tuple[Mark, ...] | None:
    """What the files of a checkpoint say; None where they contradict one another."""
    said = {marks_in(file.metadata) for file in layout.files}
    return said.pop() if len(said) == 1 else None if said else ()


def with_marks(metadata: Mapping[str, str] | None, marks: Sequence[Mark]) -> dict[str, str] | None:
    """Metadata that say this, and what they said of other things; none where there were none before."""
    rest = {name: text for name, text in (metadata or {}).items() if name != ENTRY}
    alone = metadata is None or (not rest and ENTRY in metadata and _was_alone(metadata))
    if not marks:
        return None if alone else rest
    said = {"by": [list(mark) for mark in marks], **({_ALONE: True} if alone else {})}
    return {**rest, ENTRY: json.dumps(said, separators=(",", ":"))}


def _was_alone(metadata: Mapping[str, str]) -> bool:
    try:
        return bool(json.loads(metadata[ENTRY]).get(_ALONE))
    except (ValueError, AttributeError, RecursionError):
        return False
