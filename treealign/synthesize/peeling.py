"""Levels that all names of the checkpoint begin with, and those that stand there in the model."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

from treealign.synthesize.lattice import Edit
from treealign.tree.segments import Name


def first_edit(sides: Iterable[tuple[Name, Name]]) -> Edit | None:
    """The edit that gives all names their other beginning; None where they do not begin alike, or keep it."""
    names = list(sides)
    if not names:
        return None
    old, new = _common_start(a for a, _ in names), _common_start(b for _, b in names)
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return Edit(0, len(old), 0, len(new)) if old and old != new else None


def _common_start(names: Iterable[Name]) -> Name:
    """The plain segments that all names begin with; the last segment of a name is none of them."""
    found: Name | None = None
    for name in names:
        same = len(name) - 1 if found is None else min(len(found), len(name) - 1)
        while found is not None and found[:same] != name[:same]:
            same -= 1
        found = name[:same]
    return tuple(takewhile(lambda s: isinstance(s, str), found or ()))
