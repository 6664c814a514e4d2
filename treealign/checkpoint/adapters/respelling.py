"""Spellings that find the same modules under their new names, each checked before it is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile

from treealign.checkpoint.adapters.expressions import matching
from treealign.checkpoint.adapters.modules import Moved

_DOTS = (r"\.", ".", r"[.]")


def shorter_names(
    entry: str, held: Sequence[str], wanted: frozenset[str], there: Sequence[str], matches: Callable[[str, str], bool]
) -> Iterator[str]:
    """The ends of the wanted names that find just these: as short as the entry was, else as short as can be."""
    length = entry.count(".") + 1
    whole = any(entry == name for name in held)
    longest = max(name.count(".") + 1 for name in wanted)
    for count in range(longest if whole else length, longest + 1):
        ends = dict.fromkeys(".".join(name.split(".")[-count:]) for name in sorted(wanted))
        if all(wanted.issuperset(name for name in there if matches(end, name)) for end in ends):
            yield from ends
            return
    yield from sorted(wanted)


def respelled_expression(text: str, held: Iterable[str], moved: Moved) -> str | None:
    """The expression for the new names: what changed in the names, changed in its text; None where that does not do."""
    names = list(held)
    wanted = moved.wanted(names)
    for candidate in (text, *_candidates(text, names, moved)):
        try:
            found = frozenset(matching(candidate, list(moved.new)))
        except re.error:
            continue
        if found == wanted:
            return candidate
    return None


def _candidates(text: str, names: Sequence[str], moved: Moved) -> Iterator[str]:
    """Every change by itself, then all of them one after the other."""
    edits = list(dict.fromkeys(_edit(old, new) for old in names for new in moved.pairs[old] if old != new))
    for dot in _DOTS:
        for edit in edits:
            yield from _edited(text, edit, dot)
        made = text
        for edit in edits:
            made = next((one for one in _edited(made, edit, dot) if one != made), made)
        yield made


_Edit = tuple[str, tuple[str, ...], tuple[str, ...], str]


def _edit(old: str, new: str) -> _Edit:
    """What stands before, what was replaced by what, and what stands behind."""
    one, other = old.split("."), new.split(".")
    head = _common(one, other)
    tail = min(_common(one[::-1], other[::-1]), len(one) - head, len(other) - head)
    before = one[head - 1] if head else ""
    return (
        before,
        tuple(one[head : len(one) - tail]),
        tuple(other[head : len(other) - tail]),
        one[-tail] if tail else "",
    )


def _edited(text: str, edit: _Edit, dot: str) -> Iterator[str]:
    """The text with the run replaced, the longest surroundings first, so that little else is hit."""
    before, gone, come, behind = edit
    for front in dict.fromkeys([before, ""]):
        for back in dict.fromkeys([behind, ""]):
            old, new = _run(front, gone, back, dot), _run(front, come, back, dot)
            if old and re.search(rf"(?<!\w){re.escape(old)}(?!\w)", text):
                yield re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", new.replace("\\", r"\\"), text)
    run = _run("", gone, "", dot)
    if gone and not come:
        yield text.replace(run + dot, "")
        yield text.replace(dot + run, "")
    if come and not gone and not before:
        yield _run("", come, "", dot) + dot + text


def _run(front: str, middle: Iterable[str], back: str, dot: str) -> str:
    return dot.join(map(re.escape, filter(None, (front, *middle, back))))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
