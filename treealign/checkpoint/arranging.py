"""Into which files, in which order: as the checkpoint lay when it was loaded, as far as its keys are the same."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from treealign.formats.index_text import USUAL, IndexText
from treealign.formats.safetensors_writer import Shard, TensorPlan, canonical_order, split_into_shards
from treealign.mapping.layout import FORMAT_METADATA, INDEX, SINGLE, FileLayout, Layout
from treealign.tree.keys import natural_key


@dataclass(frozen=True)
class Arrangement:
    """The files to write, and the metadata of their index, None for a single file without one; see `Layout`."""

    shards: tuple[Shard, ...]
    index: Mapping[str, Any] | None = None
    index_name: str = INDEX
    text: IndexText = USUAL
    in_folder: bool = True


def in_one_file(arrangement: Arrangement, name: str) -> Arrangement:
    """All tensors in one file of this name, in the order in which they lay."""
    plan = tuple(tensor for shard in arrangement.shards for tensor in shard.plan)
    first = arrangement.shards[0]
    size = first.header_size if len(arrangement.shards) == 1 else None
    return Arrangement((Shard(name, plan, first.metadata, size),), in_folder=False)


def arrange(plan: Sequence[TensorPlan], layouts: Sequence[Layout], max_bytes: int | None = None) -> Arrangement:
    """Put tensors into files.

    Parameters
    ----------
    plan : sequence of TensorPlan
        What to write, in the order in which it is cut into shards of a size.
    layouts : sequence of Layout
        How it lay when it was loaded. The first that knows some of the keys counts; keys that it does not know go
        where their neighbours are.
    max_bytes : int, optional
        Cut into shards of this size instead.
    """
    if max_bytes is not None:
        cut = split_into_shards(plan, max_bytes, metadata=FORMAT_METADATA)
        shards = tuple(replace(shard, plan=canonical_order(shard.plan)) for shard in cut)
        total = {"total_size": sum(tensor.nbytes for tensor in plan)}
        return Arrangement(shards, None if len(shards) == 1 else total)
    for layout in layouts:
        if any(tensor.key in layout.file_of for tensor in plan):
            return _as_before(plan, layout)
    return Arrangement((Shard(SINGLE, canonical_order(plan), FORMAT_METADATA),))


def _as_before(plan: Sequence[TensorPlan], layout: Layout) -> Arrangement:
    known = sorted((tensor.key for tensor in plan if tensor.key in layout.file_of), key=natural_key)
    order = [natural_key(key) for key in known]
    inside: list[list[TensorPlan]] = [[] for _ in layout.files]
    for tensor in plan:
        at = layout.file_of.get(tensor.key)
        if at is None:
            neighbour = known[max(bisect_right(order, natural_key(tensor.key)) - 1, 0)]
            at = layout.file_of[neighbour]
        inside[at].append(tensor)
    shards = tuple(_shard(file, tensors) for file, tensors in zip(layout.files, inside, strict=True) if tensors)
    if layout.index is None:
        return Arrangement(shards)
    nbytes = sum(tensor.nbytes for tensor in plan)
    metadata = dict(layout.index)
    # an index that does not say how much there is, or is mistaken about it, goes back as it came
    if nbytes != layout.nbytes and "total_size" in metadata:
        metadata["total_size"] = nbytes
    return Arrangement(shards, metadata, layout.index_name, layout.text)


def _shard(file: FileLayout, tensors: Sequence[TensorPlan]) -> Shard:
    same = {tensor.key for tensor in tensors} == set(file.keys)
    return Shard(file.name, _ordered(file, tensors), file.metadata, file.header_size if same else None)


def _ordered(file: FileLayout, tensors: Sequence[TensorPlan]) -> tuple[TensorPlan, ...]:
    if file.sorted:
        return canonical_order(tensors)
    place = {key: at for at, key in enumerate(file.keys)}
    return tuple(sorted(tensors, key=lambda tensor: place.get(tensor.key, len(place))))
