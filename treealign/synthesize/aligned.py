"""From an alignment to the smallest mapping that realises it."""

from __future__ import annotations

from collections.abc import Iterator

from treealign.align.alignment import Alignment
from treealign.align.links import Link
from treealign.synthesize import Conversion, Synthesis, synthesize


def synthesize_alignment(alignment: Alignment) -> Synthesis:
    """The smallest mapping that realises an alignment."""
    left, right = alignment.checkpoint.keys, alignment.model.keys
    pairs, conversions = [], []
    for link in alignment.links + alignment.copies + alignment.resized:
        if link.operations:
            conversions += list(conversions_of(alignment, link))
        else:
            pairs += [(left[i], right[j]) for (i,), (j,) in link.expand()]
    return synthesize(pairs, conversions, alignment.checkpoint, alignment.model)


def conversions_of(alignment: Alignment, link: Link) -> Iterator[Conversion]:
    """The groups of a link, as conversions of keys."""
    left, right = alignment.checkpoint.keys, alignment.model.keys
    for group in link.expand():
        sources, targets = tuple(left[i] for i in group.left), tuple(right[j] for j in group.right)
        yield Conversion(sources, targets, link.operations)
