"""The way from a finished alignment to the minimal conversion mapping, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from treealign.errors import PatternError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.synthesize.contents import gather
from treealign.synthesize.converting import Converting, rename
from treealign.synthesize.cover import Cut
from treealign.synthesize.generalize import exact_run, limited_captures
from treealign.synthesize.guarding import guard
from treealign.synthesize.lines import Line
from treealign.synthesize.order import Group, order
from treealign.synthesize.pool import Pool
from treealign.synthesize.recutting import Recut, recut
from treealign.synthesize.result import Conversion, Synthesis
from treealign.synthesize.rules import Rule
from treealign.synthesize.setting_aside import Kind, astray, fewest, kinds_of, without
from treealign.synthesize.settling import settle
from treealign.synthesize.task import Task
from treealign.synthesize.templates import Template, fold_pairs
from treealign.synthesize.trimming import trim
from treealign.synthesize.verify import verify
from treealign.synthesize.words import with_choices
from treealign.synthesize.writing import write
from treealign.tree.keytree import KeyTree
from treealign.tree.segments import Name

_MOST_TRIES = 12
_MOST_ROUNDS = 5
_WORK = 100_000  # of a pool, in each stage; after half of it no solution is tried behind one that fails


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
    lost: tuple[str, ...] = ()
    spent = 0
    for _ in range(_MOST_ROUNDS):
        search = _Search(task)
        best = search.run() if spent <= _WORK else None
        spent += search.work
        if best is not None:
            return best.lacking(lost)
        tried = _exactly(task)
        if tried is not None and not tried.findings:
            return Synthesis(tried.mapping, False, min(len(tried.mapping), search.bound)).lacking(lost)
        task, more = without(task, _culprits(task, tried))
        lost += more
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
    for templates, whole in product((task.problem.templates, _boxed(task)), (False, True)):
        rules = list(dict.fromkeys(rule for t in templates if (rule := _exact(t, whole)) is not None))
        groups = order(rules, task.samples, explain=False).groups
        tried = attempt(task, rules, groups or tuple((n,) for n in range(len(rules))))
        if tried is not None and not tried.findings:
            break
    return tried


def _boxed(task: Task) -> tuple[Template, ...]:
    found = fold_pairs(task.pairs, task.checkpoint, task.model, boxed=True)
    return tuple(sorted((t for t in found if t.changed), key=lambda t: (t.samples, repr(t.source))))


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
    """Solve, order, write and run; learn from what does not work, and solve again."""

    def __init__(self, task: Task) -> None:
        self.task, self.problem, self.bound = task, task.problem, 0
        self.failures = self.work = 0

    def run(self) -> Synthesis | None:
        """The best list that survives being run; None if none was found."""
        task = self.task
        if not task.problem.ways:
            return Synthesis(ConversionMapping(), True, 0)
        contents = gather(task.problem.ways, task.problem.lattices, len(task.problem.templates))
        contents += with_choices(contents)
        self.problem = task.problem.restricted(contents)
        pool = Pool(self.problem, contents)
        best = self._solve(pool)
        self.bound = pool.bound
        if best is None and self.failures and pool.work <= _WORK:
            pool.limit()
            best = self._solve(pool)
        if best is None and (self.failures or pool.work > _WORK):
            pool.clean()
            best = self._solve(pool)
        self.work = pool.work
        return None if best is None else self._judged(best)

    def _judged(self, mapping: ConversionMapping) -> Synthesis:
        """A list, and what the first stage says of all lists, even where it was given up."""
        return Synthesis(mapping, len(mapping) == self.bound, min(len(mapping), self.bound))

    def _solve(self, pool: Pool) -> ConversionMapping | None:
        """The best list made of some candidates that survives being run; None if none was found with so much work."""
        work, tries = pool.work + _WORK, pool.work + _WORK // 2
        cuts: list[Cut] = []
        found = pool.found
        for _ in range(_MOST_TRIES):
            solution = pool.solve(cuts, work)
            if solution is None:
                return None
            numbers = [n for n in solution.chosen if found[n].rule is not None]
            settled = settle(numbers, found, self.task.samples)
            trimmed = trim(self.problem, settled.rules, settled.groups, self.task.samples)
            tried = None if settled.cuts else attempt(self.task, *trimmed)
            if tried is not None and not tried.findings:
                return tried.mapping
            self.failures += 1
            if pool.work > tries:
                break
            cuts += settled.cuts or (Cut(frozenset(numbers), frozenset()),)
        return None


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
