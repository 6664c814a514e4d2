r"""Key patterns as regular expressions that transformers can reverse.

What it takes (`process_target_pattern` and `rename_source_key` there) narrows the choice: one capture group and
``\1``, no ``$`` in a target, a target is read as a regular expression when the rule is reversed, and everything in
lookarounds is dropped where it is read as a replacement. So both sides are written as the same kind of pattern: escaped
dots, the same ``^``, and the same lookarounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product, takewhile
from typing import NamedTuple, TypeAlias

from treealign.dialects.transformers.entries import Call, renaming
from treealign.dialects.transformers.stages import Stage
from treealign.tree.grammar import Choice, SegmentPattern
from treealign.tree.segments import LARGEST, Capture

START = "^"
AFTER_DOT = r"\."
AFTER_SEGMENT = "(?<![^.])"
BEFORE_DOT = r"\."
BEFORE_SEGMENT = "(?![^.])"
AT_END = "(?=$)"
_ENDS = {AT_END: ("$",), BEFORE_SEGMENT: (r"\.", "$")}  # inside a lookahead
NUMBER = r"\d+"
_MOST_OPTIONS = 200


class Variable(NamedTuple):
    """A part of a name that a rule carries over.

    `regex` is what it may be; `options` says that it is an alternation, which must fill a group alone; `gap` that it
    stands for any number of segments.
    """

    name: str
    regex: str
    shift: int = 0
    options: bool = False
    gap: bool = False


Part: TypeAlias = "str | Variable"
GAP = Variable("**", ".*?", gap=True)


class Pair(NamedTuple):
    """A source pattern and its target pattern, as transformers takes them."""

    source: str
    target: str


def segment_parts(segments: Iterable[SegmentPattern | Variable], strict: bool) -> list[Part]:
    """Segments as text and variables in turn, dots included; ranges are written out only where `strict`."""
    parts: list[Part] = []
    after_text = False
    for segment in segments:
        if after_text:
            parts.append(".")
        # a gap brings its own last dot
        after_text = not isinstance(segment, Variable)
        held = (segment,) if isinstance(segment, Variable) else segment.parts
        parts += [part if isinstance(part, str | Variable) else _variable(part, strict) for part in held]
    return _merged(parts)


def _variable(capture: Capture | Choice, strict: bool) -> Variable:
    if isinstance(capture, Choice):
        return Variable(capture.name, "|".join(map(re.escape, capture.options)), options=True)
    if capture.high is None or capture.high >= LARGEST or not strict:
        return Variable(capture.name, NUMBER, capture.shift)
    if capture.high < 10:
        return Variable(capture.name, f"[{capture.low}-{capture.high}]", capture.shift)
    count = capture.high - capture.low + 1
    every = "|".join(map(str, range(capture.low, capture.high + 1))) if count <= _MOST_OPTIONS else NUMBER
    return Variable(capture.name, every, capture.shift, options=count <= _MOST_OPTIONS)


def _merged(parts: list[Part]) -> list[Part]:
    merged: list[Part] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def as_pairs(source: Sequence[Part], target: Sequence[Part], left: str, right: str) -> list[Pair] | None:
    """Rules that replace `source` by `target`, applied one after the other; None where they cannot be written.

    One rule where the text between the variables stays, for then one group holds them all; otherwise one rule for each
    text between two variables that changes.
    """
    variables, before = _runs(source)
    others, after = _runs(target)
    if [v.name for v in variables] != [v.name for v in others] or any(v.shift for v in (*variables, *others)):
        return None
    if not variables:
        return [Pair(left + re_text(before[0]) + right, left + re_text(after[0]) + right)]
    if before[1:-1] == after[1:-1] and (len(variables) == 1 or not any(v.gap for v in variables[:-1])):
        return _in_one_group(variables, before, after, left, right)
    return _run_by_run(variables, before, after, left, right)


def _in_one_group(
    variables: list[Variable], before: list[str], after: list[str], left: str, right: str
) -> list[Pair] | None:
    inner = "|".join(_alternatives(variables, before[1:-1]))
    if not inner:
        return None
    seam = AFTER_SEGMENT if variables[-1].gap else ""
    source = f"{left}{re_text(before[0])}({inner}){seam}{re_text(before[-1])}{right}"
    return [Pair(source, f"{left}{re_text(after[0])}\\1{seam}{re_text(after[-1])}{right}")]


def _alternatives(variables: Sequence[Variable], runs: Sequence[str], ends: Sequence[str] = ("",)) -> list[str]:
    """All that variables may hold together, with the texts that follow each and one of the ends; none if too much."""
    ways = list(product(*(v.regex.split("|") if v.options else (v.regex,) for v in variables), ends))
    texts = [*map(re_text, runs), ""][: len(variables)]
    return (
        ["".join(map("".join, zip(way, [*texts, ""], strict=True))) for way in ways]
        if len(ways) <= _MOST_OPTIONS
        else []
    )


def _run_by_run(
    variables: list[Variable], before: list[str], after: list[str], left: str, right: str
) -> list[Pair] | None:
    """A rule for each text that changes, those in front of it changed already; all behind it is looked ahead at."""
    # no group may stand in a lookahead: where something varies in it, whole alternatives do, ends included
    ends, pairs = _ENDS.get(right, (right,)), list[Pair]()
    for at, (old, new) in enumerate(zip(before, after, strict=True)):
        if old == new:
            continue
        heads = [re_text(after[0]) + way for way in _alternatives(variables[:at], after[1:at])] if at else []
        varies = any(v.options for v in variables[at:])
        rests = _alternatives(variables[at:], before[at + 1 :], ends if varies else (right,))
        if not rests or bool(heads) != bool(at):
            return None
        ahead = f"(?={'|'.join(rests)})" if at < len(variables) else right
        seam = AFTER_SEGMENT if at and variables[at - 1].gap else ""
        group, again = (f"({'|'.join(heads)})", r"\1") if at else ("", "")
        pairs.append(Pair(f"{left}{group}{seam}{re_text(old)}{ahead}", f"{left}{again}{seam}{re_text(new)}{ahead}"))
    return pairs


def _runs(parts: Sequence[Part]) -> tuple[list[Variable], list[str]]:
    """The variables, and the text before, between and after them."""
    variables, runs = list[Variable](), [""]
    for part in parts:
        if isinstance(part, Variable):
            variables.append(part)
            runs.append("")
        else:
            runs[-1] += part
    return variables, runs


def re_text(text: str) -> str:
    r"""Text for a pattern: only what a regular expression would read otherwise is escaped.

    >>> re_text("a.b-c_0")
    'a\\.b-c_0'
    """
    return re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", text)


# -- no patterns: names as they are ------------------------------------------------------------------------------------

MOST_RULES = 64


def one_by_one(stage: Stage) -> Iterator[tuple[Call, ...]]:
    """A rule for each different run of segments that changes, with more and more of what stands in front of it."""
    deepest = max((old.count(".") for old, _ in stage.changed), default=0)
    for following, kept in product((0, 1), range(deepest + 1)):
        runs = dict.fromkeys(_literal_run(old, new, kept, following) for old, new in stage.changed)
        ordered = _in_order([(old, new) for old, new, _ in runs])
        if ordered is None or len(runs) > MOST_RULES:
            continue
        starts = {(old, new): start for old, new, start in runs}
        for left, right in ((AFTER_DOT, BEFORE_DOT), (AFTER_DOT, ""), (AFTER_SEGMENT, BEFORE_SEGMENT)):
            sides = ([(START if starts[pair] else left, re_text(side), right) for side in pair] for pair in ordered)
            yield tuple(renaming("".join(old), "".join(new)) for old, new in sides)


def _literal_run(old: str, new: str, kept: int, following: int) -> tuple[str, str, bool]:
    """What differs between two names, with so many segments before and after, and whether it begins at the start."""
    left, right = old.split("."), new.split(".")
    head = shared_head(left, right)
    tail = min(shared_head(left[::-1], right[::-1]), len(left) - head - 1, len(right) - head - 1) - following
    begin = max(0, head - kept)
    stop = [len(side) - max(tail, 0) for side in (left, right)]
    return ".".join(left[begin : stop[0]]), ".".join(right[begin : stop[1]]), begin == 0


def shared_head(*sequences: Sequence[object]) -> int:
    """How many items all sequences begin with alike."""
    return sum(1 for _ in takewhile(lambda items: len(set(items)) == 1, zip(*sequences, strict=False)))


def _in_order(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]] | None:
    """An order in which no rule takes up what an earlier one made; None where there is none, as in a swap."""
    waiting, ordered = list(pairs), list[tuple[str, str]]()
    while waiting:
        sources = {old for old, _ in waiting}
        free = [pair for pair in waiting if pair[1] not in sources]
        if not free:
            return None
        ordered += free
        waiting = [pair for pair in waiting if pair not in free]
    return ordered
