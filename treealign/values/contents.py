"""The contents of both sides, read for whoever compares them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from treealign.align.contents.fingerprints import Contents, Elements, Fingerprint
from treealign.checkpoint.sources import Source, open_source
from treealign.errors import FormatError, MappingError, TreealignError
from treealign.mapping.execution.execute import run
from treealign.mapping.execution.transposing import contiguous
from treealign.mapping.operations import Operation
from treealign.tree.keytree import KeyTree
from treealign.values.fingerprints import Bytes, fingerprints, in_memory, whole_hash, widened

HINT = "give both sides with their weights: files, a folder, a state dict, or a module in memory"


@contextmanager
def open_contents(checkpoint: Any, model: Any, trees: tuple[KeyTree, KeyTree]) -> Iterator[Contents]:
    """Fingerprints of all tensors of both sides: one pass over each.

    The sources stay open inside the context, for what has to be looked at again.

    Parameters
    ----------
    checkpoint, model : path, state dict or module
        The two sides.
    trees : tuple of KeyTree
        Their trees, in whose order the fingerprints are.

    Raises
    ------
    TreealignError
        A side has no tensors: a tree alone, an index without its shards, a model on the meta device.
    """
    with ExitStack() as stack:
        left, right = (
            stack.enter_context(_open(side, name))
            for side, name in ((checkpoint, "the checkpoint"), (model, "the model"))
        )
        wide = widened(*trees)

        prints = [fingerprints(source, tree, wide=wide) for source, tree in zip((left, right), trees, strict=True)]

        again = _Again(left)

        def confirm(taken: Sequence[int], given: Sequence[int], operations: Sequence[Operation]) -> bool:
            keys, wanted = [trees[0].keys[i] for i in taken], [prints[1][j] for j in given]
            return _confirmed(again.read(keys), wanted, operations, wide)

        yield Contents(prints[0], prints[1], _execute, confirm)


def _open(side: Any, name: str) -> Source:
    if isinstance(side, KeyTree):
        raise TreealignError(f"{name} has no values: it is a tree of names and shapes", where=side.source, hint=HINT)
    try:
        source = open_source(side)
    except FormatError as error:
        facts = [error.what, *error.facts]
        raise TreealignError(f"{name} has no values to read", where=error.where, facts=facts, hint=HINT) from error
    held = (source.in_memory(key) for key in source.tree.keys)
    if any(tensor is not None and tensor.is_meta for tensor in held):
        raise TreealignError(f"{name} has no values: its tensors are on the meta device", hint=HINT)
    return source


def _execute(operations: Sequence[Operation], arrays: Sequence[Elements]) -> list[Elements]:
    """Operations on numpy arrays whose elements stand for something."""
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    return [contiguous(tensor).numpy() for tensor in run(operations, tensors)]


class _Again:
    """Reads tensors once more, into memory that is kept: taking memory costs more than reading."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rooms: list[Bytes] = []

    def read(self, keys: Sequence[str]) -> list[torch.Tensor]:
        """The tensors of these keys, good until the next call."""
        self.rooms += [np.empty(0, np.uint8)] * (len(keys) - len(self.rooms))
        return [self._tensor(at, key) for at, key in enumerate(keys)]

    def _tensor(self, at: int, key: str) -> torch.Tensor:
        held, leaf = self.source.in_memory(key), self.source.tree.leaf(key)
        if held is not None or not self.source.is_whole(key):
            found: torch.Tensor = self.source.read(key) if held is None else held.detach().cpu()
            return found
        size = self.source.nbytes(key)
        if len(self.rooms[at]) < size:
            self.rooms[at] = np.empty(size, np.uint8)
        self.source.read_part(key, 0, self.rooms[at][:size])
        return (
            torch.from_numpy(self.rooms[at][:size]).view(getattr(torch, leaf.dtype or "uint8")).view(leaf.shape or ())
        )


def _confirmed(
    tensors: Sequence[torch.Tensor],
    wanted: Sequence[Fingerprint | None],
    operations: Sequence[Operation],
    wide: bool,
) -> bool:
    """Whether operations on tensors give those of the model, by their hashes."""
    try:
        made = run(operations, tensors)
    except MappingError:  # of numbers that the operations cannot be of
        return False
    return all(
        known is not None
        and tuple(tensor.shape) == known.shape
        and whole_hash(in_memory(tensor), wide=wide) == known.whole
        for tensor, known in zip(made, wanted, strict=True)
    )
