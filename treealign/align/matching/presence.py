"""Numbered siblings of which some blocks lack one: `bn1, bn2, bn3` here, `bn1, bn2` there.

A number in a name is a place among those that are present. Where the last of three is absent, the second of two need
not be the second of three: a block without expansion calls its projection `bn2`. So the repeats of such siblings are
parted by which of them are present, and each part is matched for itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from treealign.align.patterns import Indices, Pattern, part

_NUMBERED = re.compile(r"(?<=[A-Za-z_])[0-9]+$", re.ASCII)


def part_by_presence(patterns: Sequence[Pattern]) -> list[Pattern]:
    """The patterns, those of numbered siblings parted where not all of these are present in all repeats.

    Linear in the number of cells.
    """
    series: dict[Any, dict[str, list[Pattern]]] = defaultdict(lambda: defaultdict(list))
    for p in patterns:
        hit = _NUMBERED.search(p.segments[-2]) if p.captures and len(p.segments) > 1 else None
        if hit:
            series[p.segments[:-2], p.segments[-2][: hit.start()]][hit.group()].append(p)
    parts: dict[Pattern, list[Pattern]] = {}
    for members in series.values():
        if len(members) > 1:
            parts.update(_parted(members))
    return [one for p in patterns for one in parts.get(p, [p])]


def _parted(members: dict[str, list[Pattern]]) -> dict[Pattern, list[Pattern]]:
    """For each pattern of a series its parts; nothing where all members are present everywhere."""
    present: dict[Indices, set[str]] = defaultdict(set)
    for number, group in members.items():
        for p in group:
            for cell in p.cells:
                present[cell].add(number)
    kinds: dict[frozenset[str], set[Indices]] = defaultdict(set)
    for cell, numbers in present.items():
        kinds[frozenset(numbers)].add(cell)
    if len(kinds) == 1 or len({len(cell) for cell in present}) > 1:
        return {}
    ordered = sorted(kinds.values(), key=min)
    return {
        p: [part(p, (k for k in p.cells if k in cells)) for cells in ordered if not cells.isdisjoint(p.cells)]
        for g in members.values()
        for p in g
    }
