"""Renamings as transformers takes them: from what a person would write to what is sure to hold, the first that works.

Each candidate is built and run on the names of its stage, forward and reverse, by the code of transformers itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from itertools import product
from typing import Any

from treealign.dialects.substitutions import filled_parts, held_values
from treealign.dialects.transformers.entries import Call, group_renaming, prefix_change, renaming
from treealign.dialects.transformers.installed import LOADING, has
from treealign.dialects.transformers.pieces import (
    AFTER_DOT,
    AFTER_SEGMENT,
    AT_END,
    BEFORE_DOT,
    BEFORE_SEGMENT,
    GAP,
    MOST_RULES,
    START,
    Pair,
    Variable,
    as_pairs,
    one_by_one,
    segment_parts,
    shared_head,
)
from treealign.dialects.transformers.stages import KEYS, Stage, stage_elsewhere
from treealign.errors import MappingError
from treealign.mapping.scope import has_range
from treealign.mapping.transforms import PrefixChange, Rename
from treealign.tree.grammar import SegmentPattern
from treealign.tree.patterns import Choice, KeyPattern

_Run = list[SegmentPattern | Variable]


def rename_calls(stage: Stage, sampled: bool = False, only: str = "") -> tuple[Call, ...]:
    """The rules for one renaming.

    Parameters
    ----------
    stage : Stage
        The renaming and the names that it is to work on.
    sampled : bool
        The names are made up: only patterns that say exactly what the transform says are taken.
    only : str
        The one class that the rules may be of; any if it is empty.

    Raises
    ------
    MappingError
        Nothing that transformers has does the same in both directions; the message says where it goes wrong.
    """
    first, tried = "", [stage, *([stage_elsewhere(stage)] if sampled else [])]
    for calls in _candidates(stage, sampled):
        if only and any(call.name != only for call in calls):
            continue
        failure = next(filter(None, (first_difference(calls, each) for each in tried)), "")
        if not failure:
            return calls
        first = first or failure
    raise MappingError(
        f"transformers has no rule that does this renaming and undoes it{', whatever the keys' if sampled else ''}",
        facts=[repr(stage.transform), *([f"  {first}"] if first else [])],
        hint=KEYS if sampled else "treealign's own load and save do it",
    )


def first_difference(calls: Sequence[Call], stage: Stage) -> str:
    """Where rules do other than the stage, forward or reverse; empty if nowhere."""
    try:
        rules = [call.build() for call in calls]
    except MappingError as error:
        return error.what
    changed = dict.fromkeys(stage.changed)
    # those that change first: most candidates fail there
    same = [(a, b) for a, b in zip(stage.before, stage.after, strict=True) if (a, b) not in changed]
    order = import_module(LOADING).dot_natural_key
    pairs = sorted([*changed, *same], key=lambda pair: order(pair[0]))
    for old, new in pairs:
        made = _renamed(rules, old)
        if made != new:
            return f"loading would make {made} of {old}, not {new}"
    back = [rule.reverse_transform() for rule in reversed(rules)]
    for old, new in sorted(pairs, key=lambda pair: order(pair[1])):
        made = _renamed(back, new)
        if made != old:
            return f"saving would make {made} of {new}, not {old}"
    return ""


def _renamed(rules: Sequence[Any], name: str) -> str:
    for rule in rules:
        name = rule.rename_source_key(name)[0]
    return name


def _candidates(stage: Stage, sampled: bool) -> Iterator[tuple[Call, ...]]:
    transform = stage.transform
    if isinstance(transform, PrefixChange):
        yield from _prefix_candidates(transform)
        levels = ".".join(transform.levels)
        old, new = ("", levels) if transform.add is not None else (levels, "")
        yield from _pair_candidates(stage, [(old, new)], sampled)
    if isinstance(transform, Rename):
        if len(transform.pairs) > 1:
            yield from _exchanges(stage, transform, sampled)
        else:
            yield from _pair_candidates(stage, list(transform.pairs), sampled)
            yield from _value_candidates(stage, transform, sampled)
    if not sampled or _all_sampled(stage):
        yield from one_by_one(stage)


def _all_sampled(stage: Stage) -> bool:
    """Whether made up names are all that there can be, but for what follows the pattern."""
    transform = stage.transform
    patterns = [*([transform.scope] if transform.scope else [])]
    if isinstance(transform, Rename):
        patterns += [source for source, _ in transform._patterns]
    held = [capture for pattern in patterns for capture in pattern.captures.values()]
    return not any(p.anywhere for p in patterns) and all(isinstance(c, Choice) or has_range(c) for c in held)


def _prefix_candidates(transform: PrefixChange) -> Iterator[tuple[Call, ...]]:
    scope = transform.scope
    if scope is None or (not scope.anywhere and not scope.captures):
        yield (prefix_change(transform.add, transform.remove, transform.under),)


def _pair_candidates(stage: Stage, pairs: list[tuple[str, str]], sampled: bool) -> Iterator[tuple[Call, ...]]:
    for old, new in pairs:
        yield from _in_contexts(stage, [(_whole(stage, old), _whole(stage, new))], sampled)


def _value_candidates(stage: Stage, transform: Rename, sampled: bool) -> Iterator[tuple[Call, ...]]:
    """A rule for each value of the captures that no group can carry over."""
    source, target = _whole(stage, transform.source), _whole(stage, transform.target)
    (sides,) = transform._patterns
    for values in held_values(transform, sides, [] if sampled else [old for old, _ in stage.changed]):
        if 1 < len(values) <= MOST_RULES:
            yield from _in_contexts(stage, [(_filled(source, v), _filled(target, v)) for v in values], sampled)


def _filled(run: _Run, values: Mapping[str, str]) -> _Run:
    return [s if isinstance(s, Variable) else SegmentPattern(filled_parts(s.parts, values)) for s in run]


def _whole(stage: Stage, text: str) -> _Run:
    """All segments of a pattern from the start of a key, `under` and gaps included."""
    scope = stage.transform.scope
    run: _Run = []
    if scope is not None:
        run += [GAP] * scope.anywhere + [*scope.segments]
    if not text:
        return run
    pattern = KeyPattern.parse(text)
    return run + [GAP] * pattern.anywhere + [*pattern.segments]


def _in_contexts(stage: Stage, sides: Sequence[tuple[_Run, _Run]], sampled: bool) -> Iterator[tuple[Call, ...]]:
    """Runs and what replaces them, one after the other, with more and more of the segments that both share in front."""
    shared = min(shared_head(source, target) for source, target in sides)
    for strict in (True,) if sampled else (False, True):
        for kept, left, right in _contexts(stage, sides, shared, sampled):
            found = [
                _pairs(source[shared - kept :], target[shared - kept :], (left, right), strict)
                for source, target in sides
            ]
            if all(found):
                yield tuple(renaming(*pair) for pairs in found for pair in pairs or ())


def _contexts(
    stage: Stage, sides: Sequence[tuple[_Run, _Run]], shared: int, sampled: bool
) -> Iterator[tuple[int, str, str]]:
    """How many of the shared segments are kept, and what stands to the left and to the right of a run."""
    # made up names do not show what a shorter pattern would hit: only a gap in front, any number of segments, may go
    depths = [shared, shared - 1] if all(GAP in source[:1] for source, _ in sides) else [shared]
    for kept in depths if sampled else range(shared + 1):
        whole, cut = kept == shared, shared - kept
        bare = any(len(source) == cut or len(target) == cut for source, target in sides)
        if not whole and (bare or any(GAP in source[cut:] for source, _ in sides)):
            continue
        for left, right in product(_lefts(stage, whole), _rights(stage, bare, sampled)):
            yield kept, left, right


def _pairs(old: _Run, new: _Run, around: tuple[str, str], strict: bool) -> list[Pair] | None:
    left, right = around
    source, target = (_with_dot(segment_parts(run, strict), right) for run in (old, new))
    return as_pairs(source, target, left, "" if right == BEFORE_DOT else right)


def _with_dot(parts: list[Any], right: str) -> list[Any]:
    """The last dot as text of its own, but for a side without segments."""
    if right != BEFORE_DOT or not parts or (isinstance(parts[-1], Variable) and parts[-1].gap):
        return parts
    return [*parts[:-1], parts[-1] + "."] if isinstance(parts[-1], str) else [*parts, "."]


def _lefts(stage: Stage, whole: bool) -> list[str]:
    if whole:
        return [START]
    inner = all("." in old and "." in new for old, new in stage.changed)
    return [AFTER_DOT, AFTER_SEGMENT] if inner else [AFTER_SEGMENT]


def _rights(stage: Stage, bare: bool, sampled: bool) -> list[str]:
    text = getattr(stage.transform, "source", "")
    if text.endswith("$"):
        return [AT_END]
    if bare:
        return [BEFORE_DOT]
    return [BEFORE_SEGMENT] if sampled else [BEFORE_DOT, "", BEFORE_SEGMENT]


# -- swaps and chains --------------------------------------------------------------------------------------------------


def _exchanges(stage: Stage, transform: Rename, sampled: bool) -> Iterator[tuple[Call, ...]]:
    """All pairs at once, with the one as guard that a converted checkpoint lacks; or one after the other."""
    ordered = _chain(transform)
    singles = [_pair_candidates(stage, [pair], sampled) for pair in ordered]
    for ways in zip(*(list(single) for single in singles), strict=False):
        if all(len(way) == 1 for way in ways):
            calls = [way[0] for way in ways]
            sources, targets = ([dict(call.arguments)[side] for call in calls] for side in _SIDES)
            for guard in (0, len(calls) - 1):
                order = [guard, *(at for at in range(len(calls)) if at != guard)]
                yield (group_renaming([sources[at] for at in order], [targets[at] for at in order]),)
            # without the class that does them at once, names that are converted already would be taken up again
            if _is_chain(transform) and has("GroupWeightRename"):
                yield tuple(reversed(calls))


_SIDES = ("source_patterns", "target_patterns")


def _chain(transform: Rename) -> list[tuple[str, str]]:
    """The pairs in the order of the chain, from the name that only the checkpoint has."""
    following = dict(transform.pairs)
    at = next((source for source in following if source not in following.values()), transform.source)
    ordered = []
    while at in following and (at, following[at]) not in ordered:
        ordered.append((at, following[at]))
        at = following[at]
    return ordered


def _is_chain(transform: Rename) -> bool:
    following = dict(transform.pairs)
    return any(source not in following.values() for source in following)
