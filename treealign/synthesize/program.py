"""Mixed-integer programs: a few yes-or-no variables that weigh something, and flows that follow from them.

Solved with HiGHS (Huangfu & Hall, 2018) through scipy. Pivots and nodes are counted, not seconds, so that the answer
depends on the program alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

_LARGE = 4_000
_MOST_NODES = 50
_MOST_PARTED = 40  # variables that the relaxation takes in part
_MOST_BRANCHED = 200_000  # entries times such variables: some 10 µs each
_MOST_PIVOTS = 20_000
_SLIGHT = 1e-6
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
    """The variables that are taken, a weight below which no solution is, and how many the relaxation cut in parts.

    None are taken where only the weight is known.
    """

    chosen: tuple[int, ...]
    bound: float
    parted: int = 0


def minimum(program: Program, weights: Sequence[float]) -> Minimum | None:
    """The lightest solution, or the best that was found; None where there is none, or none was found.

    Mostly the linear relaxation takes whole variables only, and so is the solution. Where it cuts many of them in
    parts, branching could go on for ever, whatever is said about the number of nodes, and only a bound is found.
    """
    matrix = _matrix(program)
    relaxed = _relaxation(program, weights, matrix)
    if relaxed.x is None:
        return None
    taken = [float(x) for x in relaxed.x[: program.choices]]
    parted = sum(_SLIGHT < x < 1.0 - _SLIGHT for x in taken)
    if not parted:
        return Minimum(tuple(n for n, x in enumerate(taken) if x > 0.5), float(relaxed.fun))
    if parted > _MOST_PARTED or len(program.entries) * parted > _MOST_BRANCHED:
        return Minimum((), float(relaxed.fun), parted)
    found = _branched(program, weights, matrix)
    return found and replace(found, parted=parted)


def _branched(program: Program, weights: Sequence[float], matrix: Any) -> Minimum | None:
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    flows = program.size - program.choices
    # what remains of the gap in a large program is about taste, not about how many are taken
    gap = 0.01 if len(program.entries) > _LARGE else 0.0
    result = milp(
        np.array([*weights, *[0.0] * flows]),
        integrality=np.array([1] * program.choices + [0] * flows),
        bounds=Bounds(np.zeros(program.size), np.ones(program.size)),
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
    loose = None if fixed.all() else (-matrix[~fixed], -low[~fixed])
    tight = None if not fixed.any() else (matrix[fixed], low[fixed])
    return linprog(
        np.array([*weights, *[0.0] * (program.size - program.choices)]),
        A_ub=loose and loose[0],
        b_ub=loose and loose[1],
        A_eq=tight and tight[0],
        b_eq=tight and tight[1],
        bounds=(0, 1),
        method="highs-ds",
        options={"presolve": False, "maxiter": _MOST_PIVOTS},
    )


def _matrix(program: Program) -> Any:
    from scipy.sparse import csr_array

    rows, columns, values = zip(*program.entries, strict=True)
    return csr_array((values, (rows, columns)), shape=(len(program.lower), program.size))
