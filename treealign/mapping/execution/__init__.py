"""The door from a conversion mapping to tensors.

Of the mapping floor, the modules of this package alone know torch; the first call imports them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from treealign.mapping.operations import Operation


def run(operations: Sequence[Operation], tensors: Sequence[Any]) -> list[Any]:
    """Apply operations left to right to a list of tensors.

    Parameters
    ----------
    operations : sequence of Operation
        Resolved: their sizes are plain ints (see `treealign.mapping.operations.resolve`).
    tensors : sequence of torch.Tensor
        In the order in which the first operation takes them.

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

    return execute(operations, tensors)
