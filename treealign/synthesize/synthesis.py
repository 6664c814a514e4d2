"""The way from a finished alignment to the minimal conversion mapping, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from treealign.errors import PatternError
from treealign.formats.cached import cached_property
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.synthesize.budget import Budget, OutOfWork
from treealign.synthesize.contents import Content, gather
from treealign.synthesize.converting import Converting, rename
from treealign.synthesize.counting import with_series
from treealign.synthesize.cover import Cut
from treealign.synthesize.generalize import exact_run, limited_captures
from treealign.synthesize.greedy import Greedy
from treealign.synthesize.guarding import guard
from treealign.synthesize.lines import Line
from treealign.synthesize.order import order
from treealign.synthesize.orders import Group
from treealign.synthesize.pool import Pool
from treealign.synthesize.problem import Problem
from treealign.synthesize.recutting import Recut, recut
from treealign.synthesize.result import Conversion, Synthesis
from treealign.synthesize.rules import Rule
from treealign.synthesize.setting_aside import Kind, astray, fewest, kinds_of, unwritable, without
from treealign.synthesize.settling import settle
from treealign.synthesize.task import Task
from treealign.synthesize.templates import Template, fold_pairs
from treealign.synthesize.trimming import trim
from treealign.synthesize.verify import verify
from treealign.synthesize.words import with_choices
from treealign.synthesize.writing import write
from treealign.tree.keytree import KeyTree
from treealign.tree.segments import Name

_MOST_TRIES = 6
_MOST_ROUNDS = 5
_LARGEST = 12_000  # edits of all lattices: where there are more, nothing is solved
_LARGE = 4_000  # edits of all lattices: where there are more, what all names begin with is changed first
_MANY = 1_000_000  # rules
_NEAR = 0.1  # of a bound: what is as near to it as that is left alone
_WORK = 60_000  # of a pool
_NAMES = 20_000  # looked at for greedy lists, some 25 µs each
_STEPS = 80_000  # of ordering


def synthesize(
    pairs: Sequence[tuple[str, str]],
    conversions: Sequence[Conversion],
    checkpoint: KeyTree,
    model: KeyTree,
) -> Synthesis:
    """The shortest conversion mapping that does exactly what the matches say.

    Parameters
    ----------
    pairs : sequence of (str, str)
        One-to-one matches: a checkpoint key and a model key, those with equal names included.
    conversions : sequence of Conversion
        Matches whose tensors change.
    checkpoint, model : KeyTree
        The two sides; keys that stand in no match stay as they are.

    Returns
    -------
    Synthesis
        Its mapping leads every matched key to its partner and back, leaves the model's own names alone (but for
        swaps, which no name can tell), and holds nothing that is dead or shadowed.

    Raises
    ------
    MappingError
        A match names a key that is not in its tree.
    """
    task = Task(pairs, conversions, checkpoint, model)
    first = recut(task)
    return (first and _after(first, task)) or _made(task)


def _after(first: Recut, task: Task) -> Synthesis | None:
    """The rules of a recut and a mapping for what is left after them; None where they do not work together."""
    rest = _made(first.task)
    transforms = [t.with_guard() for t in (*first.renames, *rest.mapping)]
    mapping = ConversionMapping(guard(transforms, task.checkpoint_names, task.model_names, task.lone))
    if rest.findings or verify(mapping, task):
        return None
    return Synthesis(mapping, False, rest.bound)


def _made(task: Task) -> Synthesis:
    task, lost = without(task, unwritable(task))
    for _ in range(_MOST_ROUNDS):
        search = _Search(task)
        best = search.run()
        if best is not None and len(best.mapping) <= len(task.changed) + len(task.converted):
            return best.lacking(lost)
        tried = _exactly(task)
        if tried is not None and not tried.findings and (best is None or len(tried.mapping) < len(best.mapping)):
            return Synthesis(tried.mapping, False, min(len(tried.mapping), search.bound)).lacking(lost)
        if best is not None:
            return best.lacking(lost)
        task, more = without(task, _culprits(task, tried))
        lost += more
    plain, more = without(task, {*kinds_of(replace(task, pairs=()))} if task.pairs else set())
    if more:
        return _made(plain).lacking(lost + more)
    _, more = without(task, {*kinds_of(task)})
    return Synthesis(ConversionMapping(), False, 0).lacking(lost + more)


def _culprits(task: Task, tried: _Attempt | None) -> set[Kind]:
    """The matches that a list written out does not make; where that does not show, those of which there are fewest."""
    return (astray(tried.mapping, task) if tried else set()) or fewest(task)


def _exactly(task: Task) -> _Attempt | None:
    """The list written out: a rule for each part of a name that changes; where that fails, one for each whole name.

    And where captures limited to a range would match what belongs to another rule, one for each range that does not.
    """
    tried = None
    for templates, whole in product((task.changed, _boxed(task)), (False, True)):
        rules = list(dict.fromkeys(rule for t in templates if (rule := _exact(t, whole)) is not None))
        groups = _ordered(rules, task)
        tried = attempt(task, rules, groups or tuple((n,) for n in range(len(rules))))
        if tried is not None and not tried.findings:
            break
    return tried


def _boxed(task: Task) -> tuple[Template, ...]:
    found = fold_pairs(task.pairs, task.checkpoint, task.model, boxed=True)
    return tuple(sorted((t for t in found if t.changed), key=lambda t: (t.samples, repr(t.source))))


def _ordered(rules: Sequence[Rule], task: Task) -> tuple[Group, ...]:
    """The groups in which the rules work, as far as an order is found with so much work."""
    try:
        return order(rules, task.samples, Budget(_STEPS), explain=False).groups
    except OutOfWork:
        return ()


@dataclass(frozen=True)
class _Attempt:
    mapping: ConversionMapping
    findings: tuple[str, ...]


def attempt(task: Task, rules: Sequence[Rule], groups: Sequence[Group]) -> _Attempt | None:
    """The rules as transforms, with the conversions behind them, run; None where they cannot be written."""
    try:
        transforms = [write([rules[n] for n in group]) for group in groups]
        renamed = list(rename(task.converted, rules, groups))
        lines = [Line(r.template.values.seen(name), r.template.values, n) for n, r in renamed for name in r.sources]
        converts = Converting([*task.renamed_lines, *lines], task.model_lines).write(renamed)
    except PatternError:
        return None
    guarded = guard([*transforms, *converts], task.checkpoint_names, task.model_names, task.lone)
    mapping = ConversionMapping(guarded)
    return _Attempt(mapping, verify(mapping, task))


class _Search:
    """Solve, order, write and run; where that is too much work, or not proved shortest, build a list greedily too."""

    def __init__(self, task: Task) -> None:
        self.task, self.bound = task, 0

    @cached_property
    def _kinds(self) -> tuple[list[Content], ...]:
        """The contents of all edits: plain ones, and, where there are any, with series."""
        return _kinds(self.task.problem)

    def run(self) -> Synthesis | None:
        """The shortest list found that survives being run; None if none was found."""
        if not self.task.problem.ways:
            return Synthesis(ConversionMapping(), True, 0)
        best = self._solved()
        if best is None or len(best) - self.bound > _NEAR * self.bound:
            best = min(filter(None, (best, self._built())), key=len, default=None)
        return None if best is None else Synthesis(best, len(best) == self.bound, min(len(best), self.bound))

    def _tried(self, rules: Sequence[Rule], groups: Sequence[Group]) -> ConversionMapping | None:
        tried = attempt(self.task, rules, groups)
        return tried.mapping if tried and not tried.findings else None

    def _built(self) -> ConversionMapping | None:
        """The shortest of the greedy lists that survive being run: without contents that count on, and with them."""
        problem = self.task.problem
        if sum(len(lat.edits) for lat in problem.lattices) > _LARGE:
            problem = problem.peeled()
        kinds = self._kinds if problem is self.task.problem else _kinds(problem)
        best, below, work = None, _MANY, _NAMES
        for at, contents in enumerate(kinds):
            greedy = Greedy(problem.restricted(contents), contents)
            self.bound = max(self.bound, greedy.bound)
            if greedy.estimate < below:
                lists = greedy.lists(work // (len(kinds) - at), below)
                best = next(filter(None, (self._tried(*found) for found in lists)), best)
                below, work = _MANY if best is None else len(best), work - greedy.work
        return best

    def _solved(self) -> ConversionMapping | None:
        """The best list made of some candidates; None if none was found with so much work.

        Series are left out at first, where there are any: they tempt into lists that no order makes. What is too hard
        without them is not tried with them.
        """
        problem = self.task.problem
        if sum(len(lat.edits) for lat in problem.lattices) > _LARGEST:
            return None
        plain, *series = self._kinds
        best = self._solve(plain)
        for contents in series:
            if best is None:
                self.bound = Pool(problem.restricted(contents), contents).estimate()
                return None
            best = self._solve(contents, len(best)) or best
        return best

    def _solve(self, contents: Sequence[Content], below: int = _MANY) -> ConversionMapping | None:
        problem = self.task.problem.restricted(contents)
        pool, budget = Pool(problem, contents), Budget(_STEPS)
        cuts: list[Cut] = []
        try:
            for _ in range(_MOST_TRIES):
                solution = pool.solve(cuts, _WORK, below)
                self.bound = pool.bound
                if solution is None:
                    return None
                numbers = [n for n in solution.chosen if pool.found[n].rule is not None]
                settled = settle(numbers, pool.found, self.task.samples, budget)
                trimmed = trim(problem, settled.rules, settled.groups, self.task, budget)
                made = None if settled.cuts else self._tried(*trimmed)
                if made is not None:
                    return made
                cuts += settled.cuts or (Cut(frozenset(numbers), frozenset()),)
        except OutOfWork:
            pass
        return None


def _kinds(problem: Problem) -> tuple[list[Content], ...]:
    plain = gather(problem.ways, problem.lattices, len(problem.templates))
    series = with_series(plain)
    return tuple([*given, *with_choices(given)] for given in ((plain, series) if series != plain else (plain,)))


def _exact(t: Template, whole: bool) -> Rule | None:
    captures = limited_captures((k, [int(v) for v in held]) for k, held in enumerate(t.values.columns))
    source, target = t.values.seen(t.source), t.values.seen(t.target)
    same = 0 if whole else _common_end(source, target)
    old, new = exact_run(source[: len(source) - same], captures), exact_run(target[: len(target) - same], captures)
    return None if old is None or new is None else Rule((), False, (), old, new, (), not same)


def _common_end(source: Name, target: Name) -> int:
    """How many segments at the end of the two names are equal; one at least stays on either side."""
    shorter = min(len(source), len(target)) - 1
    return next((n for n in range(shorter) if source[-1 - n] != target[-1 - n]), shorter)
