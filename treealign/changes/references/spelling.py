"""Candidates for the spelling of a text in the new tree; whoever takes one checks what it means there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import NamedTuple

from treealign.changes.references.mentions import HOLE
from treealign.changes.references.readers import compiled
from treealign.changes.translation import Translation

_SAMPLES = 5  # names to take candidates from: the candidates are checked against all of them
_PATTERN_SAMPLES = 200


class Edit(NamedTuple):
    """Segments that became others, with the segment before and behind them that stayed, where there is one."""

    before: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    behind: str


def respelled_text(text: str, reader: str, matched: Sequence[str], translation: Translation) -> Iterator[str]:
    """Spellings of a plain text: as many segments of the new names as it takes, the fewest first."""
    core = text.strip(".")
    left, right = text[: len(text) - len(text.lstrip("."))], text[len(text.rstrip(".")) :]
    segments = core.split(".")
    seen: set[str] = set()
    for name in islice(_spread(matched), _SAMPLES):
        for spelled in _from_name(segments, reader, name, translation):
            if spelled not in seen:
                seen.add(spelled)
                yield left + spelled + right


def _spread(names: Sequence[str]) -> Iterator[str]:
    """The first, the last, and some between."""
    step = max(1, len(names) // (_SAMPLES - 1))
    yield from names[:1]
    yield from names[-1:]
    yield from names[step:-1:step]


def _from_name(segments: list[str], reader: str, name: str, translation: Translation) -> Iterator[str]:
    parts = name.split(".")
    start = _position(segments, reader, parts)
    if start is None:
        return
    stop = start + len(segments)
    run = parts[start:stop]
    for whole in translation.of(".".join(parts[:stop])):
        above = translation.of(".".join(parts[:start])) if start else ("",)
        there = whole.split(".")
        shortest = max(1, _below(there, above[0].split(".") if above and above[0] else []))
        lengths = list(range(shortest, len(there) + 1))
        if there[len(there) - shortest] != run[0] and len(run) in lengths:
            # the level that the text began with is gone: the one above it takes its place
            lengths.insert(0, len(run))
        for length in lengths:
            yield _with_holes(segments, run, there[len(there) - length :])


def _position(segments: list[str], reader: str, parts: list[str]) -> int | None:
    """Where in a name the text stands, in whole segments."""
    last = len(parts) - len(segments)
    anchored = reader in ("exact", "path", "startswith", "layer")
    at_end = reader in ("suffix", "key suffix", "endswith", "module end")
    places = [0] if anchored else [last] if at_end else range(max(0, last) + 1)
    return next((at for at in places if 0 <= at <= last and _fits(segments, parts[at : at + len(segments)])), None)


def _fits(segments: list[str], run: list[str]) -> bool:
    return all(_stands_for(a, b) for a, b in zip(segments, run, strict=True))


def _stands_for(segment: str, other: str) -> bool:
    if HOLE in segment:
        pattern = compiled(segment, "exact")
        return pattern is not None and pattern.search(other) is not None
    return segment in (other, "*")


def _below(there: list[str], above: list[str]) -> int:
    """How many segments stand below the module `above`; all, where the name does not stand below it."""
    return len(there) - len(above) if there[: len(above)] == above else len(there)


def _with_holes(segments: list[str], run: list[str], there: list[str]) -> str:
    """The new segments, with the text's own spelling of those that stayed: holes stay holes."""
    tail = _common(run[::-1], there[::-1])
    head = min(_common(run, there), len(run) - tail, len(there) - tail)
    kept_tail = segments[len(segments) - tail :] if tail else []
    return ".".join([*segments[:head], *there[head : len(there) - tail], *kept_tail])


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def respelled_pattern(text: str, matched: Sequence[str], translation: Translation) -> Iterator[str]:
    """Spellings of a pattern: what changed in the names, changed in its text, dots as they are written there."""
    for edit in _edits(matched, translation):
        for dot in (r"\.", ".", r"[.]"):
            for old, new in _pieces(edit, dot):
                if old in text:
                    yield text.replace(old, new)


def _edits(matched: Sequence[str], translation: Translation) -> list[Edit]:
    found: dict[Edit, None] = {}
    for name in islice(matched, _PATTERN_SAMPLES):
        for other in translation.of(name):
            old, new = name.split("."), other.split(".")
            head = _common(old, new)
            tail = min(_common(old[::-1], new[::-1]), len(old) - head, len(new) - head)
            before = old[head - 1] if head else ""
            behind = old[len(old) - tail] if tail else ""
            edit = Edit(before, tuple(old[head : len(old) - tail]), tuple(new[head : len(new) - tail]), behind)
            found.setdefault(edit)
    return [edit for edit in found if edit.old or edit.new]


def _pieces(edit: Edit, dot: str) -> Iterator[tuple[str, str]]:
    """What to look for and what to put there; the longest first, so that little else is hit."""
    old, new = dot.join(map(re.escape, edit.old)), dot.join(map(re.escape, edit.new))
    for before in dict.fromkeys([edit.before, ""]):
        for behind in dict.fromkeys([edit.behind, ""]):
            if old or (before and behind) or before:
                ends = [re.escape(end) for end in (before, behind)]
                yield _joined(ends[0], old, ends[1], dot), _joined(ends[0], new, ends[1], dot)
    if not old and not edit.before and edit.behind:
        yield re.escape(edit.behind), _joined("", new, re.escape(edit.behind), dot)
    if old and not new:
        yield f"{old}{dot}", ""
        yield f"{dot}{old}", ""
        if edit.before:
            yield old, re.escape(edit.before)


def _joined(before: str, middle: str, behind: str, dot: str) -> str:
    return dot.join(filter(None, (before, middle, behind)))
