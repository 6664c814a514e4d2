"""Conversions for which transformers has one operation and we several: experts of two towers, queries in turns."""

from __future__ import annotations

from collections.abc import Sequence

from treealign.dialects.transformers.calls import Call
from treealign.errors import MappingError
from treealign.mapping.operations import Concat, Join, Operation, Parallel, Reorder, Reshape, Stack

_HINT = "treealign's own load and save do it"
QUERIES = ((0, 3), (1, 2))  # the query and MLP queries of a layer, and its key and value queries


def whole_call(operations: Sequence[Operation], sources: Sequence[str], targets: Sequence[str]) -> Call | None:
    """The one operation of transformers that does all of this, or None.

    Raises
    ------
    MappingError
        It would be that one, and cuts the lists elsewhere.
    """
    if len(targets) > 1 and operations and all("*" in source for source in sources):
        return _towers(operations, len(sources), len(targets))
    if len(sources) == 2 and list(operations[1:]) == [Join(1, QUERIES)] and all(map(_pairs, _parts(operations[0]))):
        return Call("Inkling2LoopMergeMessageQueries")
    return None


def _parts(operation: Operation) -> tuple[Operation, ...]:
    return operation.operations if isinstance(operation, Parallel) else (operation,)


def _pairs(operation: Operation) -> bool:
    """Whether it sets rows apart in pairs."""
    return isinstance(operation, Reshape) and operation.after[1:] == (2, *operation.before[1:])


def _towers(operations: Sequence[Operation], lists: int, towers: int) -> Call | None:
    """Lists whose first members belong to one tower and whose last to another, stacked and joined tower by tower."""
    stacks = [part for part in _parts(operations[0]) if isinstance(part, Stack)]
    joins = [part for part in _parts(operations[-1]) if isinstance(part, Concat)] if len(operations) > 1 else []
    order = Reorder(tuple(part * towers + tower for tower in range(towers) for part in range(lists)))
    between = [order, operations[-1]] if lists > 1 else []
    if not stacks or len(stacks) < len(_parts(operations[0])) or list(operations[1:]) != between:
        return None
    runs = [int(str(stack.count)) for stack in stacks] * (towers * lists if len(stacks) == 1 else 1)
    _refuse_other_runs(runs[:towers])
    if any(len(set(join.sizes)) > 1 for join in joins):
        raise MappingError(
            "transformers joins what it takes of the lists of two towers, but its reverse cuts equal parts",
            facts=[repr(join) for join in joins],
            hint=_HINT,
        )
    dims = (("stack_dim", stacks[0].dim), ("concat_dim", joins[0].dim if joins else 1))
    return Call("ErnieFuseAndSplitTextVisionExperts", dims)


def _refuse_other_runs(runs: Sequence[int]) -> None:
    total, size = sum(runs), -(-sum(runs) // len(runs))
    meant = [min(size, total - at * size) for at in range(len(runs))]
    if list(runs) != meant:
        wanted, dealt = (" + ".join(map(str, sizes)) for sizes in (runs, meant))
        raise MappingError(
            f"transformers deals lists of {total} out to towers as {dealt}, not {wanted}",
            hint=_HINT,
        )
