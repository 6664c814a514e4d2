"""Links between other patterns than before: what can stand in whose place, and what the link is then."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from rapidfuzz.fuzz import ratio

from treealign.align.converting.rearrangements import layout_changes
from treealign.align.links import Group, Link
from treealign.align.paths import PARAMETERS, module_path
from treealign.align.patterns import Pattern, as_numbers
from treealign.align.words import split_words
from treealign.mapping.operations import Operation


def same_parameter(p: Pattern, q: Pattern) -> bool:
    """Whether both are the same parameter of a module, or have names of their own."""
    return p.segments[-1] == q.segments[-1] or not {p.segments[-1], q.segments[-1]} <= PARAMETERS


def alike(p: Pattern, q: Pattern) -> bool:
    """Whether two patterns of one side have the same shapes at the same indices, or at the same ranks of index."""
    return p.signature == q.signature or p.ranked == q.ranked


def exchangeable(link: Link, other: Link) -> bool:
    """Whether each of two links could have the other's key: what a place does, it does to any key like its own."""
    if alike(link.left[0], other.left[0]):
        return True
    return bool(reach(other.left[0], link.right[0]) and reach(link.left[0], other.right[0]))


def called_alike(link: Link, other: Link) -> bool:
    """Whether two links join the same two modules, and one leads to a module of its own name: `to_q` to `to_q`.

    Whether the modules around them correspond may be open; which is which in them is not.
    """
    ends = [[without_place(module_path(p)) for p in (x.left[0], x.right[0])] for x in (link, other)]
    if any(len(path) < len(("holder", "own")) for both in ends for path in both):
        return False
    (a, b), (c, d) = ends
    return (
        a[:-1] == c[:-1]
        and b[:-1] == d[:-1]
        and a[-1] != c[-1]
        and b[-1] != d[-1]
        and (a[-1] == b[-1] or c[-1] == d[-1])
    )


def without_place(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path without its last number: the one member of a list that a module is, `to_out.0`."""
    return path[:-1] if path and not any(map(str.isalpha, path[-1])) else path


def reach(left: Pattern, right: Pattern) -> tuple[Operation, ...] | Literal[True] | None:
    """What makes one the other: nothing (True), another order or number of dimensions; None where shapes forbid it."""
    if alike(left, right):
        return True
    ways = list(layout_changes(left, right))
    return ways[0] if len(ways) == 1 else None


def moved(link: Link, source: Pattern | None = None, target: Pattern | None = None) -> Link:
    """A link from another pattern of the checkpoint, or to another of the model, that reach one another."""
    left, right = source or link.left[0], target or link.right[0]
    operations = link.operations
    change = reach(left, right)
    if change != reach(link.left[0], link.right[0]):
        operations = change if isinstance(change, tuple) else ()
    made = replace(link, left=(left,), right=(right,), operations=operations, groups=())
    if link.groups:
        here, there = _across(link.left[0], left), _across(link.right[0], right)
        kept = [g for g in link.groups if here.keys() >= set(g.left) and there.keys() >= set(g.right)]
        both = ((tuple(here[i] for i in g.left), tuple(there[j] for j in g.right)) for g in kept)
        return replace(made, groups=tuple(Group(*sides) for sides in both))
    return replace(made, groups=tuple(made.expand())) if operations else made


def _across(old: Pattern, new: Pattern) -> dict[int, int]:
    """Each leaf of a pattern to that of another at the same index, or at the same rank of index as far as both go."""
    if old.cells.keys() == new.cells.keys():
        return {at: new.cells[key] for key, at in old.cells.items()}
    ranked = ([p.cells[k] for k in sorted(p.cells, key=as_numbers)] for p in (old, new))
    return dict(zip(*ranked, strict=False))


def numbers_in(p: Pattern) -> list[str]:
    """The numbers in a path."""
    return re.findall(r"[0-9]+", p.template)


def names_in_common(p: Pattern, q: Pattern) -> tuple[float, float]:
    """How much the names of two sides have in common: words, each in its one spelling, then letters."""
    a, b = ({word for segment in side.segments for word in split_words(segment)} for side in (p, q))
    return len(a & b) / len(a | b), ratio(p.template, q.template)
