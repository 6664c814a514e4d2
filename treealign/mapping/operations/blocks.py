"""What joins and parts the factors of a low-rank update: blocks on a diagonal, and one tensor for several places.

The update of a fused weight is that of its parts, one above the other: ``[B1 A1; B2 A2] = diag(B1, B2) [A1; A2]``.
That of a part of a fused weight is the part's rows of ``B`` times the whole of ``A``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from treealign.mapping.operations.base import Operation, Shape, as_ints
from treealign.mapping.operations.sizes import Size


@dataclass(frozen=True, repr=False)
class BlockDiagonal(Operation):
    """Put tensors on the diagonal of one, zeros elsewhere; a block without columns takes no tensor, and has its rows.

    >>> BlockDiagonal((8, 2, 2), (4, 0, 4)).output_shapes([(8, 4), (2, 4)])
    ((12, 8),)
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def _arity(self) -> tuple[int, int]:
        return _filled(self.rows, self.columns), 1

    def _inverse(self) -> DiagonalBlocks:
        return DiagonalBlocks(self.rows, self.columns)

    def _reason(self) -> str | None:
        return _not_blocks(self.rows, self.columns)

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        for shape, block in zip(shapes, filled_blocks(self.rows, self.columns), strict=True):
            if shape != block[2:]:
                raise self._misfit(shape, f"the block has {block[2]} rows and {block[3]} columns")
        return [(sum(self.rows), sum(self.columns))]


@dataclass(frozen=True, repr=False)
class DiagonalBlocks(Operation):
    """Take the blocks on the diagonal of a tensor. Lossy: what stands elsewhere goes, zeros or not.

    >>> DiagonalBlocks((8, 2), (4, 4)).output_shapes([(10, 8)])
    ((8, 4), (2, 4))
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def _arity(self) -> tuple[int, int]:
        return 1, _filled(self.rows, self.columns)

    def _inverse(self) -> BlockDiagonal:
        return BlockDiagonal(self.rows, self.columns)

    def _lossy(self) -> bool:
        return True

    def _reason(self) -> str | None:
        return _not_blocks(self.rows, self.columns)

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        wanted = (sum(self.rows), sum(self.columns))
        if shapes[0] != wanted:
            raise self._misfit(shapes[0], f"it should be {wanted}")
        return [block[2:] for block in filled_blocks(self.rows, self.columns)]


@dataclass(frozen=True, repr=False)
class Repeat(Operation):
    """The same tensor for several places, a copy for each.

    >>> Repeat(3).output_shapes([(4, 8)])
    ((4, 8), (4, 8), (4, 8))
    """

    count: Size

    def _arity(self) -> tuple[int, int]:
        return 1, as_ints((self.count,))[0]

    def _inverse(self) -> Once:
        return Once(self.count)

    def _reason(self) -> str | None:
        return "there is no place" if self.count == 0 else None

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        return list(shapes) * self.arity[1]


@dataclass(frozen=True, repr=False)
class Once(Operation):
    """One tensor of several that are equal, byte for byte; refused where they are not. Lossy, for that is seen late.

    >>> Once(2).output_shapes([(4, 8), (4, 8)])
    ((4, 8),)
    """

    count: Size

    def _arity(self) -> tuple[int, int]:
        return as_ints((self.count,))[0], 1

    def _inverse(self) -> Repeat:
        return Repeat(self.count)

    def _lossy(self) -> bool:
        return True

    def _reason(self) -> str | None:
        return "there is no tensor" if self.count == 0 else None

    def _run_shapes(self, shapes: tuple[Shape, ...]) -> Iterable[Shape]:
        for shape in shapes:
            if shape != shapes[0]:
                raise self._misfit(shape, f"the first tensor of the run has shape {shapes[0]}")
        return shapes[:1]


def filled_blocks(rows: tuple[int, ...], columns: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """The blocks that hold a tensor: first row, first column, rows, columns.

    >>> filled_blocks((8, 2, 2), (4, 0, 4))
    [(0, 0, 8, 4), (10, 4, 2, 4)]
    """
    found, row, column = [], 0, 0
    for height, width in zip(rows, columns, strict=True):
        if height and width:
            found.append((row, column, height, width))
        row, column = row + height, column + width
    return found


def _filled(rows: tuple[int, ...], columns: tuple[int, ...]) -> int:
    return len(filled_blocks(rows, columns))


def _not_blocks(rows: tuple[int, ...], columns: tuple[int, ...]) -> str | None:
    if len(rows) != len(columns):
        return "each block has rows and columns"
    return None if filled_blocks(rows, columns) else "no block holds a tensor"
