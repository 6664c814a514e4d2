"""Which tensor of the result stands in which file: as it lay before, as far as nothing forces another place."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from treealign.checkpoint.conversion.marks import Mark, with_marks
from treealign.checkpoint.conversion.results import Made
from treealign.checkpoint.layouts import FORMAT_METADATA, INDEX, SINGLE, FileLayout, Layout
from treealign.checkpoint.sources import Source
from treealign.formats.index_text import USUAL, IndexText
from treealign.formats.safetensors_writer import Shard, TensorPlan, canonical_order, split_into_shards
from treealign.tree.keys import natural_key


@dataclass(frozen=True)
class Placement:
    """The files of the result.

    Attributes
    ----------
    shards : tuple of Shard
        Files with their tensors, in order.
    index : mapping or None
        The metadata of the index; None where there is to be none.
    index_name : str
        Its name.
    text : IndexText
        How it is written.
    starts : mapping of str to int
        Name of a file to the byte at which the data begin in the file that it replaces.
    """

    shards: tuple[Shard, ...]
    index: Mapping[str, Any] | None = None
    index_name: str = INDEX
    text: IndexText = USUAL
    starts: Mapping[str, int] = field(default_factory=dict)

    def saying(self, marks: Sequence[Mark]) -> Placement:
        """The same, with files that say how they were converted."""
        shards = tuple(replace(shard, metadata=with_marks(shard.metadata, marks)) for shard in self.shards)
        return replace(self, shards=shards)

    def in_one_file(self, name: str) -> Placement:
        """All tensors in one file of this name, in the order in which they lay."""
        plan = tuple(tensor for shard in self.shards for tensor in shard.plan)
        first = self.shards[0]
        size = first.header_size if len(self.shards) == 1 else None
        return Placement((Shard(name, plan, first.metadata, size),))


def arrange(plan: Sequence[TensorPlan], layouts: Sequence[Layout], max_bytes: int | None = None) -> Placement:
    """Put tensors into files as they once lay.

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
        return Placement(shards, None if len(shards) == 1 else {"total_size": _nbytes(shards)})
    for layout in layouts:
        if any(tensor.key in layout.file_of for tensor in plan):
            return _as_before(plan, layout)
    return Placement((Shard(SINGLE, canonical_order(plan), FORMAT_METADATA),))


def place(
    source: Source, made: Mapping[str, Made], *, layout: Layout | None = None, max_shard_size: int | None = None
) -> Placement:
    """Put what is made of a checkpoint where the checkpoint lay.

    Parameters
    ----------
    source : Source
        The checkpoint.
    made : mapping of str to Made
        The tensors.
    layout : Layout, optional
        How they once lay, and are to lie again.
    max_shard_size : int, optional
        Bytes of tensors in a file; by default, what comes of a file goes into the file of the same name.

    Notes
    -----
    What is made of several tensors stands where the first of them stood, in its file and at its place there.
    """
    before = source.layout
    starts = {file.name: file.header_size + 8 for file in before.files if file.header_size is not None}
    if layout is not None and max_shard_size is None:
        return replace(arrange([one.planned(key) for key, one in made.items()], [layout]), starts=starts)
    shards = _in_place(before, made)
    if max_shard_size is not None:
        plan = [tensor for shard in shards for tensor in shard.plan]
        metadata = shards[0].metadata if shards else FORMAT_METADATA
        shards = split_into_shards(plan, max_shard_size, stem=_stem(before), metadata=metadata)
        starts = {}
    alone = len(shards) == 1 if max_shard_size is not None else before.index is None and len(shards) < 2
    index = None if alone else _index(before.index, shards)
    return Placement(shards, index, before.index_name, _text(before.text, made), starts)


def _as_before(plan: Sequence[TensorPlan], layout: Layout) -> Placement:
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
        return Placement(shards)
    # an index that is mistaken about how much there is goes back as it came
    same = _nbytes(shards) == layout.nbytes
    return Placement(shards, layout.index if same else _index(layout.index, shards), layout.index_name, layout.text)


def _shard(file: FileLayout, tensors: Sequence[TensorPlan]) -> Shard:
    same = {tensor.key for tensor in tensors} == set(file.keys)
    return Shard(file.name, _ordered(file, tensors), file.metadata, file.header_size if same else None)


def _ordered(file: FileLayout, tensors: Sequence[TensorPlan]) -> tuple[TensorPlan, ...]:
    if file.sorted:
        return canonical_order(tensors)
    place = {key: at for at, key in enumerate(file.keys)}
    return tuple(sorted(tensors, key=lambda tensor: place.get(tensor.key, len(place))))


def _in_place(layout: Layout, made: Mapping[str, Made]) -> tuple[Shard, ...]:
    position = {key: at for at, key in enumerate(key for file in layout.files for key in file.keys)}
    placed: list[list[tuple[int, int, TensorPlan]]] = [[] for _ in layout.files]
    for key, one in made.items():
        anchor = one.step.sources[0]
        placed[layout.file_of[anchor]].append((position[anchor], one.output, one.planned(key)))
    return tuple(
        Shard(file.name, tuple(tensor for *_, tensor in sorted(inside)), file.metadata)
        for file, inside in zip(layout.files, placed, strict=True)
        # a file that held nothing is still a file; one that has been emptied is not
        if inside or not file.keys
    )


def _index(before: Mapping[str, Any] | None, shards: Sequence[Shard]) -> dict[str, Any]:
    """The metadata of the index, with how much there is now; one that does not say this is left at that."""
    metadata = {"total_size": 0} if before is None else dict(before)
    return metadata | {"total_size": _nbytes(shards)} if "total_size" in metadata else metadata


def _nbytes(shards: Sequence[Shard]) -> int:
    return sum(tensor.nbytes for shard in shards for tensor in shard.plan)


def _text(text: IndexText, made: Mapping[str, Made]) -> IndexText:
    """How the index is written: what is made of a key takes its place."""
    if not text.keys:
        return text
    place = {key: at for at, key in enumerate(text.keys)}
    ranks = {key: (place.get(one.step.sources[0], len(place)), one.output) for key, one in made.items()}
    return replace(text, keys=tuple(sorted(ranks, key=ranks.__getitem__)))


def _stem(layout: Layout) -> str:
    """What the files of a layout are called before their numbers.

    Taken from the name of the index, which has no numbers.
    """
    if layout.index is not None or not layout.files:
        return layout.index_name.removesuffix(".index.json").removesuffix(".safetensors")
    return layout.files[0].name.removesuffix(".safetensors")
