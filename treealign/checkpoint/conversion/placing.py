"""Which tensor of the result stands in which file: where it came from, as far as nothing forces another place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from treealign.checkpoint.arranging import arrange
from treealign.checkpoint.conversion.marks import Mark, with_marks
from treealign.checkpoint.conversion.results import Made
from treealign.checkpoint.conversion.sources import Source
from treealign.formats.index_text import USUAL, IndexText
from treealign.formats.safetensors_writer import Shard, TensorPlan, split_into_shards
from treealign.mapping.layout import FORMAT_METADATA, INDEX, Layout


@dataclass(frozen=True)
class Placement:
    """The files of the result.

    Attributes
    ----------
    shards : tuple of Shard
        Files with their tensors, in order.
    starts : mapping of str to int
        Name of a file to the byte at which the data begin in the file that it replaces.
    index : mapping or None
        The metadata of the index; None where there is to be none.
    index_name : str
        Its name.
    text : IndexText
        How it is written.
    """

    shards: tuple[Shard, ...]
    starts: Mapping[str, int]
    index: Mapping[str, Any] | None
    index_name: str = INDEX
    text: IndexText = USUAL

    def saying(self, marks: Sequence[Mark]) -> Placement:
        """The same, with files that say how they were converted."""
        shards = tuple(replace(shard, metadata=with_marks(shard.metadata, marks)) for shard in self.shards)
        return replace(self, shards=shards)

    @property
    def with_starts(self) -> list[tuple[Shard, int | None]]:
        """Each shard with its entry of `starts`."""
        return [(shard, self.starts.get(shard.name)) for shard in self.shards]


def place(
    source: Source, made: Mapping[str, Made], *, layout: Layout | None = None, max_shard_size: int | None = None
) -> Placement:
    """Put the tensors of the result into files.

    Parameters
    ----------
    source : Source
        The checkpoint that they are made of.
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
    starts = {file.name: file.header_size + 8 for file in source.layout.files if file.header_size is not None}
    if layout is not None and max_shard_size is None:
        found = arrange([one.planned(key) for key, one in made.items()], [layout])
        return Placement(found.shards, starts, found.index, found.index_name, found.text)
    shards = _in_place(source.layout, made)
    if max_shard_size is not None:
        plan = [tensor for shard in shards for tensor in shard.plan]
        metadata = shards[0].metadata if shards else FORMAT_METADATA
        shards = split_into_shards(plan, max_shard_size, stem=_stem(source.layout), metadata=metadata)
        starts = {}
    alone = max_shard_size is not None and len(shards) == 1
    index = None if alone else _index(source.layout, shards)
    return Placement(shards, starts, index, source.layout.index_name, _text(source.layout.text, made))


def _text(text: IndexText, made: Mapping[str, Made]) -> IndexText:
    """How the index is written: what is made of a key takes its place."""
    if not text.keys:
        return text
    place = {key: at for at, key in enumerate(text.keys)}
    ranks = {key: (place.get(one.step.sources[0], len(place)), one.output) for key, one in made.items()}
    return replace(text, keys=tuple(sorted(ranks, key=ranks.__getitem__)))


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


def _index(layout: Layout, shards: Sequence[Shard]) -> dict[str, Any] | None:
    if layout.index is None and len(shards) < 2:
        return None
    nbytes = sum(tensor.nbytes for shard in shards for tensor in shard.plan)
    metadata = {"total_size": nbytes} if layout.index is None else dict(layout.index)
    # an index that does not say this is left at that
    return metadata | {"total_size": nbytes} if "total_size" in metadata else metadata


def _stem(layout: Layout) -> str:
    """What the files of a layout are called before their numbers.

    Taken from the name of the index, which has no numbers.
    """
    if layout.index is not None or not layout.files:
        return layout.index_name.removesuffix(".index.json").removesuffix(".safetensors")
    return layout.files[0].name.removesuffix(".safetensors")
