"""Quantised weights: scales and zeros go where their weight goes, and codes without their scales are no weight.

Pieces of a quantised weight are told by their names (the vocabulary's `quantised`), and only pieces of one kind are
ever compared. What is left to say here is what names and shapes do not show: that a match of two weights is no match of
their numbers where one side holds codes and the other has no scales, and that pieces are as certain as their weight.
"""

from __future__ import annotations

from collections.abc import Iterable

from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.state import State, Trees
from treealign.align.verdict import Alternatives, alone
from treealign.align.words import quantised_piece, weight_beside
from treealign.tree.keytree import KeyTree

UNSCALED = Reason(
    "belongs", "quantised on one side: its numbers are codes, and the other side has no scales to read them with"
)
CODES = ("float8", "float4", "int", "uint")
Path = tuple[str, ...]


def judge_scales(state: State) -> Alternatives:
    """Weights whose scales only one side has."""
    scaled = tuple({_weight(p) for p in side if p.nature[0]} for side in state.patterns)
    if not any(scaled):
        return {}
    plain = (link for link in state.links if link.certain and not any(p.nature[0] for p in link.left))
    return {link: alone(link, UNSCALED) for link in plain if _lacks_scales(link, state.given, (scaled[0], scaled[1]))}


def judge_pieces(state: State) -> Alternatives:
    """Pieces of weights that are open: each for the reason for which its weight is."""
    if not any(p.nature[0] for side in state.patterns for p in side):
        return {}
    reasons = {_weight(p): link.reason for link in state.links if not link.certain for p in link.left}
    found = {}
    for link in state.links:
        weight = next((w for p in link.left if p.nature[0] and (w := _weight(p)) in reasons), None)
        if weight is not None:
            found[link] = alone(link, reasons[weight])
    return found


def _lacks_scales(link: Link, trees: Trees, scaled: tuple[set[Path], set[Path]]) -> bool:
    """Whether the one side holds codes, and only that has scales to read them with."""
    ends = link.left, link.right
    has = [any(_weight(p) in known for p in end) for end, known in zip(ends, scaled, strict=True)]
    return has[0] != has[1] and _codes(ends[has[1]], trees[has[1]])


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
