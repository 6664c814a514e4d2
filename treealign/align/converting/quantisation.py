"""Quantised weights: scales and zeros go where their weight goes, and codes without their scales are no weight.

Pieces of a quantised weight are told by their names (the vocabulary's `quantised`), and only pieces of one kind are
ever compared. What is left to say here is what names and shapes do not show: that a match of two weights is no match of
their numbers where one side holds codes and the other has no scales, and that pieces are as certain as their weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.words import quantised_piece, weight_beside
from treealign.tree.keytree import KeyTree

UNSCALED = Reason(
    "belongs", "quantised on one side: its numbers are codes, and the other side has no scales to read them with"
)
CODES = ("float8", "float4", "int", "uint")
Path = tuple[str, ...]


def with_weights(
    links: Sequence[Link], trees: tuple[KeyTree, KeyTree], sides: tuple[Sequence[Pattern], Sequence[Pattern]]
) -> list[Link]:
    """The links; weights whose scales only one side has are doubted, and so are pieces of doubted weights."""
    scaled = tuple({_weight(p) for p in side if p.nature[0]} for side in sides)
    if not any(scaled):
        return list(links)
    checked = [_checked(link, trees, (scaled[0], scaled[1])) for link in links]
    doubted = {_weight(p): link for link in checked if not link.certain for p in link.left}
    return [_following(link, doubted) for link in checked]


def _checked(link: Link, trees: tuple[KeyTree, KeyTree], scaled: tuple[set[Path], set[Path]]) -> Link:
    if not link.certain or any(p.nature[0] for p in link.left):
        return link
    ends = link.left, link.right
    has = [any(_weight(p) in known for p in end) for end, known in zip(ends, scaled, strict=True)]
    if has[0] == has[1] or not _codes(ends[has[1]], trees[has[1]]):
        return link
    return replace(link, certain=False, reason=UNSCALED, rivals=ends)


def _following(link: Link, doubted: dict[Path, Link]) -> Link:
    """A piece is doubted for the reason for which its weight is."""
    weight = next((doubted[w] for p in link.left if p.nature[0] and (w := _weight(p)) in doubted), None)
    if weight is None or not link.certain:
        return link
    return replace(link, certain=False, reason=weight.reason, rivals=(link.left, link.right))


def _codes(patterns: Iterable[Pattern], tree: KeyTree) -> bool:
    dtypes = {tree.leaves[at].dtype for p in patterns for at in p.cells.values()}
    return any(dtype is not None and dtype.startswith(CODES) for dtype in dtypes)


def _weight(p: Pattern) -> Path:
    """The path of the weight that a piece belongs to, or the pattern's own, however far it is unfolded."""
    path = ["{}" if s.isdigit() else s for s in p.segments]
    at = next((n for n, s in enumerate(path) if quantised_piece(s)), None)
    if at is None:
        return tuple(path)
    return tuple(path[:at]) if path[at - 1 : at] == ["weight"] else (*path[:at], weight_beside(path[at]))
