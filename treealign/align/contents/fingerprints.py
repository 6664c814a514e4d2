"""What is known of the contents of two sides: fingerprints of their tensors, and the way back to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt

from treealign.mapping.operations import Operation

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Sizes = tuple[int, ...]
Elements = npt.NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """The content of one tensor, in little space.

    Attributes
    ----------
    kind : str
        The dtype whose bytes were hashed, wider than the tensor's own where the two sides differ in dtypes.
    shape : tuple of int
        Of the tensor.
    whole : tuple of int
        Hash of all bytes in row-major order, whatever the shape.
    rows : array, (units, 2)
        Hashes of the slices that each fix the first `fixed` indices, in row-major order.
    fixed : int
        How many leading dimensions the rows run over.
    beginnings : mapping of int to array
        For some dimensions, hashes of the first elements of each line along it, in row-major order of the others.
        Lines of unequal length hash differently.
    telling : bool
        Whether the content says which tensor it is. That of a constant does not, nor that of 0, 1, 2, …
    elements : array or None
        All of a short vector.
    """

    kind: str
    shape: Sizes
    whole: tuple[int, int]
    rows: Hashes
    fixed: int
    beginnings: Mapping[int, Hashes] = field(default_factory=dict)
    telling: bool = True
    elements: Elements | None = None

    @property
    def size(self) -> int:
        """How many elements."""
        return prod(self.shape)

    @property
    def identity(self) -> tuple[str, int, tuple[int, int]]:
        """Equal for equal contents, whatever the shapes."""
        return self.kind, self.size, self.whole


@dataclass(frozen=True, eq=False)
class Contents:
    """Both sides, by position of the leaf, and what looks at the tensors again.

    Attributes
    ----------
    left, right : sequence of Fingerprint or None
        Checkpoint and model; None for a leaf that cannot be read.
    execute : callable
        Operations and arrays to the arrays that the operations give.
    confirm : callable
        Positions on the left and on the right, and operations: whether these make those bytes of these, read again.
    """

    left: Sequence[Fingerprint | None]
    right: Sequence[Fingerprint | None]
    execute: Callable[[Sequence[Operation], Sequence[Elements]], list[Elements]]
    confirm: Callable[[Sequence[int], Sequence[int], Sequence[Operation]], bool]


@dataclass(frozen=True)
class Settled:
    """Leaves whose contents are equal under operations, by position, in the order in which these take and give them."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    operations: tuple[Operation, ...] = ()
    evidence: str = "equal content"
