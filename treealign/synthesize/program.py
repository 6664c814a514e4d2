"""Mixed-integer programs: a few yes-or-no variables that weigh something, and flows that follow from them.

Solved with HiGHS (Huangfu & Hall, 2018) through scipy. Pivots and nodes are counted, not seconds, so that the answer
depends on the program alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from treealign.formats.cached import cached_property

_LARGE = 4_000  # entries: in a smaller program nothing is gained by leaving variables out
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


def minimum(program: Program, weights: Sequence[float], pruned: Callable[[set[int]], set[int]] = set) -> Minimum | None:
    """The lightest solution, or the best that was found; None where there is none, or none was found.

    The variables with a weight are yes or no. Mostly the linear relaxation takes whole ones only, and so is the
    solution. Where it cuts many of them in parts, branching could go on for ever, whatever is said about the number of
    nodes: then all its parts are taken that are needed, as `pruned` says.
    """
    relaxed = _relaxation(program, weights)
    if relaxed.x is None:
        return None
    bound = float(relaxed.fun)
    taken = {n for n, weight in enumerate(weights) if weight and relaxed.x[n] > _SLIGHT}
    parted = sum(relaxed.x[n] < 1.0 - _SLIGHT for n in taken)
    if not parted:
        return Minimum(tuple(sorted(taken)), bound)
    fewer = pruned(taken)
    gap = sum(weights[n] for n in fewer) - bound
    large = len(program.entries) > _LARGE
    if large and gap <= _SLIGHT:
        return Minimum(tuple(sorted(fewer)), bound)
    free = _undecided(relaxed, gap + _SLIGHT if large else float("inf"))
    small = parted <= _MOST_PARTED and program.matrix[:, free].nnz * parted <= _MOST_BRANCHED
    branched = _branched(program, weights, free, relaxed.x) if small else None
    return branched or Minimum(tuple(sorted(fewer)), bound)


def _undecided(relaxed: Any, gap: float) -> Any:
    """The variables that a solution which is heavier than the relaxation by less than the gap may take otherwise.

    The others stand at one end, and to move them to the other costs more (Dantzig, Fulkerson & Johnson, 1954).
    """
    return (relaxed.lower.marginals <= gap) & (relaxed.upper.marginals >= -gap)


def _branched(program: Program, weights: Sequence[float], free: Any, x: Any) -> Minimum | None:
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    matrix, values = program.matrix[:, free], np.array(weights)
    fixed = np.where(free, 0.0, np.round(x))
    made = program.matrix @ fixed
    result = milp(
        values[free],
        integrality=(values[free] > 0.0).astype(int),
        bounds=Bounds(0.0, 1.0),
        constraints=LinearConstraint(matrix, np.array(program.lower) - made, np.array(program.upper) - made),
        # presolve has been seen to lose the optimum (HiGHS in scipy 1.17)
        options={"time_limit": _HANGING, "node_limit": _MOST_NODES, "mip_rel_gap": 0.0, "presolve": False},
    )
    if result.x is None:
        return None
    fixed[free] = result.x
    base = float(values[~free] @ fixed[~free])
    chosen = tuple(int(n) for n in np.nonzero((values > 0.0) & (fixed > 0.5))[0])
    return Minimum(chosen, base + result.mip_dual_bound if result.mip_dual_bound is not None else 0.0)


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
