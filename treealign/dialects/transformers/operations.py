"""Operations of transformers and ours: one table, from which converters are read and written.

A row names an operation of transformers and holds how it is read as ours and, where it can be undone, which of ours it
is written for and how. What is in no row is refused, in both directions, with its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from treealign.dialects.transformers import joint_operations as joint
from treealign.dialects.transformers import single_operations as single
from treealign.dialects.transformers.entries import Call
from treealign.dialects.transformers.single_operations import OURS_DO, Moment, Site
from treealign.errors import MappingError, PatternError
from treealign.mapping.operations import (
    Concat,
    Deinterleave,
    Interleave,
    Operation,
    Parallel,
    Permute,
    Reorder,
    Reshape,
    RotaryPermute,
    RotaryUnpermute,
    Split,
    Stack,
    Unstack,
)

Reader = Callable[[Moment], Sequence[Operation]]


class Row(NamedTuple):
    """One operation of transformers, or several that are read alike.

    Attributes
    ----------
    names : tuple of str
        Of the classes of transformers.
    read : callable
        From the shapes before and after to operations of ours.
    ours : tuple of type
        The operations of ours that are written so.
    write : callable, optional
        What is called for one of them; nothing where it cannot be said.
    whole : callable, optional
        The one call for a whole series of ours, from the series and the patterns on both sides; None for another one.
    """

    names: tuple[str, ...]
    read: Reader
    ours: tuple[type[Operation], ...] = ()
    write: Callable[[Any, Site], tuple[Call, ...]] | None = None
    whole: Callable[[Sequence[Operation], Sequence[str], Sequence[str]], Call | None] | None = None


TABLE = (
    Row(("_IdentityOp",), lambda moment: ()),
    Row(("MergeModulelist",), single.read_merge, (Stack,), single.write_stack),
    Row(("SplitModulelist",), single.read_unmerge, (Unstack,), single.write_unstack),
    Row(("Concatenate",), single.read_concatenate, (Concat,), single.write_concat),
    Row(("Chunk", "Split"), single.read_split, (Split,), single.write_split),
    Row(("Transpose",), single.read_transpose, (Permute,), single.write_permute),
    Row(("Interleave",), single.read_interleave, (Interleave, Deinterleave), single.write_interleave),
    Row(("Conv3dToLinear", "LinearToConv3d"), single.read_reshape, (Reshape,), single.write_reshape),
    Row(("PermuteForRope",), joint.read_rotary, (RotaryPermute, RotaryUnpermute, Parallel), joint.write_rotary),
    Row(("ErnieFuseAndSplitTextVisionExperts",), joint.read_towers, whole=joint.write_towers),
    Row(("Inkling2LoopMergeMessageQueries",), joint.read_queries, whole=joint.write_queries),
    Row(("Inkling2UnpadVocab",), joint.read_unpad),
    Row(("Inkling2LoopDequantizeExperts",), joint.read_dequantize),
)
READERS: dict[str, Reader] = {name: row.read for row in TABLE for name in row.names}
_WRITERS = {ours: row.write for row in TABLE for ours in row.ours if row.write}


def read_operation(moment: Moment) -> Sequence[Operation]:
    """The same as operations of ours; none where nothing changes.

    Raises
    ------
    PatternError
        We have none that do it; the message says why.
    """
    kind = type(moment.operation).__name__
    if kind not in READERS:
        raise PatternError(f"it runs {kind}, of which we have no counterpart")
    try:
        return READERS[kind](moment)
    except MappingError as error:
        raise PatternError(f"{kind}: {error.what}") from error


class Written(NamedTuple):
    """Operations of transformers, and the order in which they take the sources and give the targets."""

    calls: tuple[Call, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]


def write_operations(
    operations: Sequence[Operation], sources: Sequence[str], targets: Sequence[str], config: Any
) -> Written:
    """What transformers calls some operations.

    Parameters
    ----------
    operations : sequence of Operation
        Resolved.
    sources, targets : sequence of str
        The patterns on each side; see `Site`.
    config : optional
        The model's config.

    Raises
    ------
    MappingError
        transformers has no such operation, or its reverse would cut elsewhere; the message says which and why.
    """
    rest, before, after = list(operations), tuple(range(len(sources))), tuple(range(len(targets)))
    whole = next((call for row in TABLE if row.whole and (call := row.whole(rest, sources, targets))), None)
    if whole is not None:
        return Written((whole,), before, after)
    if rest and isinstance(rest[0], Reorder) and len(rest[0].order) == len(sources):
        before = rest.pop(0).order  # type: ignore[attr-defined]  # it is a Reorder
    if rest and isinstance(rest[-1], Reorder) and len(rest[-1].order) == len(targets):
        order = rest.pop().order  # type: ignore[attr-defined]  # it is a Reorder
        after = tuple(order.index(at) for at in range(len(order)))
    site = Site([sources[at] for at in before], [targets[at] for at in after], config)
    return Written(tuple(call for operation in rest for call in _calls(operation, site)), before, after)


def _calls(operation: Operation, site: Site) -> tuple[Call, ...]:
    write = _WRITERS.get(type(operation))
    made = write(operation, site) if write else ()
    if not made:
        raise MappingError(f"transformers has no operation like {operation!r}", hint=OURS_DO)
    return made
