"""The two row orders of rotary position embeddings: pairs side by side, or halves one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from treealign.mapping.operations.base import Operation, Shape, as_ints, check_dim
from treealign.mapping.operations.sizes import Size


@dataclass(frozen=True, repr=False)
class RotaryPermute(Operation):
    """Rows of heads from interleaved to half-split order, along dimension 0 of a weight or bias.

    Rotary embeddings rotate pairs of rows. Original Llama checkpoints keep a pair side by side (x0 y0 x1 y1 …);
    transformers keeps the halves apart (x0 x1 … y0 y1 …, its `rotate_half`). Rows that are not rotated stay.

    Attributes
    ----------
    heads : int
        Heads along dimension 0: query heads for q, key-value heads for k; both for a fused tensor.
    head_dim : int
        Rows of a head.
    rotary_dim : int or None
        Rows of a head that are rotated, an even number; None for all after `start`.
    start : int
        Where in the head they begin: 0 in GPT-NeoX and GPT-J, after the others in DeepSeek-V2.

    Examples
    --------
    >>> RotaryPermute(32, 128).inverse
    RotaryUnpermute(32, 128)
    >>> RotaryPermute(2, 8, rotary_dim=4).output_shapes([(16, 5)])
    ((16, 5),)
    """

    heads: Size
    head_dim: Size
    rotary_dim: Size | None = None
    start: Size = 0

    def _inverse(self) -> RotaryUnpermute:
        return RotaryUnpermute(self.heads, self.head_dim, self.rotary_dim, self.start)

    def _reason(self) -> str | None:
        return None if self.capture_names else _no_heads(*head_layout(self))

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return _with_heads(self, shapes)


@dataclass(frozen=True, repr=False)
class RotaryUnpermute(Operation):
    """Rows of heads from half-split to interleaved order; undoes `RotaryPermute` with the same numbers."""

    heads: Size
    head_dim: Size
    rotary_dim: Size | None = None
    start: Size = 0

    def _inverse(self) -> RotaryPermute:
        return RotaryPermute(self.heads, self.head_dim, self.rotary_dim, self.start)

    def _reason(self) -> str | None:
        return None if self.capture_names else _no_heads(*head_layout(self))

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return _with_heads(self, shapes)


def head_layout(operation: RotaryPermute | RotaryUnpermute) -> tuple[int, int, int, int]:
    """Heads, rows of a head, and where its rotated rows begin and end, as plain ints."""
    heads, rows, start = as_ints((operation.heads, operation.head_dim, operation.start))
    rotated = rows - start if operation.rotary_dim is None else as_ints((operation.rotary_dim,))[0]
    return heads, rows, start, start + rotated


def _no_heads(heads: int, rows: int, start: int, end: int) -> str | None:
    if heads < 1 or rows < 1:
        return "there must be at least one head, of at least one row"
    if not start <= end <= rows:
        return f"rows {start} … {end} are not inside a head of {rows}"
    return "rotated rows come in pairs" if (end - start) % 2 else None


def _with_heads(operation: RotaryPermute | RotaryUnpermute, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
    heads, rows, _, _ = head_layout(operation)
    check_dim(operation, 0, heads * rows, shapes[0])
    return shapes
