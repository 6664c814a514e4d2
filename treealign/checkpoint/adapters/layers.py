"""`layers_pattern`: the level whose index PEFT compares with `layers_to_transform`."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from treealign.checkpoint.adapters.expressions import matches_of
from treealign.checkpoint.adapters.modules import Moved

_FIRST = r".*?\.[^.]*\.(?P<idx>\d+)\."  # without a pattern, the first numbered level


def layers_pattern(pattern: Any, moved: Moved) -> Any:
    """The setting for the new names; None where the layers have other numbers there.

    >>> layers_pattern("h", Moved({"model.h.3.q": ("model.layers.3.q",)}))
    'layers'
    """
    given = [pattern] if isinstance(pattern, str) else list(pattern or [])
    pairs = [(old, new) for old, names in moved.pairs.items() for new in names]
    if _agree(given, given, pairs):
        return pattern or []
    levels = dict.fromkeys(level for old, new in pairs for level in _levels(_index(given, old), new))
    for level in levels:
        if _agree(given, [level], pairs):
            return level if isinstance(pattern, str) else [level]
    every = list(levels)
    return every if every and _agree(given, every, pairs) else None


def _agree(before: list[str], after: list[str], pairs: list[tuple[str, str]]) -> bool:
    return all(_index(before, old) == _index(after, new) for old, new in pairs)


def _index(patterns: list[str], name: str) -> str | None:
    """The index that PEFT reads from a module's name."""
    for expression in [rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\." for pattern in patterns] or [_FIRST]:
        try:
            (found,) = matches_of(expression, [name], "match")
        except re.error:
            return None
        if found is not None:
            return found["idx"]
    return None


def _levels(index: str | None, name: str) -> list[str]:
    """The segments in front of that index in a new name."""
    segments = name.split(".")
    return [before for before, at in pairwise(segments) if at == index]
