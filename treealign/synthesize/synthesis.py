"""The way from a finished alignment to the minimal conversion mapping, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from treealign.errors import PatternError
from treealign.formats.collector import collector_paused
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.synthesize.contents import Content, gather
from treealign.synthesize.converting import Converting, rename
from treealign.synthesize.counting import with_series
from treealign.synthesize.generalize import exact_run, limited_captures
from treealign.synthesize.greedy import Greedy
from treealign.synthesize.guarding import guard
from treealign.synthesize.lines import Line, Lines
from treealign.synthesize.problem import Problem
from treealign.synthesize.recutting import Recut, recut
from treealign.synthesize.result import Conversion, Synthesis
from treealign.synthesize.rules import Move, Rule
from treealign.synthesize.setting_aside import Kind, astray, fewest, kinds_of, unwritable, without
from treealign.synthesize.task import Task
from treealign.synthesize.templates import Template, fold_pairs
from treealign.synthesize.verifying import verify
from treealign.synthesize.words import with_choices
from treealign.synthesize.writing import write
from treealign.tree.keytree import KeyTree
from treealign.tree.segments import Name

_MOST_ROUNDS = 5
_NAMES = 10_000  # looked at for lists of each kind, some 50 µs each
_NEAR = 0.1  # of the transforms of a choice: a list that is as near to it as that is left alone


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
    with collector_paused():
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
        best = _shortest(task)
        if best is not None and len(best.mapping) <= len(task.changed) + len(task.converted):
            return best.lacking(lost)
        tried = _exactly(task)
        if tried is not None and not tried.findings and (best is None or len(tried.mapping) < len(best.mapping)):
            return Synthesis(tried.mapping, False, min(len(tried.mapping), best.bound if best else 1)).lacking(lost)
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
        made = {rule: t for t in templates if (rule := _exact(t, whole)) is not None}
        tried = attempt(task, _in_order(list(made), list(made.values())))
        if tried is not None and not tried.findings:
            break
    return tried


def _boxed(task: Task) -> tuple[Template, ...]:
    found = fold_pairs(task.pairs, task.checkpoint, task.model, boxed=True)
    return tuple(sorted((t for t in found if t.changed), key=lambda t: (t.samples, repr(t.source))))


def _in_order(rules: Sequence[Rule], templates: Sequence[Template]) -> list[Move]:
    """The rules such that each comes before those that make what it replaces; those that cannot, at once."""
    import networkx

    targets = Lines(Line(t.values.seen(t.target), t.values, n) for n, t in enumerate(templates))
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(len(rules)))
    graph.add_edges_from((n, hit.line) for n, rule in enumerate(rules) for hit in targets.find(rule.forward))
    parts = networkx.condensation(graph)
    order = networkx.lexicographical_topological_sort(parts, key=lambda part: min(parts.nodes[part]["members"]))
    return [tuple(rules[n] for n in sorted(parts.nodes[part]["members"])) for part in order]


@dataclass(frozen=True)
class _Attempt:
    mapping: ConversionMapping
    findings: tuple[str, ...]


def attempt(task: Task, moves: Sequence[Move]) -> _Attempt | None:
    """The rules as transforms, with the conversions behind them, run; None where they cannot be written."""
    try:
        transforms = [write(move) for move in moves]
        renamed = list(rename(task.converted, moves))
        lines = [Line(r.template.values.seen(name), r.template.values, n) for n, r in renamed for name in r.sources]
        converts = Converting([*task.renamed_lines, *lines], task.model_lines).write(renamed)
    except PatternError:
        return None
    guarded = guard([*transforms, *converts], task.checkpoint_names, task.model_names, task.lone)
    mapping = ConversionMapping(guarded)
    return _Attempt(mapping, verify(mapping, task))


def _shortest(task: Task) -> Synthesis | None:
    """The shortest of the lists that survive being run, with contents that count on and without."""
    problem = task.problem
    if not problem.ways:
        return Synthesis(ConversionMapping(), True, 0)

    def accept(moves: Sequence[Move]) -> ConversionMapping | None:
        tried = attempt(task, moves)
        return tried.mapping if tried and not tried.findings else None

    plain = gather(problem.ways, problem.lattices)
    series = with_series(plain)
    best, bound = None, 1
    for contents in (series, plain) if _told(series) != _told(plain) else (series,):
        greedy = Greedy(problem, _worthy(contents, problem))
        if contents is series and greedy.is_small:
            bound = greedy.bound
        found = greedy.best(_NAMES, accept) if best is None else greedy.best(_NAMES, accept, len(best) - 1)
        best = min(filter(None, (best, found)), key=len, default=None)
        if best is not None and len(best) <= (1.0 + _NEAR) * greedy.expected:
            break
    return None if best is None else Synthesis(best, len(best) == bound, min(len(best), bound))


def _told(contents: Sequence[Content]) -> set[tuple[Name, Name, int]]:
    return {(c.old, c.new, len(c.occurrences)) for c in contents}


def _worthy(contents: Sequence[Content], problem: Problem) -> list[Content]:
    """The contents that are worth a rule, choices of them among them: what conversions alone have is theirs."""
    own = [c for c in contents if c.occurrences[0].template < len(problem.templates)]
    return [*own, *with_choices(own)]


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
