"""The units of alignment: leaves folded over the indices in which they repeat, unfolded as far as the two sides disagree.

A pattern is a template whose captures stand for repeats, with the shape of each of its cells. Patterns of the two sides
are comparable when their cells agree: the same indices (or the same ranks of indices) with the same shapes. Where a
pattern has no comparable partner and its pieces have, it is split.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from treealign.tree.keytree import KeyTree

Indices = tuple[str, ...]
Shape = tuple[int, ...] | None
_DIGITS = re.compile(r"(?:0|[1-9][0-9]*)", re.ASCII)
Outline = tuple[int, frozenset[Shape]]
Splits = dict[int, int]  # id of a pattern to the capture to unfold
MAX_ROUNDS = 8
MIN_SERIES = 3  # `layers_0, layers_1, layers_2` is a repeat; `norm1, norm2` are two names


@dataclass(frozen=True, eq=False)
class Pattern:
    """Leaves of one side that repeat.

    Attributes
    ----------
    segments : tuple of str
        The template; a capture is ``{}``, alone or inside a segment.
    cells : dict
        The digits of the captures to the position of the leaf in the tree.
    shapes : dict
        The same digits to the leaf's shape.
    """

    segments: tuple[str, ...]
    cells: dict[Indices, int]
    shapes: dict[Indices, Shape]

    @cached_property
    def template(self) -> str:
        """The segments joined by dots."""
        return ".".join(self.segments)

    @cached_property
    def signature(self) -> Any:
        """Equal signatures: the same indices with the same shapes."""
        return frozenset(self.shapes.items())

    @cached_property
    def ranked(self) -> Any:
        """Like `signature` with each index replaced by its rank among the values of its capture."""
        columns = [_ranks(column) for column in zip(*self.shapes, strict=True)]
        if all(value == rank for column in columns for value, rank in column.items()):
            return self.signature
        return frozenset((tuple(c[v] for c, v in zip(columns, key, strict=True)), s) for key, s in self.shapes.items())

    @cached_property
    def outline(self) -> Outline:
        """What equal `ranked` implies and is cheap to compare: the number of cells and their shapes."""
        return len(self.shapes), frozenset(self.shapes.values())

    def piece_outlines(self, capture: int) -> list[Outline]:
        """The outlines of `pieces` without making them."""
        counts: dict[str, int] = defaultdict(int)
        shapes: dict[str, set[Shape]] = defaultdict(set)
        for key, shape in self.shapes.items():
            counts[key[capture]] += 1
            shapes[key[capture]].add(shape)
        return [(n, frozenset(shapes[v])) for v, n in counts.items()]

    @property
    def captures(self) -> int:
        """How many captures the template has."""
        return len(next(iter(self.cells)))

    def __len__(self) -> int:
        return len(self.cells)


def _ranks(values: Iterable[str]) -> dict[str, str]:
    return {v: str(at) for at, v in enumerate(sorted(set(values), key=int))}


def build_patterns(tree: KeyTree, skip: frozenset[str] = frozenset(), shapes: bool = True) -> list[Pattern]:
    """The patterns of a tree, folded as far as its own names allow.

    Parameters
    ----------
    tree : KeyTree
        One side.
    skip : frozenset of str
        Keys to leave out: tied aliases.
    shapes : bool
        False where the other side's shapes are unknown: then all shapes here are taken as unknown too.
    """
    found = []
    for f in tree.folds:
        cells = {i: p for i, p in zip(f.indices, f.positions, strict=True) if not skip or tree.keys[p] not in skip}
        if cells:
            sizes = {i: tree.leaves[p].shape if shapes else None for i, p in cells.items()}
            found.append(Pattern(f.segments, cells, sizes))
    return [_without_constants(p) for p in _fold_series(found)]


def _without_constants(p: Pattern) -> Pattern:
    """Captures with a single value are names, not repeats."""
    if len(p.cells) > 1:
        constant = [len(set(column)) == 1 for column in zip(*p.cells, strict=True)]
    else:
        constant = [True] * p.captures
    if not any(constant):
        return p
    return fix_captures(p, constant, next(iter(p.cells)))


def fix_captures(p: Pattern, fixed: list[bool], values: Indices) -> Pattern:
    """The cells of `p` with these values at the fixed captures, which become part of the names."""
    segments, at = [], 0
    for s in p.segments:
        if "{}" in s:
            if fixed[at]:
                s = s.replace("{}", values[at])
            at += 1
        segments.append(s)
    free = [i for i, f in enumerate(fixed) if not f]
    wanted = [(i, values[i]) for i, f in enumerate(fixed) if f]
    keys = [k for k in p.cells if all(k[i] == v for i, v in wanted)]
    short = {k: tuple(k[i] for i in free) for k in keys}
    return Pattern(tuple(segments), {short[k]: p.cells[k] for k in keys}, {short[k]: p.shapes[k] for k in keys})


def pieces(p: Pattern, capture: int) -> list[Pattern]:
    """`p` unfolded along one capture, in one pass over its cells."""
    groups: dict[str, list[Indices]] = defaultdict(list)
    for key in p.cells:
        groups[key[capture]].append(key)
    at = _segment_of(p.segments, capture)
    found = []
    for value in sorted(groups, key=int):
        segments = (*p.segments[:at], p.segments[at].replace("{}", value), *p.segments[at + 1 :])
        short = [(key[:capture] + key[capture + 1 :], key) for key in groups[value]]
        cells = {k: p.cells[key] for k, key in short}
        found.append(_without_constants(Pattern(segments, cells, {k: p.shapes[key] for k, key in short})))
    return found


def _segment_of(segments: tuple[str, ...], capture: int) -> int:
    return [at for at, s in enumerate(segments) if "{}" in s][capture]


def _fold_series(patterns: list[Pattern]) -> list[Pattern]:
    """Fold indices that stand inside the name of a container: `layers_3`, `resblock12`.

    Only where at least `MIN_SERIES` containers differ by nothing but consecutive numbers: two are more often two names,
    and the numbers in the name of a module that holds parameters itself (`norm1`, `w3`) tell siblings apart.
    """
    numbers: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for p in patterns:
        for at, stem, digits in _inner_digits(p.segments):
            if at < len(p.segments) - 2:
                numbers[(*p.segments[:at], stem)].add(int(digits))
    repeats = {k for k, n in numbers.items() if len(n) >= MIN_SERIES and max(n) - min(n) == len(n) - 1}
    if not repeats:
        return patterns
    folded: dict[tuple[str, ...], tuple[int, dict[str, Pattern]]] = {}
    kept = []
    for p in patterns:
        hit = next(((at, s, d) for at, s, d in _inner_digits(p.segments) if (*p.segments[:at], s) in repeats), None)
        if hit is None:
            kept.append(p)
            continue
        at, stem, digits = hit
        folded.setdefault((*p.segments[:at], stem, *p.segments[at + 1 :]), (at, {}))[1][digits] = p
    joined = kept + [_join_series(key, at, members) for key, (at, members) in folded.items()]
    return _fold_series(joined)  # experts numbered inside layers that are numbered the same way


def _inner_digits(segments: tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
    for at, segment in enumerate(segments[:-1]):
        runs = [] if "{}" in segment else list(_DIGITS.finditer(segment))
        if len(runs) == 1 and runs[0].group() != segment:
            run = runs[0]
            yield at, segment[: run.start()] + "{}" + segment[run.end() :], run.group()


def _join_series(key: tuple[str, ...], at: int, members: dict[str, Pattern]) -> Pattern:
    before = sum("{}" in s for s in key[:at])
    cells: dict[Indices, int] = {}
    shapes: dict[Indices, Shape] = {}
    for digits, p in members.items():
        for k, position in p.cells.items():
            whole = (*k[:before], digits, *k[before:])
            cells[whole], shapes[whole] = position, p.shapes[k]
    return Pattern(key, cells, shapes)


def refine(left: list[Pattern], right: list[Pattern]) -> tuple[list[Pattern], list[Pattern]]:
    """Unfold patterns of either side until their pieces have comparable partners, or nothing more can be gained.

    Each round unfolds every pattern without a partner along the capture whose pieces find the most partners, first
    against what the other side has, then against pieces of the other side. Cost: the cells of unpartnered patterns,
    times their captures.
    """
    left, right = _common_parts(left, right), _common_parts(right, left)
    for _ in range(MAX_ROUNDS):
        open_left, open_right = _open(left, right), _open(right, left)
        split_left, split_right = _splits(open_left, open_right), _splits(open_right, open_left)
        if not split_left and not split_right:
            split_left, split_right = _mutual_splits(open_left, open_right)
        if not split_left and not split_right:
            break
        left, right = _apply(left, split_left), _apply(right, split_right)
    return _outer_parts(left, right), _outer_parts(right, left)


def _outer_parts(side: list[Pattern], other: list[Pattern]) -> list[Pattern]:
    """Split off the repeats for which the other side has no whole: extra layers of experts that are stacked there."""
    wanted = {frozenset(p.shapes): p.captures for p in _open(other, side) if p.captures}
    mine = {id(p) for p in _open(side, other)}
    found = []
    for p in side:
        parts = _outer_part(p, wanted) if id(p) in mine and p.captures > 1 else None
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
            return [_part(p, inside), _without_constants(_part(p, p.shapes.keys() - inside))]
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
    """Split off what only this side has of a repeat: a checkpoint with extra layers, a model with fewer experts."""
    there = _open(other, side)
    signatures = {p.signature for p in there}
    wanted = {frozenset(p.shapes) for p in there if p.captures}
    found = []
    for p in side:
        parts = None if not p.captures or p.signature in signatures else _common_part(p, wanted, signatures)
        found += parts or [p]
    return found


def _common_part(p: Pattern, wanted: set[frozenset[Indices]], signatures: set[Any]) -> list[Pattern] | None:
    for keys in sorted(wanted, key=len, reverse=True):
        if not len(keys) < len(p.shapes) <= 2 * len(keys) or not keys <= p.shapes.keys():
            continue
        if frozenset((k, p.shapes[k]) for k in keys) in signatures:
            return [_part(p, keys), _without_constants(_part(p, p.shapes.keys() - keys))]
    return None


def _part(p: Pattern, keys: Set[Indices]) -> Pattern:
    inside = [k for k in p.cells if k in keys]
    return Pattern(p.segments, {k: p.cells[k] for k in inside}, {k: p.shapes[k] for k in inside})


def _splits(side: list[Pattern], wanted: list[Pattern]) -> Splits:
    outlines, ranked = {p.outline for p in wanted}, {p.ranked for p in wanted}
    return {id(p): best for p in side if (best := _best_capture(p, outlines, ranked)) is not None}


def _best_capture(p: Pattern, outlines: Set[Outline], ranked: Set[Any]) -> int | None:
    """The capture whose pieces find most partners; of equals the one with the fewest pieces."""
    best: tuple[int, int, int] | None = None
    for capture in range(p.captures):
        if outlines.isdisjoint(p.piece_outlines(capture)):
            continue
        parts = pieces(p, capture)
        hit = sum(len(q) for q in parts if q.outline in outlines and q.ranked in ranked)
        if hit and (best is None or (hit, -len(parts)) > best[:2]):
            best = hit, -len(parts), capture
    return best[2] if best else None


def _mutual_splits(left: list[Pattern], right: list[Pattern]) -> tuple[Splits, Splits]:
    """Captures on both sides whose pieces find one another."""
    outlines = _piece_outlines(left) & _piece_outlines(right)
    if not outlines:
        return {}, {}
    ranked = _piece_ranks(left, outlines) & _piece_ranks(right, outlines)
    out = [
        {id(p): best for p in side if (best := _best_capture(p, outlines, ranked)) is not None}
        for side in (left, right)
    ]
    return out[0], out[1]


def _piece_outlines(side: list[Pattern]) -> set[Outline]:
    return {outline for p in side for c in range(p.captures) for outline in p.piece_outlines(c)}


def _piece_ranks(side: list[Pattern], outlines: Set[Outline]) -> set[Any]:
    found = set()
    for p in side:
        for capture in range(p.captures):
            if not outlines.isdisjoint(p.piece_outlines(capture)):
                found |= {q.ranked for q in pieces(p, capture) if q.outline in outlines}
    return found


def _apply(side: list[Pattern], split: Splits) -> list[Pattern]:
    """Unfold the chosen patterns, and the other leaves of the same module with them."""
    modules = {p.segments[:-1]: split[id(p)] for p in side if id(p) in split}
    out: list[Pattern] = []
    for p in side:
        capture = split.get(id(p), modules.get(p.segments[:-1]))
        out += [p] if capture is None or capture >= p.captures else pieces(p, capture)
    return out
