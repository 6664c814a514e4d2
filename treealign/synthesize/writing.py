"""Rules written as the transforms that a person reads: short, with plain names for captures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from treealign.errors import PatternError
from treealign.mapping.transforms import PrefixChange, Rename, Transform
from treealign.synthesize.rules import Rule, Run
from treealign.tree.grammar import Choice
from treealign.tree.segments import Capture

_INDICES = "ijklmnpqrstuvwxyz"


def write(rules: Sequence[Rule]) -> Transform:
    """One rule, or several that work at once, as a transform.

    Raises
    ------
    PatternError
        Rules that form no swap or chain cannot work at once.
    """
    first = rules[0]
    if len(rules) == 1 and _is_level(first):
        under = spell(first.scope, naming([first.scope]))
        if first.old:
            return PrefixChange(remove=spell(first.old, {}), under=under)
        return PrefixChange(add=spell(first.new, {}), under=under)
    if len({(r.scope, r.gap, r.at_end) for r in rules}) > 1:
        raise PatternError("renamings below different scopes cannot work at once")
    scoped = all(_sides(r) for r in rules)
    scope = first.scope if first.gap or scoped else ()
    head = () if scope else first.scope
    names = naming([scope, *(run for r in rules for run in (head, r.left, r.old, r.right))])
    front, back = "**." if first.gap else "", "$" if first.at_end else ""
    pairs = {}
    for r in rules:
        source, target = ((*head, *r.left, *middle, *r.right) for middle in (r.old, r.new))
        # swaps and chains are recognised by their text, so there both sides have to spell out the limits
        spelt = spell(target, names, limits=len(rules) > 1)
        pairs[f"{front}{spell(source, names)}{back}"] = f"{front}{spelt}{back}"
    return Rename(pairs, under=spell(scope, names))


def _sides(rule: Rule) -> bool:
    """Whether both sides are more than nothing without the scope."""
    return bool((rule.old and rule.new) or rule.left or rule.right)


def _is_level(rule: Rule) -> bool:
    plain = all(len(s.parts) == 1 and isinstance(s.parts[0], str) for s in (*rule.old, *rule.new))
    return not (rule.gap or rule.left or rule.right or rule.at_end or (rule.old and rule.new)) and plain


def naming(runs: Iterable[Run]) -> dict[str, str]:
    """Plain names for the captures, in the order in which they stand."""
    names: dict[str, str] = {}
    indices, choices = iter(_INDICES), _choicenaming()
    for run in runs:
        for segment in run:
            for part in segment.parts:
                if not isinstance(part, str) and part.name not in names:
                    names[part.name] = next(choices) if isinstance(part, Choice) else next(indices)
    return names


def _choicenaming() -> Iterator[str]:
    yield "part"
    yield from (f"part{n}" for n in range(2, 1000))


def spell(run: Run, names: dict[str, str], limits: bool = True) -> str:
    """A run as text; without limits where they were spelt out before."""
    return spell_all([run], names, limits)[0]


def spell_all(runs: Iterable[Run], names: dict[str, str], limits: bool = True) -> list[str]:
    """Several runs as text; ranges and choices are spelt out where a capture stands first, and hold for all."""
    spelt: set[str] = set()

    def text(part: str | Capture | Choice) -> str:
        if isinstance(part, str):
            return part
        first = limits and part.name not in spelt
        spelt.add(part.name)
        return _capture(part, names[part.name], first)

    return [".".join("".join(map(text, segment.parts)) for segment in run) for run in runs]


def _capture(part: Capture | Choice, name: str, limits: bool) -> str:
    if isinstance(part, Choice):
        return f"{{{name}:{'|'.join(part.options)}}}" if limits else f"{{{name}}}"
    within = "" if part.high is None or not limits else f":{part.low}..{part.high}"
    return f"{{{name}{f'{part.shift:+d}' if part.shift else ''}{within}}}"
