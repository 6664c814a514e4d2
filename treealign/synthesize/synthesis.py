"""The way from a finished alignment to the minimal conversion mapping, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from treealign.errors import PatternError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.transforms import Transform
from treealign.synthesize.candidates import Candidate, candidates
from treealign.synthesize.contents import gather
from treealign.synthesize.cover import Cut, cover
from treealign.synthesize.generalize import exact_run, limited_captures
from treealign.synthesize.guarding import guard
from treealign.synthesize.order import Order, Sample, order
from treealign.synthesize.problem import Problem
from treealign.synthesize.result import Conversion, Synthesis
from treealign.synthesize.rules import Rule
from treealign.synthesize.series import merge_series
from treealign.synthesize.templates import Template, Values, fold_name, fold_pairs
from treealign.synthesize.verify import verify
from treealign.synthesize.writing import write
from treealign.tree.keytree import KeyTree
from treealign.tree.segments import Name

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
    return _Search(pairs, conversions, checkpoint, model).run()


@dataclass(frozen=True)
class _Attempt:
    mapping: ConversionMapping
    findings: tuple[str, ...]


class _Search:
    """Solve, order, write and run; learn from what does not work, and solve again."""

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        conversions: Sequence[Conversion],
        checkpoint: KeyTree,
        model: KeyTree,
    ) -> None:
        self.pairs, self.conversions, self.checkpoint, self.model = pairs, conversions, checkpoint, model
        templates = sorted(merge_series(fold_pairs(pairs, checkpoint, model)), key=_template_key)
        self.fixed = [t for t in templates if not t.changed]
        matched = {c for c, _ in pairs}, {m for _, m in pairs}
        self.problem = Problem(
            templates=tuple(t for t in templates if t.changed),
            fixed=tuple((t.source, t.values) for t in self.fixed),
            checkpoint_only=_unmatched(checkpoint, matched[0]),
            model_only=_unmatched(model, matched[1]),
        )

    def run(self) -> Synthesis:
        """The best list that survives being run."""
        if not self.problem.templates:
            return Synthesis(ConversionMapping(), True, 0)
        found = candidates(self.problem, gather(self.problem.templates, self.problem.lattices))
        cuts: list[Cut] = []
        samples = self._samples()
        bound = 1
        for attempt in range(_MOST_TRIES):
            solution = cover(self.problem, found, cuts)
            if solution is None:
                break
            bound = solution.bound if not attempt else bound
            chosen = [found[n].rule for n in solution.chosen]
            ordered = order(chosen, samples)
            if not ordered.groups:
                cuts.append(_cut(solution.chosen, ordered, found, self.problem))
                continue
            tried = self._try(chosen, ordered)
            if tried is None:
                cuts.append(Cut(frozenset(solution.chosen), frozenset()))
                continue
            if not tried.findings:
                return Synthesis(tried.mapping, len(tried.mapping) <= bound, bound)
            cuts.append(Cut(frozenset(solution.chosen), frozenset()))
        return self._fallback(bound)

    def _samples(self) -> list[Sample]:
        pairs = dict.fromkeys(pair for t in self.problem.templates for pair in t.samples)
        return [Sample(tuple(c.split(".")), tuple(m.split("."))) for c, m in pairs]

    def _try(self, rules: Sequence[Rule], ordered: Order) -> _Attempt | None:
        try:
            transforms = [write([rules[n] for n in group]) for group in ordered.groups]
        except PatternError:
            return None
        guarded = self._guarded(transforms)
        mapping = ConversionMapping(guarded)
        return _Attempt(mapping, verify(mapping, self.pairs, self.conversions, self.checkpoint, self.model))

    def _guarded(self, transforms: Sequence[Transform]) -> list[Transform]:
        checkpoint = [(t.source, t.values) for t in self.problem.templates]
        model = [(t.target, t.values) for t in self.problem.templates]
        fixed = self.problem.fixed
        return guard(
            transforms,
            [*checkpoint, *fixed, *self.problem.checkpoint_only],
            [*model, *fixed, *self.problem.model_only],
        )

    def _fallback(self, bound: int) -> Synthesis:
        """One renaming for each template, its whole name written out."""
        rules = [rule for t in self.problem.templates if (rule := _exact(t)) is not None]
        ordered = order(rules, self._samples())
        groups = ordered.groups or tuple((n,) for n in range(len(rules)))
        tried = self._try(rules, Order(groups))
        mapping = tried.mapping if tried else ConversionMapping()
        findings = tried.findings if tried else ("no list of transforms does what the matches say",)
        return Synthesis(mapping, False, bound, findings)


def _template_key(t: Template) -> tuple[tuple[tuple[str, str], ...], str]:
    return t.samples, repr(t.source)


def _unmatched(tree: KeyTree, matched: set[str]) -> tuple[tuple[Name, Values], ...]:
    found = []
    if len(matched) == len(tree):
        return ()
    for f in tree.folds:
        positions = [p for p in f.positions if tree.keys[p] not in matched]
        if positions:
            found.append(fold_name(f, positions))
    return tuple(found)


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
