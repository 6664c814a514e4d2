"""Mixed-integer programs: a few yes-or-no variables that weigh something, and flows that follow from them.

Solved with HiGHS (Huangfu & Hall, 2018) through scipy. A program that is too large to be solved whole is solved for the
variables that its linear relaxation would take, and those that it would take next (the kernel of Angelelli, Mansini &
Speranza, 2010); the relaxation then gives the bound. Only sizes decide which is done, and nodes are counted, not
seconds, so that the answer depends on the program alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_MOST_ENTRIES = 12_000  # solved whole up to here
_LARGE = 8_000
_MOST_NODES = 400
_KERNELS = (120, 300)  # how many variables to try
_HANGING = 120.0  # seconds after which something must be broken


class Program:
    """Rows and columns of a program as they are collected; the first `size` columns are the yes-or-no variables."""

    def __init__(self, size: int) -> None:
        self.size, self.choices = size, size
        self.entries: list[tuple[int, int, float]] = []
        self.lower: list[float] = []
        self.upper: list[float] = []

    def column(self) -> int:
        """A new flow variable."""
        self.size += 1
        return self.size - 1

    def row(self, entries: Sequence[tuple[int, float]], low: float, high: float) -> None:
        """A new constraint."""
        self.entries += [(len(self.lower), column, value) for column, value in entries]
        self.lower.append(low)
        self.upper.append(high)


@dataclass(frozen=True)
class Minimum:
    """The variables that are taken, and a weight below which no solution is."""

    chosen: tuple[int, ...]
    bound: float


def minimum(program: Program, weights: Sequence[float]) -> Minimum | None:
    """The lightest solution, or the best that was found; None where there is none, or none was found."""
    matrix = _matrix(program)
    if len(program.entries) <= _MOST_ENTRIES:
        return _whole(program, weights, matrix, [1.0] * program.choices)
    relaxed = _relaxation(program, weights, matrix)
    if relaxed.x is None:
        return None
    # the relaxation's choice first, then what would cost it least
    costs = [(-relaxed.x[n], relaxed.lower.marginals[n], n) for n in range(program.choices)]
    ranked = [n for *_, n in sorted((round(x, 6), round(r, 6), n) for x, r, n in costs)]
    for count in _KERNELS:
        wanted = set(ranked[: max(count, sum(x < -1e-6 for x, *_ in costs))])
        found = _whole(program, weights, matrix, [float(n in wanted) for n in range(program.choices)])
        if found is not None:
            return Minimum(found.chosen, relaxed.fun)
    return None


def _matrix(program: Program) -> Any:
    from scipy.sparse import csr_array

    rows, columns, values = zip(*program.entries, strict=True)
    return csr_array((values, (rows, columns)), shape=(len(program.lower), program.size))


def _whole(program: Program, weights: Sequence[float], matrix: Any, tops: Sequence[float]) -> Minimum | None:
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    flows = program.size - program.choices
    high = np.array([*tops, *[1.0] * flows])
    # what remains of the gap in a large program is about taste, not about how many are taken
    gap = 0.01 if len(program.entries) > _LARGE else 0.0
    result = milp(
        np.array([*weights, *[0.0] * flows]),
        integrality=np.array([1] * program.choices + [0] * flows),
        bounds=Bounds(np.zeros(program.size), high),
        constraints=LinearConstraint(matrix, program.lower, program.upper),
        # presolve has been seen to lose the optimum (HiGHS in scipy 1.17)
        options={"time_limit": _HANGING, "node_limit": _MOST_NODES, "mip_rel_gap": gap, "presolve": False},
    )
    if result.x is None:
        return None
    chosen = tuple(n for n in range(program.choices) if result.x[n] > 0.5)
    return Minimum(chosen, result.mip_dual_bound if result.mip_dual_bound is not None else 0.0)


def _relaxation(program: Program, weights: Sequence[float], matrix: Any) -> Any:
    import numpy as np
    from scipy.optimize import linprog

    low, high = np.array(program.lower), np.array(program.upper)
    fixed = low == high
    return linprog(
        np.array([*weights, *[0.0] * (program.size - program.choices)]),
        A_ub=-matrix[~fixed],
        b_ub=-low[~fixed],
        A_eq=matrix[fixed],
        b_eq=low[fixed],
        bounds=(0, 1),
        method="highs-ds",
    )
