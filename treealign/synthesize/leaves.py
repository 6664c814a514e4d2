"""Names that differ by their last segment alone, `norm.weight` and `norm.bias`, looked at as one.

What stands behind all that changes is context to rules and nothing else. So the leaves of a module, of which there are
up to five, are one name whose last segment is all of theirs: a pattern matches it, or not, or in part.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import TypeAlias

from treealign.synthesize.lattice import Lattice, kept_ends
from treealign.synthesize.templates import Template, Values
from treealign.tree.grammar import is_literal
from treealign.tree.segments import Leaves, Name, Segment, cut

Valued: TypeAlias = tuple[Name, Values]


def join_templates(templates: Sequence[Template], known: Iterable[tuple[Template, Lattice]]) -> tuple[Template, ...]:
    """Templates that change alike, in front of leaves that are called alike on both sides, as one.

    Its samples are those of the first. Words that change somewhere, in these templates or those `known`, stay apart:
    a rule about them has to tell them from others.
    """
    kept = [kept_ends(t.source, t.target) for t in templates]
    changing = set(chain.from_iterable(_changing(*way) for way in known))
    for t, (head, tail) in zip(templates, kept, strict=True):
        changing.update(t.source[head : len(t.source) - tail], t.target[head : len(t.target) - tail])
    groups: dict[Hashable, list[Template]] = {}
    for n, (t, (_, tail)) in enumerate(zip(templates, kept, strict=True)):
        behind = tail > 0 and _is_plain(t.source[-1]) and t.source[-1] not in changing
        groups.setdefault((t.source[:-1], t.target[:-1], t.values) if behind else n, []).append(t)
    return tuple(_joined(group) if len(group) > 1 else group[0] for group in groups.values())


def _changing(t: Template, lat: Lattice) -> Name:
    (i, j), (i2, j2) = lat.start, lat.goal
    return *t.source[i:i2], *t.target[j:j2]


def _joined(group: Sequence[Template]) -> Template:
    first, words = group[0], Leaves(str(t.source[-1]) for t in group)
    return replace(first, source=(*first.source[:-1], words), target=(*first.target[:-1], words))


def join_names(names: Iterable[Valued]) -> tuple[Valued, ...]:
    """Names that differ by their last segment alone, as one."""
    groups: dict[Hashable, list[Valued]] = {}
    for n, (name, values) in enumerate(names):
        groups.setdefault((name[:-1], values) if _is_plain(name[-1]) else n, []).append((name, values))
    return tuple(
        ((*group[0][0][:-1], Leaves(str(name[-1]) for name, _ in group)), group[0][1]) if len(group) > 1 else group[0]
        for group in groups.values()
    )


def _is_plain(segment: Segment) -> bool:
    """Whether it is a word without a number that can stand in a pattern."""
    return isinstance(segment, str) and is_literal(segment) and len(cut(segment)) == 1
