"""From candidates to rules in order; where some cannot work together, the like of them in another context may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

from treealign.synthesize.budget import Budget
from treealign.synthesize.candidates import Candidate
from treealign.synthesize.cover import Cut
from treealign.synthesize.order import Order, Sample, order
from treealign.synthesize.orders import Group
from treealign.synthesize.rules import Rule, Run
from treealign.tree.segments import Capture

_MOST_ROUNDS = 12
_MOST_VARIANTS = 8
_MOST_LIMITED = 4
_MOST_COMBINATIONS = 150


@dataclass(frozen=True)
class Settled:
    """Rules and the order in which they work; without groups, what was learnt about why there is none."""

    rules: tuple[Rule, ...]
    groups: tuple[Group, ...]
    cuts: tuple[Cut, ...] = ()


def settle(chosen: Sequence[int], found: Sequence[Candidate], samples: Sequence[Sample], budget: Budget) -> Settled:
    """The chosen candidates in an order that is right for all samples, some exchanged for their like if need be.

    Raises
    ------
    OutOfWork
        The budget does not suffice.
    """
    numbers = list(chosen)
    hard: list[Sample] = []
    for _ in range(_MOST_ROUNDS):
        rules = _rules(numbers, found)
        ordered = order(rules, samples, budget)
        if ordered.groups or not rules:
            return Settled(tuple(rules), ordered.groups)
        hard += [s for s in ordered.samples if s not in hard]
        tried = list(_variants(numbers, ordered, found))
        better = next((n for n in tried if order(_rules(n, found), hard, budget, explain=False).groups), None)
        if better is None:
            return Settled((), (), tuple(_cuts(tried, ordered, found)))
        numbers = better
    return Settled((), (), (Cut(frozenset(chosen), frozenset()),))


def _rules(numbers: Sequence[int], found: Sequence[Candidate]) -> list[Rule]:
    return [rule for n in numbers if (rule := found[n].rule) is not None]


def _variants(numbers: Sequence[int], ordered: Order, found: Sequence[Candidate]) -> Iterator[list[int]]:
    """The same choice with other candidates for the rules that are stuck, the cheapest first."""
    stuck = sorted(ordered.stuck) or list(range(len(numbers)))[:3]
    families = [_alike(numbers[at], found) for at in stuck[:4]]
    ways = sorted(islice(product(*families), 5000), key=lambda way: sum(found[n].cost for n in way))
    for way in ways[:_MOST_COMBINATIONS]:
        other = list(numbers)
        for at, n in zip(stuck, way, strict=False):
            other[at] = n
        yield other


def _alike(number: int, found: Sequence[Candidate]) -> list[int]:
    """Candidates that make at least the same edits in the same way, this one first."""
    rule, uses = found[number].rule, found[number].verdict.uses
    assert rule is not None
    same = [
        n
        for n, c in enumerate(found)
        if c.rule is not None and (c.rule.old, c.rule.new) == (rule.old, rule.new) and c.verdict.uses >= uses
    ]
    ranked = sorted(same, key=lambda n: (n != number, found[n].cost))
    limited = [n for n in ranked[_MOST_VARIANTS:] if _is_limited(found[n].rule)]
    return ranked[:_MOST_VARIANTS] + limited[:_MOST_LIMITED]


def _is_limited(rule: Rule | None) -> bool:
    """Whether it keeps to some indices."""
    runs = (rule.scope, rule.left, rule.old, rule.right) if rule else ()
    return any(isinstance(p, Capture) and p.high is not None for run in runs for s in run for p in s.parts)


def _content(candidate: Candidate) -> tuple[Run, Run] | None:
    return None if candidate.rule is None else (candidate.rule.old, candidate.rule.new)


def _cuts(tried: Sequence[Sequence[int]], ordered: Order, found: Sequence[Candidate]) -> Iterator[Cut]:
    """None of what was tried works, unless something else works on the same names."""
    stuck = sorted(ordered.stuck)
    sets = {frozenset(numbers[at] for at in stuck) for numbers in tried} - {frozenset()}
    involved = frozenset().union(*sets)
    templates = set().union(*(found[n].verdict.templates for n in involved))
    # the like of what was chosen would change nothing
    same = {_content(found[n]) for numbers in tried for n in numbers}
    others = frozenset(
        n
        for n, c in enumerate(found)
        if c.rule is not None and _content(c) not in same and templates & c.verdict.templates
    )
    yield from (Cut(members, others) for members in sorted(sets, key=sorted))
