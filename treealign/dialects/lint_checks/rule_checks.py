"""Findings about single rules: dead, shadowed, matching too much, dots, references, several sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from inspect import signature
from typing import Any, NamedTuple

from treealign.dialects.lint_checks.models import Case
from treealign.dialects.lint_checks.walks import Touch, touches
from treealign.tree.fold import fold_names

_TOKEN = re.compile(r"\\.|\[\^?\]?[^\]]*\]|(?P<dot>\.)(?![*+?{])|.", re.DOTALL)
_FEW = 4


class Said(NamedTuple):
    """A finding without its entry."""

    kind: str
    rule: int | None
    says: str
    facts: tuple[str, ...] = ()


def rule_text(rule: Any) -> str:
    """A rule as it could have been written."""
    if hasattr(rule, "prefix_to_add"):
        sides = {"prefix_to_add": rule.prefix_to_add, "prefix_to_remove": rule.prefix_to_remove}
        given = {**{name: text for name, text in sides.items() if text is not None}, "model_prefix": rule.model_prefix}
        return f"PrefixChange({', '.join(f'{name}={_quoted(text)}' for name, text in given.items() if text)})"
    old, new = map(_side_text, (rule._original_source_patterns, rule._original_target_patterns))
    operations = ", ".join(map(_operation_text, getattr(rule, "operations", ())))
    return f"{type(rule).__name__}({old}, {new}{f', [{operations}]' if operations else ''})"


def _operation_text(operation: Any) -> str:
    usual = {name: wanted.default for name, wanted in signature(type(operation)).parameters.items()}
    held = {name: getattr(operation, name, default) for name, default in usual.items()}
    # a dimension is said though it is the usual one
    said = [f"{name}={value!r}" for name, value in held.items() if value != usual[name] or type(value) is int]
    return f"{type(operation).__name__}({', '.join(said)})"


def _side_text(patterns: Sequence[str]) -> str:
    return _quoted(patterns[0]) if len(patterns) == 1 else f"[{', '.join(map(_quoted, patterns))}]"


def _quoted(text: str) -> str:
    return f'r"{text}"' if "\\" in text else f'"{text}"'


def static(rules: Sequence[Any]) -> Iterator[Said]:
    """What can be said without a model."""
    for n, rule in enumerate(rules):
        kind, targets = type(rule).__name__, rule.target_patterns
        if kind == "WeightRenaming" and len(rule.source_patterns) > 1:
            facts = tuple(rule._original_source_patterns)
            yield Said("two-sources", n, "one renaming has several sources, and saving writes the first for all", facts)
        groups = max((re.compile(pattern).groups for pattern in rule.source_patterns), default=0)
        beyond = [target for target in targets if re.search(r"\\[2-9]", target)]
        if beyond and kind != "GroupWeightRename":
            yield Said("backreference", n, r"transformers fills in \1 only: the text stays in the names", tuple(beyond))
        elif groups > 1 and kind == "WeightRenaming" and any(r"\1" in target for target in targets):
            yield Said("backreference", n, "its source has several groups, of which one is carried over")


def unused(case: Case) -> Iterator[Said]:
    """Rules that touch nothing when what was saved is loaded."""
    rules = case.rules()
    for n in range(case.own):
        if case.loading.touched.get(n):
            continue
        yield _why_unused(case, rules, n)


def _why_unused(case: Case, rules: Sequence[Any], n: int) -> Said:
    written = case.saving.touched.get(n, [])
    alone = touches(case.rules()[n], case.saved)
    if alone:
        by = _first_taker(case, n, [touch.key for touch in alone])
        return Said("shadowed", n, f"{by} takes all its keys first", _shown(touch.key for touch in alone))
    if case.given:
        return Said("dead", n, "no key of the checkpoint is touched by it")
    if written:
        facts = tuple(f"{touch.before} is saved as {case.saving.ends[touch.key]}" for touch in written[:_FEW])
        return Said("not-written-back", n, "what it writes when saving, it does not take when loading", facts)
    reverse = rules[n].reverse_transform()
    names = [*case.model, *case.saving.ends]
    found = touches(reverse, names)
    if found and not hasattr(rules[n], "operations"):
        facts = _shown(dict.fromkeys(touch.key for touch in found))
        return Said("not-written-back", n, "saving takes the names that it makes for those of another rule", facts)
    return Said("dead", n, "the model has no name that it makes, whatever part or switch of its default config is set")


def _first_taker(case: Case, n: int, keys: Sequence[str]) -> str:
    for other, touched in sorted(case.loading.touched.items()):
        if other != n and any(touch.key in keys for touch in touched):
            return f"rule {other}" if other < case.own else "the entry of a part"
    return "another rule"


def matching(case: Case) -> Iterator[Said]:
    """Rules that touch what they should not, or replace text elsewhere than they matched."""
    rules = case.rules()
    for n in range(case.own):
        touched = case.loading.touched.get(n, [])
        lost = [t for t in touched if _lost(case, t)]
        if lost and not any(touch.key in case.loading.converted for touch in lost):
            says = "it renames keys that the model has as they are; loading takes their own names, for want of others"
            yield Said("over-matching", n, says, _shown(t.key for t in lost))
        yield from _places(rules[n], n, touched)


def _lost(case: Case, touch: Touch) -> bool:
    """Whether a key of the model's own becomes one that it has not; what loading does for base models is none."""
    end, base = case.loading.ends[touch.key], case.meta.base_model_prefix
    alone = not hasattr(case.meta, base) if base else True
    return touch.key in case.model and end not in case.model and not (alone and end == f"{base}.{touch.key}")


def _places(rule: Any, n: int, touched: Sequence[Touch]) -> Iterator[Said]:
    whole, inside, elsewhere = list[str](), list[str](), list[str]()
    for touch in touched:
        span = _span(rule, touch.before)
        if span is None:
            continue
        text, at = touch.before, span[0]
        (inside if _cuts_a_segment(text, *span) else whole).append(text)
        if text.find(text[slice(*span)]) < at - (len(text) - len(_scoped(rule, text))):
            elsewhere.append(text)
    if inside and whole:
        says = "it matches whole segments, and inside others too"
        yield Said("over-matching", n, says, _shown(inside))
    if elsewhere:
        yield Said(
            "wrong-place",
            n,
            "the text that it matches stands earlier in the key too, and that is replaced",
            _shown(elsewhere),
        )


def _scoped(rule: Any, name: str) -> str:
    prefix = f"{rule.scope_prefix}." if rule.scope_prefix else ""
    return name.removeprefix(prefix)


def _span(rule: Any, name: str) -> tuple[int, int] | None:
    inner = _scoped(rule, name)
    found = rule.compiled_sources.search(inner)
    shift = len(name) - len(inner)
    return None if found is None else (found.start() + shift, found.end() + shift)


def _cuts_a_segment(name: str, start: int, stop: int) -> bool:
    before = start > 0 and name[start - 1] != "." and name[start] != "."
    after = stop < len(name) and name[stop] != "." and name[stop - 1] != "."
    return stop > start and (before or after)


# -- dots --------------------------------------------------------------------------------------------------------------


def dots(case: Case) -> Iterator[Said]:
    """Dots that are not escaped and match something else on these names, loading or saving."""
    for n, rule in enumerate(case.rules()[: case.own]):
        sides = [(rule, [*case.loading.met.get(n, ()), *case.converted.met.get(n, ())], "loading")]
        if not hasattr(rule, "operations"):
            sides.append((rule.reverse_transform(), case.saving.met.get(n, []), "saving"))
        for side, names, way in sides:
            wrong = list(dict.fromkeys(name for name in names if _dot_matters(side, name)))
            if wrong:
                says = f"{way}, a dot that is not escaped matches another character"
                yield Said("unescaped-dot", n, says, _shown(wrong))


def _dot_matters(rule: Any, name: str) -> bool:
    pattern = rule.compiled_sources.pattern
    strict = escaped_dots(pattern)
    if strict == pattern or rule._scoped_match(name) is None:
        return False
    found, meant = (re.search(p, _scoped(rule, name)) for p in (pattern, strict))
    return (found and found.span()) != (meant and meant.span())


@cache
def escaped_dots(pattern: str) -> str:
    r"""The pattern with each dot that stands alone escaped.

    >>> escaped_dots(r"a.b\.c.*[.]d")
    'a\\.b\\.c.*[.]d'
    """
    return _TOKEN.sub(lambda token: r"\." if token["dot"] else token[0], pattern)


def _shown(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(fold_names(dict.fromkeys(keys), limit=_FEW))
