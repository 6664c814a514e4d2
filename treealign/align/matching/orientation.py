"""Which way round the matrices of a side are stored, as biases show: a bias is as long as its layer has outputs.

A matrix of [72, 32] with a bias of 72 has its outputs first, as `torch.nn.Linear` has; one of [32, 72] with that bias
has its inputs first. Where two sides store a pair of matrices the other way round, equal shapes speak against a match
and not for it: the one of [72, 32] here is not the one of [72, 32] there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from treealign.align.patterns import Pattern, Shape

_MATRIX = re.compile(r"(?<![a-z])(?:weight|kernel|w)(?![a-z])", re.IGNORECASE)


def inputs_first(patterns: Sequence[Pattern]) -> dict[int, bool]:
    """For each matrix whose bias tells: its number, and whether its inputs stand first."""
    vectors = {p.segments: p for p in patterns if len(_shape(p) or (0, 0)) == 1}
    found = {}
    for n, p in enumerate(patterns):
        told = {_told(p, bias) for bias in _biases(p, vectors)} if len(_shape(p) or ()) == 2 else set()
        if len(told) == 1 and None not in told:
            found[n] = bool(told.pop())
    return found


def stored_alike(ways: tuple[Mapping[int, bool], Mapping[int, bool]], i: int, j: int) -> bool:
    """Whether the biases of a left and a right matrix say that both have their inputs on the same side."""
    return i in ways[0] and j in ways[1] and ways[0][i] == ways[1][j]


def _biases(p: Pattern, vectors: dict[tuple[str, ...], Pattern]) -> list[Pattern]:
    """The vector beside a matrix whose name says bias where that of the matrix says weight: `b_in` beside `W_in`."""
    *above, name = p.segments
    names = {_MATRIX.sub(lambda m: _initial(m.group()), name), _MATRIX.sub("bias", name)} - {name}
    return [vectors[key] for key in ((*above, other) for other in sorted(names)) if key in vectors]


def _initial(word: str) -> str:
    return word.replace("W", "b").replace("w", "b") if len(word) == 1 else word


def _told(matrix: Pattern, bias: Pattern) -> bool | None:
    if matrix.cells.keys() != bias.cells.keys():
        return None
    told = {_first(matrix.shapes[k], bias.shapes[k]) for k in matrix.cells}
    return told.pop() if len(told) == 1 else None


def _first(matrix: Shape, bias: Shape) -> bool | None:
    if matrix is None or bias is None or matrix[0] == matrix[1] or bias[0] not in matrix:
        return None
    return bias[0] == matrix[1]


def _shape(p: Pattern) -> Shape:
    return next(iter(p.shapes.values()))
