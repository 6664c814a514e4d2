"""Where a leaf stands, whatever the number of its repeat: its block, and the modules around it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from treealign.align.patterns import Pattern

BESIDE = ""  # no segment: the modules beside a module themselves, before all that is below them
_DIGITS = re.compile(r"[0-9]+")
Path = tuple[str, ...]


def block_of(p: Pattern) -> Path:
    """The repeat in which it stands, its indices counting for nothing; the root where it stands in none."""
    path = levels(p)
    return path[: max((at for at, segment in enumerate(path) if "{}" in segment), default=-1) + 1]


def levels(p: Pattern) -> Path:
    """Its path, indices counting for nothing, be they glued to the name of their list (`layer_0`)."""
    return (*(_DIGITS.sub("{}", s) for s in p.segments[:-2]), *plain(p.segments[-2:]))


def plain(path: Path) -> Path:
    """A path whose indices count for nothing: what stands in one repeat stands in all."""
    return tuple("{}" if s.isdecimal() else s for s in path)


def modules_around(p: Pattern) -> Iterator[Path]:
    """The modules beside it, and the modules that hold it, the nearest first."""
    path = levels(p)
    yield (*path[:-2], BESIDE)
    yield from (path[:depth] for depth in range(len(path) - 1, -1, -1))
