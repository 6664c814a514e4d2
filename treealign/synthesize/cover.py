"""The smallest set of candidates that makes every template, solved exactly as a mixed-integer program.

Variables: whether a candidate is taken, and the flow of each template through its lattice. A step that changes
something needs a taken candidate that makes it; a candidate that matches a name has to be part of that name's way, or
something that takes the match away from it has.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from math import ceil

from treealign.synthesize.candidates import Candidate
from treealign.synthesize.lattice import Edit, Lattice
from treealign.synthesize.problem import Problem
from treealign.synthesize.program import Program, minimum

_MOST_STEPS = 15_000  # over all names that differ
_MOST_ENTRIES = 16_000  # of a program
_MOST_UNIONS = 30
_TASTE = 0.5  # what all preferences together may weigh, against one rule


@dataclass(frozen=True)
class Cover:
    """A set of candidates.

    Attributes
    ----------
    chosen : tuple of int
        Their numbers; none where only the bound is known.
    bound : int
        No set of candidates with fewer members makes every template.
    work : int
        How large the program was: its entries that are not zero, more where it had to be branched.
    """

    chosen: tuple[int, ...]
    bound: int
    work: int = 0


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


def cover(problem: Problem, found: Sequence[Candidate], live: Iterable[int], cuts: Sequence[Cut] = ()) -> Cover | None:
    """The smallest set of live candidates; None where no set does it, none was found, or the program is too large.

    What is done depends on the problem alone, not on how fast the machine is.
    """
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
    if sum(len(shape.makers) for shape in shapes) > _MOST_STEPS:
        return None
    solved = _solve(shapes, kept, mine)
    return solved and Cover(tuple(numbers[n] for n in solved.chosen), solved.bound, solved.work)


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


def _solve(shapes: Sequence[_Shape], found: Sequence[Candidate], cuts: Sequence[Cut]) -> Cover | None:
    program = Program(len(found))
    for shape in shapes:
        _add_shape(program, shape)
    for cut in cuts:
        entries = [(n, -1.0) for n in sorted(cut.without)] + [(n, 1.0) for n in sorted(cut.unless)]
        program.row(entries, 1.0 - len(cut.without), float("inf"))
    costs = [c.cost for c in found]
    unit = _TASTE / (max(costs) * min(len(found), len(shapes) + 1))
    weights = [1.0 + unit * cost for cost in costs]
    solved = minimum(program, weights) if len(program.entries) <= _MOST_ENTRIES else None
    if solved is None:
        return None
    work = len(program.entries) * (4 + solved.parted) // 4
    return Cover(solved.chosen, max(1, ceil(solved.bound - _TASTE - 1e-6)), work)


def _add_shape(program: Program, shape: _Shape) -> None:
    """Flow from start to end, each step carried by a candidate."""
    balance: dict[tuple[int, int], list[tuple[int, float]]] = {}
    steps: dict[Edit, int] = {}
    carried: dict[frozenset[int], list[int]] = {}
    for edit, numbers in shape.makers:
        steps[edit] = column = program.column()
        _join(balance, column, (edit.i, edit.j), (edit.i2, edit.j2))
        carried.setdefault(frozenset(numbers), []).append(column)
    for makers in _together(shape, carried):
        # a rule works on a name once: so many steps take so many rules, and of steps side by side one is taken
        columns = [column for some, own in carried.items() if some <= makers for column in own]
        program.row([*((c, -1.0) for c in columns), *((n, 1.0) for n in sorted(makers))], 0.0, float("inf"))
    for i, j in shape.lattice.kept:
        _join(balance, program.column(), (i, j), (i + 1, j + 1))
    for node in sorted({*balance, shape.lattice.start, shape.lattice.end}):
        net = float(node == shape.lattice.start) - float(node == shape.lattice.end)
        program.row(balance.get(node, []), net, net)
    demanded: dict[tuple[Edit, ...], list[int]] = {}
    for number, wanted in shape.rows:
        demanded.setdefault(tuple(edit for edit in wanted if edit in steps), []).append(number)
    for made, demanding in demanded.items():
        if _avoidable(shape, steps.keys() - {*made}):
            _add_demand(program, [steps[edit] for edit in made], demanding)


def _avoidable(shape: _Shape, others: Set[Edit]) -> bool:
    """Whether a template can be made by these edits alone, so that a demand for one of the rest says something."""
    after: dict[tuple[int, int], list[tuple[int, int]]] = {(i, j): [(i + 1, j + 1)] for i, j in shape.lattice.kept}
    for e in others:
        after.setdefault((e.i, e.j), []).append((e.i2, e.j2))
    reached, waiting = {shape.lattice.start}, [shape.lattice.start]
    while waiting:
        fresh = {*after.get(waiting.pop(), ())} - reached
        waiting += fresh
        reached |= fresh
    return shape.lattice.end in reached


def _add_demand(program: Program, steps: Sequence[int], numbers: Sequence[int]) -> None:
    """Each of these candidates wants one of these steps; where there are many of both, by way of a variable."""
    made = [(step, 1.0) for step in steps]
    if len(numbers) > 2 and len(steps) > 2:
        any_of_them = program.column()
        program.row([(any_of_them, -1.0), *made], 0.0, float("inf"))
        made = [(any_of_them, 1.0)]
    for number in numbers:
        program.row([(number, -1.0), *made], 0.0, float("inf"))


def _together(shape: _Shape, carried: Iterable[frozenset[int]]) -> Iterable[frozenset[int]]:
    """The candidates of each step, and of each two steps on one way that some candidate makes both of."""
    makers = {edit: frozenset(numbers) for edit, numbers in shape.makers}
    made: dict[int, list[Edit]] = {}
    for edit, numbers in shape.makers:
        for n in numbers:
            made.setdefault(n, []).append(edit)
    found: dict[frozenset[int], None] = {}
    for a, b in dict.fromkeys(pair for n in sorted(made) for pair in combinations(made[n], 2)):
        if (a.i2 <= b.i and a.j2 <= b.j) or (b.i2 <= a.i and b.j2 <= a.j):
            found.setdefault(makers[a] | makers[b])
    # without some of them the program is still right about what it forbids, and solved in a fraction of the time
    return dict.fromkeys((*carried, *(found if len(found) <= _MOST_UNIONS else ())))


def _join(
    balance: dict[tuple[int, int], list[tuple[int, float]]], column: int, a: tuple[int, int], b: tuple[int, int]
) -> None:
    balance.setdefault(a, []).append((column, 1.0))
    balance.setdefault(b, []).append((column, -1.0))
