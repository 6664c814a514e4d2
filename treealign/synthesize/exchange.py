"""Swaps and chains: rules that work at once have to look for their names in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from treealign.synthesize.candidates import Candidate
from treealign.synthesize.orders import Group
from treealign.synthesize.rules import Rule, Run

Context: TypeAlias = tuple[Run, bool, Run, Run, bool]


def in_step(
    rules: Sequence[Rule], groups: Sequence[Group], chosen: Sequence[int], found: Sequence[Candidate]
) -> list[Rule]:
    """The rules, those of one group all in the cheapest context that all of them have a candidate for."""
    result = list(rules)
    for group in groups:
        if len(group) > 1:
            for member, rule in _shared(group, chosen, found).items():
                result[member] = rule
    return result


def _shared(group: Group, chosen: Sequence[int], found: Sequence[Candidate]) -> dict[int, Rule]:
    options = [_alternatives(found[chosen[member]], found) for member in group]
    common = set(options[0]).intersection(*options[1:])
    if not common:
        return {}
    best = min(common, key=lambda c: (sum(of[c].length for of in options), repr(c)))
    return {member: of[best] for member, of in zip(group, options, strict=True)}


def _alternatives(candidate: Candidate, found: Sequence[Candidate]) -> dict[Context, Rule]:
    """Rules that do at least the same, by what they look for around it."""
    assert candidate.rule is not None
    same = (candidate.rule.old, candidate.rule.new)
    return {
        (r.scope, r.gap, r.left, r.right, r.at_end): r
        for c in found
        if (r := c.rule) is not None and (r.old, r.new) == same and c.verdict.uses >= candidate.verdict.uses
    }
