"""What an alignment consists of: links between patterns, and how they expand to keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from treealign.align.patterns import Indices, Pattern, part
from treealign.align.reasons import ASPECTS, WHOSE, About, Reason, about, as_reason
from treealign.mapping.operations import Split, Unstack, invert
from treealign.tree.keytree import KeyTree


@dataclass(frozen=True, slots=True)
class Match:
    """Leaves of the checkpoint that correspond to leaves of the model.

    Attributes
    ----------
    checkpoint, model : tuple of str
        Keys of either side; in the order in which the operations take and give them.
    operations : tuple of Operation
        What happens to the tensors; empty for a plain rename.
    certain : bool
        Whether qualified evidence separates the match from every alternative.
    evidence : tuple of str
        What speaks for it.
    """

    checkpoint: tuple[str, ...]
    model: tuple[str, ...]
    operations: tuple[Any, ...] = ()
    certain: bool = True
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ambiguity:
    """Keys that evidence does not tell apart; the truth is among them.

    Attributes
    ----------
    checkpoint, model : tuple of str
        All keys in question, of every repeat.
    settled_by : str
        What would settle it.
    """

    checkpoint: tuple[str, ...]
    model: tuple[str, ...]
    settled_by: str


class Group(NamedTuple):
    """One match before it is given its certainty: positions of leaves on both sides, in the operations' order."""

    left: tuple[int, ...]
    right: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Link:
    """Patterns of the two sides that correspond.

    Attributes
    ----------
    left, right : tuple of Pattern
        One each for a rename; for a conversion the parts, in the order in which the operations take and give them.
    operations : tuple of Operation
        Empty for a rename.
    groups : tuple of Group
        The concrete groups of a conversion; empty for a rename, whose groups follow from the cells.
    certain : bool
        As in `Match`.
    reason : str
        Why it is not certain, or empty.
    evidence : tuple of str
        As in `Match`.
    rivals : tuple of two tuples of Pattern
        Patterns of either side that nothing separates from these.
    near : tuple of two tuples of Pattern
        Those of them with which it could be exchanged directly, without a third.
    beneath : tuple of Reason
        What else is open about it, be the first reason settled.
    answered : tuple of str
        What is settled by an answer; see `treealign.align.reasons.ASPECTS`.
    placed : bool
        Its place in lists that run alike tells it from every other; see `treealign.align.matching.places`.
    """

    left: tuple[Pattern, ...]
    right: tuple[Pattern, ...]
    operations: tuple[Any, ...] = ()
    groups: tuple[Group, ...] = ()
    certain: bool = True
    reason: str = ""
    evidence: tuple[str, ...] = ()
    rivals: tuple[tuple[Pattern, ...], tuple[Pattern, ...]] = ((), ())
    near: tuple[tuple[Pattern, ...], tuple[Pattern, ...]] = ((), ())
    beneath: tuple[Reason, ...] = ()
    answered: tuple[About, ...] = ()
    placed: bool = False

    def __hash__(self) -> int:
        """By the number of its first pattern, which is the same in every process; equal is only the same link."""
        return self.left[0].number

    @property
    def open(self) -> dict[About, Reason]:
        """What is open about it, each with the first reason for it, in the order in which to ask."""
        if self.certain:
            return {}
        found: dict[About, Reason] = {}
        for reason in (self.reason, *self.beneath) if self.reason else self.beneath:
            found.setdefault(about(reason), as_reason(reason))
        return {aspect: found[aspect] for aspect in ASPECTS if aspect in found and aspect not in self.answered}

    @property
    def is_told(self) -> bool:
        """Whether it is known whose it is; how its rows and axes stand may be open."""
        return WHOSE.isdisjoint(self.open)

    def expand(self) -> Iterator[Group]:
        """The groups of leaf positions, in the order of the left cells."""
        if self.groups:
            yield from self.groups
            return
        for i, j in paired_cells(self.left[0], self.right[0]):
            yield Group((i,), (j,))


def paired_cells(left: Pattern, right: Pattern) -> Iterator[tuple[int, int]]:
    """Leaf positions of equal cells of two comparable patterns: by index, or by rank of index where those differ."""
    if left.shapes.keys() == right.shapes.keys():
        for key, at in left.cells.items():
            yield at, right.cells[key]
        return
    there = {rank: right.cells[key] for key, rank in _rank_of(right)}
    for key, rank in _rank_of(left):
        yield left.cells[key], there[rank]


def _rank_of(p: Pattern) -> Iterator[tuple[Indices, tuple[int, ...]]]:
    columns = [{v: n for n, v in enumerate(sorted(set(c), key=int))} for c in zip(*p.cells, strict=True)]
    for key in p.cells:
        yield key, tuple(c[v] for c, v in zip(columns, key, strict=True))


def keys_of(tree: KeyTree, patterns: Sequence[Pattern]) -> tuple[str, ...]:
    """The keys of all cells, in the order of the tree."""
    keys = tree.keys
    return tuple(keys[at] for at in sorted({at for p in patterns for at in p.cells.values()}))


def parted(patterns: Sequence[Pattern], linked: Sequence[tuple[Pattern, ...]]) -> list[Pattern]:
    """The patterns of one side as the links have them, and of each what none of these has."""
    used = dict.fromkeys(p for members in linked for p in members)
    own = set(patterns)
    parts = [p for p in used if p not in own]
    taken = {at for p in parts for at in p.cells.values()}
    rest = [
        p if p in used or taken.isdisjoint(p.cells.values()) else part_of(p, set(p.cells.values()) - taken)
        for p in patterns
    ]
    return [*(p for p in rest if p.cells), *parts]


def part_of(p: Pattern, leaves: set[int]) -> Pattern:
    """A pattern of some of its leaves only, by position; one without cells where it has none of them."""
    keys = [k for k, at in p.cells.items() if at in leaves]
    return part(p, keys) if keys else Pattern(p.segments, {}, {}, p.whole, p.library)


def piece_of(link: Link, groups: Sequence[Group]) -> Link:
    """A link of some of its groups only."""
    left, right = (
        tuple(part_of(p, {at for group in groups for at in group[n]}) for p in patterns)
        for n, patterns in enumerate((link.left, link.right))
    )
    made = replace(link, left=left, right=right, groups=tuple(groups) if link.groups else ())
    return made if link.groups or _is_same(made, groups) else replace(made, groups=tuple(groups))


def _is_same(link: Link, groups: Sequence[Group]) -> bool:
    keys = [p.shapes.keys() for p in (link.left[0], link.right[0])]
    return keys[0] == keys[1] and set(link.expand()) == set(groups)


def swapped(link: Link) -> Link:
    """The same match from the model to the checkpoint."""
    groups = tuple(Group(g.right, g.left) for g in link.groups)
    return replace(
        link,
        left=link.right,
        right=link.left,
        operations=invert(link.operations),
        groups=groups,
        rivals=link.rivals[::-1],
    )


def joining(link: Link) -> Link:
    """The link as one that joins parts; a split is turned around."""
    cuts = len(link.right) > 1 or any(isinstance(o, Split | Unstack) for o in link.operations)
    return swapped(link) if cuts and len(link.left) == 1 else link


def rejoined(link: Link, joined: Link) -> Link:
    """What was made of `joining(link)`, the way round in which the link was."""
    return joined if joining(link) is link else swapped(joined)
