"""The door from a conversion mapping to tensors.

Of the mapping floor, the modules of this package alone know torch; the first call imports them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from treealign.errors import MappingError
from treealign.mapping.operations import Operation
from treealign.mapping.planning import Step


@contextmanager
def speaking_of(keys: Sequence[str]) -> Iterator[None]:
    """Let an error say of which keys it speaks: operations know tensors alone."""
    try:
        yield
    except MappingError as error:
        where = error.where or ", ".join(keys[:3])
        raise MappingError(error.what, where=where, facts=error.facts, hint=error.hint) from error


def run(operations: Sequence[Operation], tensors: Sequence[Any], keys: Sequence[str] = ()) -> list[Any]:
    """Apply operations left to right to a list of tensors.

    Parameters
    ----------
    operations : sequence of Operation
        Resolved: their sizes are plain ints (see `treealign.mapping.operations.resolve`).
    tensors : sequence of torch.Tensor
        In the order in which the first operation takes them.
    keys : sequence of str
        What an error calls them.

    Returns
    -------
    list of torch.Tensor
        They may share memory with the given ones; see `treealign.mapping.execution.execute.run`.

    Raises
    ------
    MappingError
        The tensors do not fit the operations.
    """
    from treealign.mapping.execution.execute import run as execute

    with speaking_of(keys):
        return execute(operations, tensors)


def run_steps(steps: Iterable[Step], tensors: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What steps make of tensors, one by one under their new names; each is taken when its turn comes.

    Raises
    ------
    MappingError
        The tensors do not fit the operations.
    """
    for step in steps:
        given = [tensors[key] for key in step.sources]
        yield from zip(
            step.targets, run(step.operations, given, step.sources) if step.operations else given, strict=True
        )
