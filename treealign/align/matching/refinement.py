"""Unfold patterns as far as the two sides disagree.

Where a pattern has no comparable partner and its pieces have, it is split: a Sequential against named children, dense
layers before layers of experts, a checkpoint with extra layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set

from treealign.align.patterns import Digest, Indices, Outline, Pattern, pieces, without_constants

MAX_ROUNDS = 8
LEAST = 3  # more than one in so many cells must find a partner, or the pieces that do are not what was folded
Apart = Counter[tuple[str, ...]]  # path of a list to how many patterns stand below single members
Splits = dict[Pattern, int]  # to the capture to unfold


def refine(left: list[Pattern], right: list[Pattern]) -> tuple[list[Pattern], list[Pattern]]:
    """Unfold patterns of either side until their pieces have comparable partners, or nothing more can be gained.

    Each round unfolds every pattern without a partner along the capture whose pieces find the most partners, first
    against what the other side has, then against pieces of the other side. Cost: the cells of unpartnered patterns,
    times their captures.
    """
    left, right = _common_parts(left, right), _common_parts(right, left)
    for _ in range(MAX_ROUNDS):
        open_left, open_right = _open(left, right), _open(right, left)
        kinds = _members_apart(left), _members_apart(right)
        split_left, split_right = _splits(open_left, open_right, kinds[0]), _splits(open_right, open_left, kinds[1])
        if not split_left and not split_right:
            split_left, split_right = _mutual_splits(open_left, open_right, kinds)
        if not split_left and not split_right:
            break
        left, right = _apply(left, split_left), _apply(right, split_right)
    return _outer_parts(left, right), _outer_parts(right, left)


def _outer_parts(side: list[Pattern], other: list[Pattern]) -> list[Pattern]:
    """Split off the repeats for which the other side has no whole: extra layers of experts that are stacked there."""
    wanted = {frozenset(p.shapes): p.captures for p in _open(other, side) if p.captures}
    there = {p.outline for p in other}
    mine = {p for p in _open(side, other) if p.outline not in there}
    found = []
    for p in side:
        parts = _outer_part(p, wanted) if p in mine and p.captures > 1 else None
        found += parts or [p]
    return found


def _outer_part(p: Pattern, wanted: dict[frozenset[Indices], int]) -> list[Pattern] | None:
    """The cells whose first captures are those of a whole, and the rest."""
    for keys, captures in sorted(wanted.items(), key=lambda item: -len(item[0])):
        if captures >= p.captures:
            continue
        inside = {k for k in p.shapes if k[:captures] in keys}
        heads = {k[:captures] for k in p.shapes}
        if keys < heads and len(heads) <= 2 * len(keys) and {k[:captures] for k in inside} == keys:
            return [_part(p, inside), without_constants(_part(p, p.shapes.keys() - inside))]
    return None


def _open(side: list[Pattern], other: list[Pattern]) -> list[Pattern]:
    """Patterns of which `side` has more than `other`: they still look for a partner.

    Exact partners first: ranks cost a pass over the cells, and most patterns never need them.
    """
    mine, theirs = Counter(p.signature for p in side), Counter(p.signature for p in other)
    lone = [p for p in side if mine[p.signature] > theirs[p.signature]]
    if not lone:
        return []
    ranked = Counter(p.ranked for p in other if theirs[p.signature] > mine[p.signature])
    counts = Counter(p.ranked for p in lone)
    return [p for p in lone if counts[p.ranked] > ranked[p.ranked] or mine[p.signature] > 1]


def _common_parts(side: list[Pattern], other: list[Pattern]) -> list[Pattern]:
    """Split off what only this side has of a repeat: a checkpoint with extra layers, a model with fewer experts.

    What has a whole partner stays whole, whichever shorter repeats of its shape the other side still has.
    """
    there = _open(other, side)
    signatures = {p.signature for p in there}
    wanted = {frozenset(p.shapes) for p in there if p.captures}
    mine = set(_open(side, other)) if wanted else set()
    found = []
    for p in side:
        parts = _common_part(p, wanted, signatures) if p in mine and p.signature not in signatures else None
        found += parts or [p]
    return found


def _common_part(p: Pattern, wanted: set[frozenset[Indices]], signatures: set[Digest]) -> list[Pattern] | None:
    for keys in sorted(wanted, key=lambda keys: (-len(keys), sorted(keys))):
        if not len(keys) < len(p.shapes) <= 2 * len(keys) or not keys <= p.shapes.keys():
            continue
        common = _part(p, keys)
        if common.signature in signatures:
            return [common, without_constants(_part(p, p.shapes.keys() - keys))]
    return None


def _part(p: Pattern, keys: Set[Indices]) -> Pattern:
    inside = [k for k in p.cells if k in keys]
    return Pattern(p.segments, {k: p.cells[k] for k in inside}, {k: p.shapes[k] for k in inside}, p.whole, p.library)


def _members_apart(side: Sequence[Pattern]) -> Apart:
    """How many patterns stand below single members of each list, whose members differ in what they hold."""
    return Counter(p.segments[:at] for p in side for at, s in enumerate(p.segments) if s.isdecimal())


def _splits(side: list[Pattern], wanted: list[Pattern], apart: Apart) -> Splits:
    outlines, ranked = {p.outline for p in wanted}, Counter(p.ranked for p in wanted)
    return {p: best for p in side if (best := _best_capture(p, outlines, ranked, apart)) is not None}


def _best_capture(p: Pattern, outlines: Set[Outline], ranked: Mapping[Digest, int], apart: Apart) -> int | None:
    """The capture whose pieces find most partners, each its own; of equals the one with the fewest pieces.

    And of those the one whose members are told apart by what else they hold: layer 0 attends, layer 1 feeds forward.
    """
    best: tuple[int, int, int, int] | None = None
    lists = [p.segments[:at] for at, s in enumerate(p.segments) if "{}" in s]
    for capture in range(p.captures):
        if outlines.isdisjoint(p.piece_outlines(capture)):
            continue
        parts = pieces(p, capture)
        found = Counter(q.ranked for q in parts if q.outline in outlines)
        hit = sum(digest[0] * min(n, ranked.get(digest, 0)) for digest, n in found.items())
        merit = hit, -len(parts), apart[lists[capture]]
        if hit * LEAST > len(p) and (best is None or merit > best[:3]):
            best = *merit, capture
    return best[3] if best else None


def _mutual_splits(left: list[Pattern], right: list[Pattern], apart: tuple[Apart, Apart]) -> tuple[Splits, Splits]:
    """Captures on both sides whose pieces find one another."""
    outlines = _piece_outlines(left) & _piece_outlines(right)
    if not outlines:
        return {}, {}
    ranked = _piece_ranks(left, outlines) & _piece_ranks(right, outlines)
    out = [
        {p: best for p in side if (best := _best_capture(p, outlines, ranked, kinds)) is not None}
        for side, kinds in zip((left, right), apart, strict=True)
    ]
    return out[0], out[1]


def _piece_outlines(side: list[Pattern]) -> set[Outline]:
    return {outline for p in side for c in range(p.captures) for outline in p.piece_outlines(c)}


def _piece_ranks(side: list[Pattern], outlines: Set[Outline]) -> Counter[Digest]:
    found: Counter[Digest] = Counter()
    for p in side:
        for capture in range(p.captures):
            if not outlines.isdisjoint(p.piece_outlines(capture)):
                found.update(q.ranked for q in pieces(p, capture) if q.outline in outlines)
    return found


def _apply(side: list[Pattern], split: Splits) -> list[Pattern]:
    """Unfold the chosen patterns, and the other leaves of the same module with them."""
    modules = {p.segments[:-1]: split[p] for p in side if p in split}
    out: list[Pattern] = []
    for p in side:
        capture = split.get(p, modules.get(p.segments[:-1]))
        out += [p] if capture is None or capture >= p.captures else pieces(p, capture)
    return out
