"""The units of alignment: leaves folded over the indices in which they repeat.

A pattern is a template whose captures stand for repeats, with the shape of each of its cells. Patterns of the two sides
are comparable when their cells agree: the same indices (or the same ranks of indices) with the same shapes.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from treealign.align.knowledge.entries import Known, read_name
from treealign.align.parameters import hold_whole, parameter_of
from treealign.align.words import quantised_piece
from treealign.formats.cached import cached_property
from treealign.tree.keys import number_of
from treealign.tree.keytree import KeyTree

Indices = tuple[str, ...]
Shape = tuple[int, ...] | None
_DIGITS = re.compile(r"(?:0|[1-9][0-9]*)", re.ASCII)
Digest = tuple[int, int]
Outline = tuple[int, frozenset[Shape]]
GLUED = frozenset({"weight{}", "bias{}", "kernel{}"})
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
    whole : bool
        The leaves hold whole numbers (indices, masks, packed weights), which no real numbers correspond to.
    library : tuple of Known
        The known layouts that hold for it; see `treealign.align.knowledge`.
    """

    segments: tuple[str, ...]
    cells: dict[Indices, int]
    shapes: dict[Indices, Shape]
    whole: bool = False
    library: tuple[Known, ...] = ()

    @cached_property
    def number(self) -> int:
        """The position of its first leaf; the patterns of one side share no leaf, so that each has its own."""
        return next(iter(self.cells.values()), -1)

    def __hash__(self) -> int:
        """By its number, which is the same in every process; equal is only what is the same pattern."""
        return self.number

    @cached_property
    def template(self) -> str:
        """The segments joined by dots."""
        return ".".join(self.segments)

    @cached_property
    def named(self) -> tuple[str, ...]:
        """The segments as the field spells them, where the library that wrote them is known."""
        return read_name(self.segments, self.library) if self.library else self.segments

    @property
    def holder(self) -> tuple[str, ...]:
        """The path of what holds its module; of a parameter without a module of its own, of what holds that."""
        return self.segments[: -2 if self.parameter else -1]

    @cached_property
    def parameter(self) -> str:
        """Weight or bias, if it is one of a module of its own, whatever the library calls it; else nothing."""
        return parameter_of(self.segments)

    @cached_property
    def signature(self) -> Digest:
        """Equal signatures: the same indices with the same shapes, and the same piece of a weight.

        A digest, since comparing tens of thousands of cells takes the time; who pairs cells finds out accidents.
        """
        return len(self.shapes), hash((self.nature, frozenset(self.shapes.items())))

    @cached_property
    def nature(self) -> tuple[str, bool]:
        """Which piece of a quantised weight this is, or nothing, and whether it holds whole numbers.

        One kind of piece goes with its own kind only, and whole numbers with whole numbers.
        """
        piece = next(filter(None, map(quantised_piece, self.segments[-1:-3:-1])), "")
        # codes are whole numbers: a `W_q` of real ones is the projection of the queries
        return "" if piece == "codes" and not self.whole else piece, self.whole

    @cached_property
    def ranked(self) -> Digest:
        """Like `signature` with each index replaced by its rank among the values of its capture."""
        sides = (sorted(set(column), key=int) for column in zip(*self.shapes, strict=True))
        columns = [{value: str(rank) for rank, value in enumerate(side)} for side in sides]
        if all(value == rank for column in columns for value, rank in column.items()):
            return self.signature
        cells = ((tuple(c[v] for c, v in zip(columns, key, strict=True)), shape) for key, shape in self.shapes.items())
        return len(self.shapes), hash((self.nature, frozenset(cells)))

    @cached_property
    def indices(self) -> Digest:
        """Equal where two patterns have the same indices, whatever their shapes."""
        return len(self.shapes), hash(frozenset(self.shapes))

    @cached_property
    def outline(self) -> Outline:
        """What equal `ranked` implies and is cheap to compare: the number of cells and their shapes."""
        return len(self.shapes), frozenset(self.shapes.values())

    @cached_property
    def columns(self) -> tuple[frozenset[int], ...]:
        """The numbers that each of its captures takes."""
        return tuple(frozenset(map(number_of, set(column))) for column in zip(*self.cells, strict=True))

    @cached_property
    def numbers(self) -> int | None:
        """How many numbers all its leaves hold together; None where a shape is unknown."""
        counts = Counter(self.shapes.values())
        return None if None in counts else sum(n * prod(shape or ()) for shape, n in counts.items())

    def piece_outlines(self, capture: int) -> list[Outline]:
        """The outlines of `pieces` without making them."""
        shapes: dict[str, list[Shape]] = defaultdict(list)
        for key, shape in self.shapes.items():
            shapes[key[capture]].append(shape)
        return [(len(some), frozenset(some)) for some in shapes.values()]

    @property
    def captures(self) -> int:
        """How many captures the template has."""
        return len(next(iter(self.cells)))

    def __len__(self) -> int:
        return len(self.cells)


def concrete(p: Pattern, key: Indices) -> tuple[str, ...]:
    """The segments of one leaf of a pattern.

    >>> concrete(Pattern(("layers", "{}", "norm_{}"), {}, {}), ("3", "1"))
    ('layers', '3', 'norm_1')
    """
    values = iter(key)
    return tuple(re.sub(r"\{\}", lambda _: next(values), s) for s in p.segments)


def single_leaves(p: Pattern) -> Iterator[Pattern]:
    """Each leaf of a pattern as one by itself."""
    for key, at in p.cells.items():
        yield Pattern(concrete(p, key), {(): at}, {(): p.shapes[key]}, p.whole, p.library)


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
            found.append(Pattern(f.segments, cells, sizes, hold_whole({tree.leaves[p].dtype for p in cells.values()})))
    return [q for p in _fold_series(found) for q in _of_one_rank(without_constants(p))]


def _of_one_rank(p: Pattern) -> list[Pattern]:
    """Leaves of different numbers of dimensions are no repeats: a Sequential holds convolutions beside norms."""
    if len({shape if shape is None else len(shape) for shape in set(p.shapes.values())}) == 1:
        return [p]
    ways = [pieces(p, capture) for capture in reversed(range(p.captures))]
    mixed = [sum(len({len(s or ()) for s in q.shapes.values()}) > 1 for q in way) for way in ways]
    return [r for q in ways[mixed.index(min(mixed))] for r in _of_one_rank(q)]


def as_numbers(indices: Indices) -> tuple[int, ...]:
    """Indices as numbers, to sort by."""
    return tuple(map(int, indices))


def part(p: Pattern, keys: Iterable[Indices]) -> Pattern:
    """A pattern of some of its cells only; captures that keep one value become names."""
    inside = list(keys)
    cells, shapes = {k: p.cells[k] for k in inside}, {k: p.shapes[k] for k in inside}
    return without_constants(Pattern(p.segments, cells, shapes, p.whole, p.library))


def without_constants(p: Pattern) -> Pattern:
    """Captures with a single value are names, not repeats."""
    constant = [len(set(column)) == 1 for column in zip(*p.cells, strict=True)]  # all of a single cell's
    if not any(constant):
        return p
    return fix_captures(p, constant, next(iter(p.cells)))


def fix_captures(p: Pattern, fixed: list[bool], values: Indices) -> Pattern:
    """The cells of `p` with these values at the fixed captures, which become part of the names."""
    segments, at = [], 0
    for s in p.segments:
        is_capture = "{}" in s
        segments.append(s.replace("{}", values[at]) if is_capture and fixed[at] else s)
        at += is_capture
    free = [i for i, f in enumerate(fixed) if not f]
    wanted = [(i, values[i]) for i, f in enumerate(fixed) if f]
    keys = [k for k in p.cells if all(k[i] == v for i, v in wanted)]
    short = {k: tuple(k[i] for i in free) for k in keys}
    return Pattern(
        tuple(segments), {short[k]: p.cells[k] for k in keys}, {short[k]: p.shapes[k] for k in keys}, p.whole, p.library
    )


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
        cells, shapes = {k: p.cells[key] for k, key in short}, {k: p.shapes[key] for k, key in short}
        found.append(without_constants(Pattern(segments, cells, shapes, p.whole, p.library)))
    return found


def _segment_of(segments: tuple[str, ...], capture: int) -> int:
    return [at for at, s in enumerate(segments) if "{}" in s][capture]


def _fold_series(patterns: list[Pattern]) -> list[Pattern]:
    """Fold indices that stand inside the name of a container: `layers_3`, `resblock12`.

    Only where at least `MIN_SERIES` containers differ by nothing but consecutive numbers: two are more often two names,
    and the numbers in the name of a module that holds parameters itself (`norm1`, `w3`) tell siblings apart. A number
    glued to a parameter's plain name counts repeats, too: `weight0`, `weight1` of a grouped matrix product.
    """
    numbers: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for p in patterns:
        for at, stem, digits in _inner_digits(p.segments):
            if at < len(p.segments) - 2 or stem in GLUED:
                numbers[(*p.segments[:at], stem)].add(number_of(digits))
    repeats = {
        k
        for k, n in numbers.items()
        if len(n) >= (2 if k[-1] in GLUED else MIN_SERIES) and max(n) - min(n) == len(n) - 1
    }
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
    for at, segment in enumerate(segments):
        if at == len(segments) - 1 and _DIGITS.sub("{}", segment) not in GLUED:
            continue
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
    return Pattern(key, cells, shapes, all(p.whole for p in members.values()))
