"""The door from a conversion mapping to tensors.

The mapping floor knows plain ints only; the one module that touches tensors lies above it, in `treealign.checkpoint`.
So it is named here, not imported: the first call loads it, and torch with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from treealign.mapping.operations import Operation

_EXECUTOR = "treealign.checkpoint.execute"


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
        They may share memory with the given ones; see `treealign.checkpoint.execute.run`.

    Raises
    ------
    MappingError
        The tensors do not fit the operations.
    """
    results: list[Any] = import_module(_EXECUTOR).run(operations, tensors)
    return results
