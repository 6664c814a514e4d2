"""The smallest set of candidates that makes every template, solved exactly as a mixed-integer program.

Variables: whether a candidate is taken, and the flow of each template through its lattice. A step that changes
something needs a taken candidate that makes it; a candidate that matches a name has to be part of that name's way, or
something that takes the match away from it has. Solved with HiGHS (Huangfu & Hall, 2018) through scipy.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil

from treealign.synthesize.candidates import Candidate
from treealign.synthesize.lattice import Edit, Lattice
from treealign.synthesize.problem import Problem
from treealign.synthesize.quiet import native_silence

_TASTE = 0.5  # what all preferences together may weigh, against one rule


@dataclass(frozen=True)
class Cover:
    """A set of candidates.

    Attributes
    ----------
    chosen : tuple of int
        Their numbers.
    bound : int
        No set of candidates with fewer members makes every template.
    """

    chosen: tuple[int, ...]
    bound: int


@dataclass(frozen=True)
class Cut:
    """One of `without` has to go, or one of `unless` to come: what was learnt from a set that did not work."""

    without: frozenset[int]
    unless: frozenset[int]

    def renumbered(self, place: Mapping[int, int]) -> Cut:
        """The same with the candidates at their places; those that have none cannot come."""
        return Cut(frozenset(place[n] for n in self.without), frozenset(place[n] for n in self.unless if n in place))


@dataclass(frozen=True)
class _Shape:
    """A template as the program sees it: equal ones count once."""

    lattice: Lattice
    makers: tuple[tuple[Edit, tuple[int, ...]], ...]
    rows: tuple[tuple[int, tuple[Edit, ...]], ...]


def cover(
    problem: Problem, found: Sequence[Candidate], live: Iterable[int], cuts: Sequence[Cut] = (), seconds: float = 5.0
) -> Cover | None:
    """The smallest set of live candidates, or None where no set does it, or none was found in time."""
    numbers = undominated(found, live)
    if not numbers:
        return None
    place = {n: at for at, n in enumerate(numbers)}
    kept = [found[n] for n in numbers]
    shapes = _shapes(problem, kept)
    alone = None if cuts else _alone(shapes, kept)
    if alone is not None:
        return Cover((numbers[alone],), 1)
    mine = [c.renumbered(place) for c in cuts if c.without <= place.keys()]
    solved = _solve(shapes, kept, mine, seconds)
    return solved and Cover(tuple(numbers[n] for n in solved.chosen), solved.bound)


def undominated(found: Sequence[Candidate], live: Iterable[int]) -> list[int]:
    """Candidates without those that do no more than a cheaper one of the same content which demands no more."""
    best: dict[object, list[int]] = {}
    for n in sorted(live, key=lambda n: (found[n].cost, n)):
        rule = found[n].rule
        group = best.setdefault(n if rule is None else (rule.old, rule.new), [])
        if not any(_dominates(found[o], found[n]) for o in group):
            group.append(n)
    return sorted(n for group in best.values() for n in group)


def _dominates(a: Candidate, b: Candidate) -> bool:
    if not a.verdict.uses >= b.verdict.uses:
        return False
    demanded = b.verdict.demands
    return all(any(edits <= wanted for edits in demanded.get(n, ())) for n, wanted in a.verdict.rows)


def _shapes(problem: Problem, found: Sequence[Candidate]) -> list[_Shape]:
    makers: list[dict[Edit, list[int]]] = [{} for _ in problem.ways]
    rows: list[list[tuple[int, tuple[Edit, ...]]]] = [[] for _ in problem.ways]
    for n, c in enumerate(found):
        for o in c.verdict.uses:
            makers[o.template].setdefault(o.edit, []).append(n)
        for row in c.verdict.rows:
            rows[row.template].append((n, tuple(sorted(row.edits))))
    shapes: dict[Hashable, _Shape] = {}
    for lat, made, wanted in zip(problem.lattices, makers, rows, strict=True):
        steps = tuple(sorted((edit, tuple(numbers)) for edit, numbers in made.items()))
        moved = _Shape(lat, steps, tuple(sorted(set(wanted))))
        shapes.setdefault((lat.kept, lat.start, lat.end, moved.makers, moved.rows), moved)
    return list(shapes.values())


def _alone(shapes: Sequence[_Shape], found: Sequence[Candidate]) -> int | None:
    """The best candidate that makes everything on its own."""
    able: set[int] | None = None
    for shape in shapes:
        here = {n for _, numbers in shape.makers for n in numbers}
        able = here if able is None else able & here
    good = [n for n in able or () if all(_passes(shape, n) for shape in shapes)]
    return min(good, key=lambda n: (found[n].cost, n), default=None)


def _passes(shape: _Shape, candidate: int) -> bool:
    """Whether one candidate leads a template from its start to its end."""
    edits = {edit for edit, numbers in shape.makers if candidate in numbers}
    if any(n == candidate and edits.isdisjoint(wanted) for n, wanted in shape.rows):
        return False
    made = {((e.i, e.j), (e.i2, e.j2)) for e in edits}
    reached, waiting = {shape.lattice.start}, [shape.lattice.start]
    kept = set(shape.lattice.kept)
    while waiting:
        node = waiting.pop()
        after = [b for a, b in made if a == node] + ([(node[0] + 1, node[1] + 1)] if node in kept else [])
        waiting += [n for n in after if n not in reached]
        reached.update(after)
    return shape.lattice.end in reached


class _Program:
    """Rows and columns of the program as they are collected."""

    def __init__(self, size: int) -> None:
        self.size = size
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


def _solve(shapes: Sequence[_Shape], found: Sequence[Candidate], cuts: Sequence[Cut], seconds: float) -> Cover | None:
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    program = _Program(len(found))
    for shape in shapes:
        _add_shape(program, shape)
    for cut in cuts:
        entries = [(n, -1.0) for n in cut.without] + [(n, 1.0) for n in cut.unless]
        program.row(entries, 1.0 - len(cut.without), np.inf)
    costs = [c.cost for c in found]
    unit = _TASTE / (max(costs) * min(len(found), len(shapes) + 1))
    weights = np.zeros(program.size)
    weights[: len(found)] = 1.0 + unit * np.array(costs)
    whole = np.zeros(program.size)
    whole[: len(found)] = 1
    rows, columns, values = zip(*program.entries, strict=True)
    matrix = csr_array((values, (rows, columns)), shape=(len(program.lower), program.size))
    with native_silence():
        result = milp(
            weights,
            integrality=whole,
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(matrix, program.lower, program.upper),
            # presolve has been seen to lose the optimum (HiGHS in scipy 1.17)
            options={"time_limit": seconds, "mip_rel_gap": 0.0, "presolve": False},
        )
    if result.x is None:
        return None
    chosen = tuple(n for n in range(len(found)) if result.x[n] > 0.5)
    lowest = result.mip_dual_bound if result.mip_dual_bound is not None else 0.0
    return Cover(chosen, max(1, ceil(lowest - _TASTE - 1e-6)))


def _add_shape(program: _Program, shape: _Shape) -> None:
    """Flow from start to end, each step carried by a candidate."""
    balance: dict[tuple[int, int], list[tuple[int, float]]] = {}
    steps: dict[Edit, int] = {}
    for edit, numbers in shape.makers:
        steps[edit] = column = program.column()
        _join(balance, column, (edit.i, edit.j), (edit.i2, edit.j2))
        program.row([(column, -1.0), *((n, 1.0) for n in numbers)], 0.0, float("inf"))
    for (a, some), (b, others) in combinations(shape.makers, 2):
        if set(some) & set(others) and ((a.i2 <= b.i and a.j2 <= b.j) or (b.i2 <= a.i and b.j2 <= a.j)):
            # a rule works on a name once: two steps take two
            makers = {*some, *others}
            program.row([(steps[a], -1.0), (steps[b], -1.0), *((n, 1.0) for n in makers)], 0.0, float("inf"))
    for i, j in shape.lattice.kept:
        _join(balance, program.column(), (i, j), (i + 1, j + 1))
    for node in {*balance, shape.lattice.start, shape.lattice.end}:
        net = float(node == shape.lattice.start) - float(node == shape.lattice.end)
        program.row(balance.get(node, []), net, net)
    for number, wanted in shape.rows:
        made = [(steps[edit], 1.0) for edit in wanted if edit in steps]
        program.row([(number, -1.0), *made], 0.0, float("inf"))


def _join(
    balance: dict[tuple[int, int], list[tuple[int, float]]], column: int, a: tuple[int, int], b: tuple[int, int]
) -> None:
    balance.setdefault(a, []).append((column, 1.0))
    balance.setdefault(b, []).append((column, -1.0))
