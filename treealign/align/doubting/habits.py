"""Habits of libraries that shapes cannot show: how the rows of q and k, of a fused qkv, of gate and up stand.

Names betray them: ``wq`` in an original Llama stands for interleaved rotary rows, ``query_key_value`` for rows head by
head. The table is data, beside that of known layouts: ``knowledge/layouts.json``. What it suggests is a guess and is
always said to be one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import gcd
from typing import Any, NamedTuple

from treealign.align.doubting.transposition import block
from treealign.align.hinted import contains
from treealign.align.knowledge.entries import table
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.words import split_words
from treealign.mapping.operations import (
    Deinterleave,
    Interleave,
    Operation,
    Permute,
    RotaryPermute,
    RotaryUnpermute,
    Split,
)

MOST_HEADS = 64  # that are tried where no usual size fits
Path = tuple[str, ...]


class Sign(NamedTuple):
    """By what a library is recognised in a block: runs of segments that it has, and that it lacks."""

    library: str
    has: tuple[Path, ...]
    lacks: tuple[Path, ...]


@cache
def _table() -> dict[str, Any]:
    return {
        kind: tuple(map(_sign, rows)) if kind != "head sizes" else rows
        for kind, rows in table()["habits"].items()
        if kind != "about"
    }


def _sign(row: dict[str, Any]) -> Sign:
    has, lacks = (tuple(tuple(run.split(".")) for run in row.get(name, ())) for name in ("has", "lacks"))
    return Sign(row["library"], has, lacks)


class Guess(NamedTuple):
    """Operations that a habit suggests, and why."""

    operations: tuple[Operation, ...]
    reason: Reason


@dataclass(frozen=True, eq=False)
class Habits:
    """Reads the habits off the names of two sides.

    Attributes
    ----------
    left, right : sequence of Pattern
        All patterns of the checkpoint and of the model.
    """

    left: Sequence[Pattern]
    right: Sequence[Pattern]
    _known: dict[tuple[bool, Path, str], str] = field(default_factory=dict)

    def rotary(self, link: Link) -> Guess | None:
        """The permutation of rotary rows, where the two sides are known for different orders."""
        a, b = self._rotary(True, link.left[0]), self._rotary(False, link.right[0])
        if link.operations or not a or not b or a[0] == b[0]:
            return None
        rows = _rows(link.right[0])
        size = self._head_size(link, rows)
        if size is None:
            return None
        made = (RotaryPermute if a[0] == "interleaved" else RotaryUnpermute)(rows // size, size)
        return Guess(
            (made,),
            Reason("rows", f"rotary rows are {a[0]} in {a[1]} and {b[0]} in {b[1]}; heads of {size} rows are a guess"),
        )

    def fused(self, link: Link) -> Guess | None:
        """Rows of a fused tensor brought from turns into runs or back, where only one side is known to take turns."""
        whole = link.left[0] if len(link.left) == 1 else link.right[0]
        if any("norm" in split_words(p.segments[-1]) for p in (*link.left, *link.right)):
            return None  # a norm that a fused linear keeps has an entry for each input
        for kind in ("by head", "in turns"):
            a, b = (self._library(side, kind, p) for side, p in ((True, link.left[0]), (False, link.right[0])))
            if bool(a) == bool(b) or (link.operations and not (a if whole is link.left[0] else b)):
                continue
            blocks = self._blocks(link, kind)
            if blocks is not None:
                dim = _dimension(link, whole)
                operations = (
                    (Deinterleave(dim, blocks), *link.operations) if a else (*link.operations, Interleave(dim, blocks))
                )
                text = f"rows stand {kind} in {a or b}; turns of {list(blocks)} rows are a guess"
                return Guess(operations, Reason("rows", text))
        return None

    def learns_positions(self, tower: Path, left: bool = False) -> bool:
        """Whether a tower bears the marks of a library whose towers with a table of positions turn nothing besides."""
        signs: tuple[Sign, ...] = _table()["learned positions only"]
        return any(self._fits(left, tower, sign) for sign in signs)

    def rotary_way(self, link: Link) -> str:
        """Which way rows of q and k are turned if they are: by the side that is known for one order; else nothing."""
        here, there = (
            {kind for p in side if (known := self._rotary(left, p)) for kind in known[:1]}
            for left, side in ((True, link.left), (False, link.right))
        )
        if here == there:
            return ""
        return "to half split" if "half split" in there or "interleaved" in here else "to interleaved"

    def _rotary(self, left: bool, p: Pattern) -> tuple[str, str] | None:
        for kind in ("interleaved", "half split"):
            if library := self._library(left, kind, p):
                return kind, library
        return None

    def _library(self, left: bool, kind: str, p: Pattern) -> str:
        """The library whose habit it is, or nothing; one that is known by the leaf alone is known by this leaf."""
        signs: tuple[Sign, ...] = _table()[kind]
        here = block(p)
        key = left, here, kind
        if kind in ("by head", "in turns"):
            return next((s.library for s in signs if contains(p.segments, s.has[0]) and self._fits(left, here, s)), "")
        if key not in self._known:
            self._known[key] = next((s.library for s in signs if self._fits(left, here, s)), "")
        return self._known[key]

    def _fits(self, left: bool, here: Path, sign: Sign) -> bool:
        inside = [p.segments for p in (self.left if left else self.right) if p.segments[: len(here)] == here]
        has = all(any(contains(s, run) for s in inside) for run in sign.has)
        return has and not any(contains(s, run) for s in inside for run in sign.lacks)

    def _blocks(self, link: Link, kind: str) -> tuple[int, ...] | None:
        """Rows of each part in one turn."""
        if kind == "in turns":
            return (1, 1)
        cut = next((o for o in link.operations if isinstance(o, Split)), None)
        sizes = _part_rows(link)
        if len(sizes) == 1 and sizes[0] % 3 == 0:
            sizes = [sizes[0] // 3] * 3
        if len(sizes) != 3 or (cut is None and len(set(sizes)) > 1 and len(link.left) == 1):
            return None
        least = gcd(*sizes)
        found = list(self._sizes(link, least))
        size = next((n for n in found if n < least), found[0] if found else None)  # one turn of all rows is none
        return None if size is None else tuple(n * size // least for n in sizes)

    def head_sizes(self, link: Link) -> list[int]:
        """The sizes that heads may have, the likeliest first: measured ones, then usual ones, then what divides."""
        parts = link.left if len(link.left) > 1 else link.right
        rows = [count for count in _part_rows(link) if count]
        if len(parts) == 1 and rows and rows[0] % 3 == 0 and _is_fused(parts[0]):
            rows = [rows[0] // 3]
        least = gcd(*rows)
        usual = list(self._sizes(link, least)) if rows else []
        others = (least // n for n in range(1, min(least, MOST_HEADS) + 1) if least % n == 0)
        return list(dict.fromkeys([*usual, *(size for size in others if size % 2 == 0 and size < least)]))

    def proven_head_size(self, link: Link) -> int | None:
        """Rows of a head where leaves prove it: a norm that q and k both have, smaller than they; frequencies."""
        both = ((self.left, link.left[0]), (self.right, link.right[0]))
        found = {size for side, p in both for size in _proven(side, p)}
        size = next(iter(found)) if len(found) == 1 else 0
        return size if size and size % 2 == 0 and all(_rows(p) % size == 0 for _, p in both) else None

    def _head_size(self, link: Link, rows: int) -> int | None:
        """Rows of a head: told by a norm of the heads or by rotary frequencies, else the usual size that divides."""
        return next(self._sizes(link, rows), None)

    def _sizes(self, link: Link, rows: int) -> Iterator[int]:
        both = ((self.left, link.left[0]), (self.right, link.right[0]))
        measured = [n for side, p in both for n in _measured(side, p)]
        beside = [n for side, p in both for n in _beside(side, p)]
        together = gcd(rows, *beside)
        most = together if len({rows, *beside}) > 1 else together // 2  # one head of all rows: where others have more
        sizes = dict.fromkeys([*measured, *(n for n in _table()["head sizes"] if n <= most)])
        return (n for n in sizes if n % 2 == 0 and together % n == 0)


def _is_fused(p: Pattern) -> bool:
    words = {w for s in p.segments[-2:] for w in split_words(s)}
    return not words & {"q", "k", "query", "key"} or "qkv" in words


def _rows(p: Pattern) -> int:
    shape = next(iter(p.shapes.values()))
    return shape[0] if shape else 0


def _part_rows(link: Link) -> list[int]:
    """The rows of each part, or of the whole that is one on both sides: of a turned one the outputs, which are more."""
    if _is_turned(link):
        shape = next(iter(link.right[0].shapes.values()))
        return [max(shape) if shape else 0]
    return [_rows(p) for p in (link.left if len(link.left) > 1 else link.right)]


def _dimension(link: Link, whole: Pattern) -> int:
    """Along which dimension a whole is made of parts: rows, those of each expert; of a turned one the outputs."""
    cut = next((o.dim for o in link.operations if hasattr(o, "sizes")), None)
    shape = next(iter(whole.shapes.values())) or ()
    if cut is None and _is_turned(link):
        return shape.index(max(shape)) if shape else 0
    return int(cut) if cut is not None else max(len(shape) - 2, 0)


def _is_turned(link: Link) -> bool:
    """Whether one matrix stands the other way round on the two sides."""
    return len(link.left) == len(link.right) == 1 and link.operations == (Permute((1, 0)),)


def _measured(side: Iterable[Pattern], of: Pattern) -> list[int]:
    """Sizes of heads that leaves of the same block or frequencies tell."""
    here = block(of)
    found = []
    for p in side:
        words, shape = split_words(p.segments[-1]), next(iter(p.shapes.values()))
        if shape is None or len(shape) != 1:
            continue
        if {"inv", "freq"} <= set(words) or {"rope", "freqs"} <= {w for s in p.segments for w in split_words(s)}:
            found.append(2 * shape[0])
        elif p.segments[: len(here)] == here and any(is_head_norm(s) for s in p.segments[len(here) :]):
            found.append(shape[0])
    return found


def _proven(side: Iterable[Pattern], of: Pattern) -> Iterator[int]:
    """Sizes of heads that leaves leave no doubt about.

    Frequencies are half of what is turned of a head: all of it where one library has it in turns, the other in halves.
    """
    here = block(of)
    norms: dict[str, int] = {}
    for p in side:
        words, shape = split_words(p.segments[-1]), next(iter(p.shapes.values()))
        if shape is None or len(shape) != 1:
            continue
        if {"inv", "freq"} <= set(words) or {"rope", "freqs"} <= {w for s in p.segments for w in split_words(s)}:
            yield 2 * shape[0]
        elif p.segments[: len(here)] == here:
            norms |= {part: shape[0] for s in p.segments[len(here) :] if is_head_norm(s) for part in split_words(s)}
    if norms.get("q", 0) == norms.get("k", -1) < max(_beside(side, of), default=0):
        yield norms["q"]


def is_head_norm(segment: str) -> bool:
    """Whether a name says that it is a norm of q or of k."""
    words = set(split_words(segment))
    return "norm" in words and bool({"q", "k"} & words)


def _beside(side: Iterable[Pattern], of: Pattern) -> list[int]:
    """Rows of q and k in the same block."""
    here = block(of)
    inside = [p for p in side if p.segments[: len(here)] == here and p.segments[-1] == of.segments[-1]]
    return [_rows(p) for p in inside if set(split_words(p.segments[-2])) & {"q", "k"} and _rows(p)] if here else []
