"""Rules cut down to what they are used for: no dead choices, and no context that nothing needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from treealign.synthesize.budget import Budget
from treealign.synthesize.generalize import pattern
from treealign.synthesize.order import Sample, order, step
from treealign.synthesize.orders import Group
from treealign.synthesize.problem import Problem
from treealign.synthesize.rules import Rule, Run
from treealign.synthesize.task import Task
from treealign.synthesize.templates import Values
from treealign.tree.grammar import Choice
from treealign.tree.segments import NO_SLOTS, Capture, Name

_ANY = "*"  # no text of a key

Taken = dict[str, set[str]]  # what the choices of a rule held, by their names


def trim(
    problem: Problem, rules: Sequence[Rule], groups: Sequence[Group], task: Task, budget: Budget
) -> tuple[tuple[Rule, ...], tuple[Group, ...]]:
    """The rules without options that no key takes, and the groups without rules that nothing needs."""
    taken = _taken(rules, groups, task.every_sample)
    kept = tuple(group for group in groups if any(n in taken for n in group))
    result = list(rules)
    for n, rule in enumerate(rules):
        narrower = _narrowed(rule, taken.get(n, {}))
        if narrower == rule:
            continue
        for shorter in (*_shorter(narrower), narrower):
            tried = [*result[:n], shorter, *result[n + 1 :]]
            verdict = problem.assess(shorter, ())
            if verdict is not None and verdict.clean and order(tried, task.samples, budget).groups == tuple(groups):
                result = tried
                break
    return tuple(result), kept


def _taken(rules: Sequence[Rule], groups: Sequence[Group], samples: Iterable[Sample]) -> dict[int, Taken]:
    """For each rule that is used what its choices held."""
    found: dict[int, Taken] = {}
    for sample in samples:
        name = sample.source
        for group in groups:
            after = step(rules, group, name, True)
            for n in group if after != name else ():
                for match in rules[n].forward.find(name, NO_SLOTS)[:1]:
                    held = found.setdefault(n, {})
                    for capture, text in match.captures.items():
                        held.setdefault(capture, set()).add(str(text))
            name = after
    return found


def narrowed(rule: Rule, names: Iterable[tuple[Name, Values]]) -> Rule:
    """The rule without options that none of the names takes."""
    held: Taken = {}
    for name, values in names:
        for match in rule.forward.find(name, values)[:1]:
            for capture, text in match.captures.items():
                held.setdefault(capture, set()).add(str(text) if isinstance(text, str) else _ANY)
    return _narrowed(rule, {capture: texts for capture, texts in held.items() if _ANY not in texts})


def _narrowed(rule: Rule, taken: Taken) -> Rule:
    scope, left, old, new, right = (
        _narrowed_run(run, taken) for run in (rule.scope, rule.left, rule.old, rule.new, rule.right)
    )
    return replace(rule, scope=scope, left=left, old=old, new=new, right=right)


def _narrowed_run(run: Run, taken: Taken) -> Run:
    return tuple(pattern(_narrowed_part(part, taken) for part in segment.parts) or segment for segment in run)


def _narrowed_part(part: str | Capture | Choice, taken: Taken) -> str | Capture | Choice:
    if not isinstance(part, Choice):
        return part
    options = tuple(option for option in part.options if option in taken.get(part.name, ()))
    if not options:
        return part
    return options[0] if len(options) == 1 else part._replace(options=options)


def _shorter(rule: Rule) -> Iterator[Rule]:
    """The rule with less context, the least first; a rule that only puts in or takes away needs some."""
    for count in range(len(rule.right)):
        if count or not rule.gap or (rule.old and rule.new):
            yield replace(rule, right=rule.right[:count], at_end=False)
