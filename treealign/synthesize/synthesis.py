"""The way from a finished alignment to the minimal conversion mapping, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from treealign.synthesize.result import Conversion, Synthesis
from treealign.synthesize.rules import Rule
from treealign.synthesize.settling import settle
from treealign.synthesize.task import Task
from treealign.synthesize.templates import Template
from treealign.synthesize.trimming import trim
from treealign.synthesize.verify import verify
from treealign.synthesize.words import with_choices
from treealign.synthesize.writing import write
from treealign.tree.keytree import KeyTree

_MOST_TRIES = 12


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
    return _Search(Task(pairs, conversions, checkpoint, model)).run()


@dataclass(frozen=True)
class _Attempt:
    mapping: ConversionMapping
    findings: tuple[str, ...]


class _Search:
    """Solve, order, write and run; learn from what does not work, and solve again."""

    def __init__(self, task: Task) -> None:
        self.task, self.problem, self.bound = task, task.problem, 0

    def run(self) -> Synthesis:
        """The best list that survives being run."""
        task = self.task
        if not task.problem.ways:
            return Synthesis(ConversionMapping(), True, 0)
        contents = gather(task.problem.ways, task.problem.lattices, len(task.problem.templates))
        contents += with_choices(contents)
        self.problem = task.problem.restricted(contents)
        pool = Pool(self.problem, contents)
        best = self._solve(pool)
        if best is None:
            pool.clean()
            best = self._solve(pool)
        return best or self._fallback()

    def _solve(self, pool: Pool) -> Synthesis | None:
        """The best list made of some candidates that survives being run; None if there is none."""
        cuts: list[Cut] = []
        found = pool.found
        for _ in range(_MOST_TRIES):
            solution = pool.solve(cuts)
            if solution is None:
                return None
            self.bound = self.bound or solution.bound
            numbers = [n for n in solution.chosen if found[n].rule is not None]
            settled = settle(numbers, found, self.task.samples)
            trimmed = trim(self.problem, settled.rules, settled.groups, self.task.samples)
            tried = None if settled.cuts else self._try(*trimmed)
            if tried is not None and not tried.findings:
                return Synthesis(tried.mapping, len(tried.mapping) <= self.bound, self.bound)
            cuts += settled.cuts or (Cut(frozenset(numbers), frozenset()),)
        return None

    def _try(self, rules: Sequence[Rule], groups: Sequence[Group]) -> _Attempt | None:
        try:
            transforms = [write([rules[n] for n in group]) for group in groups]
        except PatternError:
            return None
        task = self.task
        renamed = list(rename(task.converted, rules, groups))
        lines = [Line(r.template.values.seen(name), r.template.values, n) for n, r in renamed for name in r.sources]
        converts = Converting([*task.renamed_lines, *lines], task.model_lines).write(renamed)
        guarded = guard([*transforms, *converts], task.checkpoint_names, task.model_names, task.lone)
        mapping = ConversionMapping(guarded)
        return _Attempt(mapping, verify(mapping, task))

    def _fallback(self) -> Synthesis:
        """One renaming for each template, its whole name written out."""
        rules = [rule for t in self.task.problem.templates if (rule := _exact(t)) is not None]
        ordered = order(rules, self.task.samples)
        tried = self._try(rules, ordered.groups or tuple((n,) for n in range(len(rules))))
        if tried is None or tried.findings:
            # a list that breaks a law is worth less than none; the matches say what has to be written by hand
            findings = ("no list of transforms was found that does what the matches say",)
            return Synthesis(ConversionMapping(), False, self.bound, findings + (tried.findings if tried else ()))
        return Synthesis(tried.mapping, False, self.bound)


def _exact(t: Template) -> Rule | None:
    captures = limited_captures((k, [int(v) for v in held]) for k, held in enumerate(t.values.columns))
    old, new = exact_run(t.source, captures), exact_run(t.target, captures)
    return None if old is None or new is None else Rule((), False, (), old, new, (), True)
