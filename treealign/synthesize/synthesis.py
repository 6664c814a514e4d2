"""The way from a finished alignment to the minimal conversion mapping, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from treealign.errors import PatternError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.synthesize.candidates import Candidate, candidates
from treealign.synthesize.contents import gather
from treealign.synthesize.converting import Converting, rename
from treealign.synthesize.cover import Cut, cover
from treealign.synthesize.exchange import in_step
from treealign.synthesize.generalize import exact_run, limited_captures
from treealign.synthesize.guarding import guard
from treealign.synthesize.lines import Line
from treealign.synthesize.order import Order, order
from treealign.synthesize.problem import Problem
from treealign.synthesize.result import Conversion, Synthesis
from treealign.synthesize.rules import Rule
from treealign.synthesize.task import Task
from treealign.synthesize.templates import Template
from treealign.synthesize.verify import verify
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
        self.task = task

    def run(self) -> Synthesis:
        """The best list that survives being run."""
        task = self.task
        if not task.problem.ways:
            return Synthesis(ConversionMapping(), True, 0)
        found = candidates(task.problem, gather(task.problem.ways, task.problem.lattices, len(task.problem.templates)))
        cuts: list[Cut] = []
        bound = 1
        for attempt in range(_MOST_TRIES):
            solution = cover(task.problem, found, cuts)
            if solution is None:
                break
            bound = solution.bound if not attempt else bound
            numbers = [n for n in solution.chosen if found[n].rule is not None]
            chosen = [rule for n in numbers if (rule := found[n].rule) is not None]
            ordered = order(chosen, task.samples)
            chosen = in_step(chosen, ordered.groups, numbers, found)
            if not ordered.groups and numbers:
                cuts.append(_cut(numbers, ordered, found, task.problem))
                continue
            tried = self._try(chosen, ordered)
            if tried is not None and not tried.findings:
                return Synthesis(tried.mapping, len(tried.mapping) <= bound, bound)
            cuts.append(Cut(frozenset(numbers), frozenset()))
        return self._fallback(bound)

    def _try(self, rules: Sequence[Rule], ordered: Order) -> _Attempt | None:
        try:
            transforms = [write([rules[n] for n in group]) for group in ordered.groups]
        except PatternError:
            return None
        task = self.task
        renamed = list(rename(task.converted, rules, ordered.groups))
        lines = [Line(r.template.values.seen(name), r.template.values, n) for n, r in renamed for name in r.sources]
        converts = Converting([*task.renamed_lines, *lines], task.model_lines).write(renamed)
        guarded = guard([*transforms, *converts], task.checkpoint_names, task.model_names)
        mapping = ConversionMapping(guarded)
        return _Attempt(mapping, verify(mapping, task.pairs, task.conversions, task.checkpoint, task.model))

    def _fallback(self, bound: int) -> Synthesis:
        """One renaming for each template, its whole name written out."""
        rules = [rule for t in self.task.problem.templates if (rule := _exact(t)) is not None]
        ordered = order(rules, self.task.samples)
        groups = ordered.groups or tuple((n,) for n in range(len(rules)))
        tried = self._try(rules, Order(groups))
        mapping = tried.mapping if tried else ConversionMapping()
        findings = tried.findings if tried else ("no list of transforms does what the matches say",)
        return Synthesis(mapping, False, bound, findings)


def _exact(t: Template) -> Rule | None:
    captures = limited_captures((k, [int(v) for v in held]) for k, held in enumerate(t.values.columns))
    old, new = exact_run(t.source, captures), exact_run(t.target, captures)
    return None if old is None or new is None else Rule((), False, (), old, new, (), True)


def _cut(chosen: Sequence[int], ordered: Order, found: Sequence[Candidate], problem: Problem) -> Cut:
    """Some of the rules that cannot be right together have to go, or another that works on those names to come."""
    stuck = frozenset(chosen[n] for n in ordered.stuck)
    keys = {(".".join(map(str, s.source))) for s in ordered.samples}
    templates = {n for n, t in enumerate(problem.templates) if any(c in keys for c, _ in t.samples)}
    others = frozenset(n for n, c in enumerate(found) if n not in chosen and templates & c.verdict.templates)
    return Cut(stuck, others) if stuck else Cut(frozenset(chosen), others)
