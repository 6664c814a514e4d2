"""Rules cut down to what they are used for: no options that no name takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

from treealign.synthesize.generalize import pattern
from treealign.synthesize.rules import Rule, Run
from treealign.synthesize.templates import Values
from treealign.tree.grammar import Choice
from treealign.tree.segments import Capture, Name

_ANY = "*"  # no text of a key

Taken: TypeAlias = dict[str, set[str]]  # what the choices of a rule held, by their names


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
