"""Mixed-integer programs: a few yes-or-no variables that weigh something, and flows that follow from them.

Solved with HiGHS (Huangfu & Hall, 2018) through scipy. Pivots and nodes are counted, not seconds, so that the answer
depends on the program alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from treealign.formats.cached import cached_property

_LARGE = 4_000
_MOST_NODES = 50
_MOST_PARTED = 40  # variables that the relaxation takes in part
_MOST_BRANCHED = 60_000  # entries times such variables: some 10 µs each
_MOST_PIVOTS = 20_000
_SLIGHT = 1e-6
_HANGING = 120.0  # seconds after which something must be broken


class Program:
    """Rows and columns of a program as they are collected, with so many columns to begin with."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.entries: list[tuple[int, int, float]] = []
        self.lower: list[float] = []
        self.upper: list[float] = []

    def column(self) -> int:
        """A new variable."""
        self.size += 1
        return self.size - 1

    def row(self, entries: Sequence[tuple[int, float]], low: float, high: float) -> None:
        """A new constraint."""
        self.entries += [(len(self.lower), column, value) for column, value in entries]
        self.lower.append(low)
        self.upper.append(high)

    @cached_property
    def matrix(self) -> Any:
        """All entries, once they are collected."""
        from scipy.sparse import csr_array

        rows, columns, values = zip(*self.entries, strict=True)
        return csr_array((values, (rows, columns)), shape=(len(self.lower), self.size))


@dataclass(frozen=True)
class Minimum:
    """The variables with a weight that are taken, in whole or in part, and a weight below which no solution is."""

    chosen: tuple[int, ...]
    bound: float


def minimum(program: Program, weights: Sequence[float]) -> Minimum | None:
    """The lightest solution, or the best that was found; None where there is none, or none was found.

    The variables with a weight are yes or no. Mostly the linear relaxation takes whole ones only, and so is the
    solution. Where it cuts many of them in parts, branching could go on for ever, whatever is said about the number of
    nodes: then all its parts are taken.
    """
    relaxed = _relaxation(program, weights)
    if relaxed.x is None:
        return None
    taken = [(n, float(relaxed.x[n])) for n, weight in enumerate(weights) if weight]
    parted = sum(_SLIGHT < x < 1.0 - _SLIGHT for _, x in taken)
    branched = parted and parted <= _MOST_PARTED and len(program.entries) * parted <= _MOST_BRANCHED
    found = _branched(program, weights) if branched else None
    return found or Minimum(tuple(n for n, x in taken if x > _SLIGHT), float(relaxed.fun))


def _branched(program: Program, weights: Sequence[float]) -> Minimum | None:
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    # what remains of the gap in a large program is about taste, not about how many are taken
    gap = 0.01 if len(program.entries) > _LARGE else 0.0
    result = milp(
        np.array(weights),
        integrality=np.array([int(weight > 0.0) for weight in weights]),
        bounds=Bounds(np.zeros(program.size), np.ones(program.size)),
        constraints=LinearConstraint(program.matrix, program.lower, program.upper),
        # presolve has been seen to lose the optimum (HiGHS in scipy 1.17)
        options={"time_limit": _HANGING, "node_limit": _MOST_NODES, "mip_rel_gap": gap, "presolve": False},
    )
    if result.x is None:
        return None
    chosen = tuple(n for n, weight in enumerate(weights) if weight and result.x[n] > 0.5)
    return Minimum(chosen, result.mip_dual_bound if result.mip_dual_bound is not None else 0.0)


def _relaxation(program: Program, weights: Sequence[float]) -> Any:
    import numpy as np
    from scipy.optimize import linprog

    matrix, low, high = program.matrix, np.array(program.lower), np.array(program.upper)
    fixed = low == high
    loose = None if fixed.all() else (-matrix[~fixed], -low[~fixed])
    tight = None if not fixed.any() else (matrix[fixed], low[fixed])
    return linprog(
        np.array(weights),
        A_ub=loose and loose[0],
        b_ub=loose and loose[1],
        A_eq=tight and tight[0],
        b_eq=tight and tight[1],
        bounds=(0, 1),
        method="highs-ds",
        options={"presolve": False, "maxiter": _MOST_PIVOTS},
    )
