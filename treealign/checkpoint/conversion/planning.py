"""From steps to tasks: which bytes of which files make each file of the result. No tensor is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import and_
from typing import TYPE_CHECKING

from treealign.checkpoint.conversion.placing import Placement
from treealign.checkpoint.conversion.results import Made
from treealign.checkpoint.conversion.tasks import Computation, Output, ShardTask, Span, merged
from treealign.checkpoint.sources import Source
from treealign.checkpoint.tensors import Stored, paths_of
from treealign.formats.dtypes import BITS, torch_shape
from treealign.formats.safetensors_header import MAX_HEADER
from treealign.formats.safetensors_writer import Shard, header_bytes
from treealign.mapping.operations import Operation
from treealign.mapping.planning import Step

if TYPE_CHECKING:
    from treealign.mapping.execution.execute import Move

PAGE = 4096  # what file systems share between files, and what memory is mapped by
SMALL = 1 << 20  # bytes; of fewer, sharing would save less than the padding costs


@dataclass(frozen=True)
class ConversionPlan:
    """Everything that is to be written as weights.

    Attributes
    ----------
    made : mapping of str to Made
        Key of each tensor to its inputs, operations, dtype and shape.
    placement : Placement
        The file of each, its place there, and the index.
    tasks : tuple of ShardTask
        The same, file by file, as bytes to move and to compute; others may follow for files that are not in the index.
    """

    made: Mapping[str, Made]
    placement: Placement
    tasks: tuple[ShardTask, ...]


def plan_files(
    source: Source, made: Mapping[str, Made], placement: Placement, *, verify: bool = False
) -> ConversionPlan:
    """The files to write.

    Parameters
    ----------
    source : Source
        The checkpoint.
    made : mapping of str to Made
        Each key of the result and what it is made of.
    placement : Placement
        Which of them stands in which file.
    verify : bool
        Whether each file is to be read again after it was written.

    Raises
    ------
    FormatError
        Something cannot be written as safetensors.
    """
    starts = placement.starts
    tasks = tuple(_Shard(source, made, one, starts.get(one.name)).task(verify) for one in placement.shards)
    return ConversionPlan(made, placement, tasks)


@dataclass(frozen=True)
class _Shard:
    """One file, and the byte at which the data of the file that it replaces begins (None if there is none)."""

    source: Source
    made: Mapping[str, Made]
    shard: Shard
    start: int | None

    def task(self, verify: bool) -> ShardTask:
        shard = self.shard
        header = header_bytes(shard.plan, shard.metadata, header_size=shard.header_size, where=shard.name)
        data = sum(tensor.nbytes for tensor in shard.plan)
        if shard.header_size is None and self.start is not None and data >= SMALL:
            header = congruent(header, self.start)
        places, at = {}, len(header)
        for tensor in shard.plan:
            places[tensor.key] = at
            at += tensor.nbytes
        spans: list[Span] = []
        computations: list[Computation] = []
        for step, keys in self._by_step():
            found = self._moves(step, keys, places)
            if found is None:
                computations.append(self._computation(step, keys, places))
            else:
                spans += found
        paths = {span.path for span in spans} | {path for c in computations for s in c.sources for path in paths_of(s)}
        stamps = {path: self.source.stamps[path] for path in sorted(paths)}
        mode = self.source.modes.get(shard.name, reduce(and_, self.source.modes.values(), 0o666))
        return ShardTask(shard.name, header, at, tuple(merged(spans)), tuple(computations), stamps, mode, verify)

    def _by_step(self) -> Iterable[tuple[Step, list[str]]]:
        """The steps that give something to this file, with the keys that they give; no two have a target in common."""
        found: dict[str, tuple[Step, list[str]]] = {}
        for tensor in self.shard.plan:
            step = self.made[tensor.key].step
            found.setdefault(step.targets[0], (step, []))[1].append(tensor.key)
        return found.values()

    def _moves(self, step: Step, keys: Sequence[str], places: Mapping[str, int]) -> list[Span] | None:
        """The outputs of a step as bytes to move; None where they have to be computed."""
        sources = [self.source.tensors[key] for key in step.sources]
        stored = [source for source in sources if isinstance(source, Stored)]
        if len(stored) < len(sources) or any(self.made[key].cast for key in keys):
            return None
        if not step.operations:
            return [Span(stored[0].path, stored[0].begin, stored[0].nbytes, places[keys[0]])]
        moves = _byte_moves(step.operations, tuple(torch_shape(s.dtype, s.shape) for s in stored))
        if moves is None:
            return None
        here = {self.made[key].output: places[key] for key in keys}
        return [_span(stored[m.source], m, here[m.target]) for m in moves if m.target in here]

    def _computation(self, step: Step, keys: Sequence[str], places: Mapping[str, int]) -> Computation:
        outputs = (Output(self.made[key].output, self.made[key].dtype, places[key]) for key in keys)
        return Computation(
            tuple(self.source.tensors[key] for key in step.sources), step.operations, tuple(outputs), step.sources
        )


def _span(source: Stored, move: Move, place: int) -> Span:
    width = _torch_width(source.dtype)
    return Span(source.path, source.begin + move.begin * width, move.length * width, place + move.at * width)


def _torch_width(dtype: str) -> int:
    """Bytes of what torch counts as one element."""
    return max(BITS[dtype] // 8, 1)


@lru_cache(maxsize=1024)
def _byte_moves(operations: tuple[Operation, ...], shapes: tuple[tuple[int, ...], ...]) -> list[Move] | None:
    # torch is imported only where there are operations
    from treealign.mapping.execution.execute import byte_moves

    return byte_moves(operations, shapes)


def congruent(header: bytes, start: int) -> bytes:
    r"""A header padded so that the data stand as in a file whose data begin at `start`, modulo the size of a page.

    File systems that can share data between files (btrfs, XFS) share whole blocks only.

    >>> len(congruent(b"\x08" + bytes(7) + b"{}      ", 4096 + 24))
    24
    """
    if start % 8:
        return header
    size = len(header) + (start - len(header)) % PAGE
    if size - 8 > MAX_HEADER:
        return header
    return (size - 8).to_bytes(8, "little") + header[8:].ljust(size - 8)
