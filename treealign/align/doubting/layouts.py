"""Which way round matrices stand: what kinds of names and pairs of shapes say."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from treealign.align.doubting.transposition import block, is_matrix, is_square
from treealign.align.links import Link
from treealign.align.matching.orientation import inputs_first
from treealign.align.patterns import Pattern, Shape
from treealign.align.words import tokens
from treealign.mapping.operations import Reshape

Path = tuple[str, ...]


class BothWays(NamedTuple):
    """Blocks in which matrices of a shape and of its transpose stand, on either side; whose biases tell."""

    shapes: tuple[dict[Path, set[Shape]], dict[Path, set[Shape]]]
    told: tuple[set[Pattern], set[Pattern]]

    @classmethod
    def of(cls, left: Sequence[Pattern], right: Sequence[Pattern]) -> BothWays:
        """Read the shapes of all matrices of the two sides."""
        shapes: list[dict[Path, set[Shape]]] = []
        for side in (left, right):
            found: dict[Path, set[Shape]] = defaultdict(set)
            for p in side:
                if is_matrix(p):
                    found[block(p)].update(p.shapes.values())
            shapes.append(found)
        told = [{side[n] for n in inputs_first(side)} for side in (left, right)]
        return cls((shapes[0], shapes[1]), (told[0], told[1]))

    def speaks_of(self, link: Link) -> bool:
        """Whether a bare parameter and a layer's weight of one shape may as well be transposes of two others."""
        a, b = link.left[0], link.right[0]
        if link.operations or not is_matrix(b) or is_table(b) or (a in self.told[0] and b in self.told[1]):
            return False
        turned = {shape and shape[::-1] for shape in b.shapes.values()}
        there = turned <= self.shapes[0].get(block(a), set()) and turned <= self.shapes[1].get(block(b), set())
        return there and sorted(map(kind, (a, b))) == ["", "weight"]


def is_table(p: Pattern) -> bool:
    """Whether it is a table of embeddings, which everyone writes row by row."""
    return any("embed" in t.text for t in tokens(p.named))


def is_kernel(link: Link) -> bool:
    """Whether one library calls the matrix a kernel, inputs first, and the other a weight, outputs first."""
    return {kind(link.left[0]), kind(link.right[0])} == {"kernel", "weight"}


def kind(p: Pattern) -> str:
    """What a library calls the matrix of a layer: `kernel`, `weight`; nothing for a bare parameter."""
    words = re.split(r"[^a-z]+", p.segments[-1].rpartition("/")[2].lower())
    return next((name for name in ("kernel", "weight") if name in words), "")


def is_cut_square(link: Link) -> bool:
    """Whether the rows or columns of a square matrix are cut, or joined into one: into heads, mostly."""
    alone = len(link.left) == len(link.right) == 1 and len(link.operations) == 1
    return alone and isinstance(link.operations[0], Reshape) and (is_square(link.left[0]) or is_square(link.right[0]))


def is_bare(link: Link) -> bool:
    """A square matrix as it is, or with its rows or columns cut, that is a layer's weight on one side only."""
    if is_table(link.right[0]) or not all(isinstance(o, Reshape) for o in link.operations):
        return False
    kinds = sorted(map(kind, (link.left[0], link.right[0])))
    return kinds == ["", "weight"] and (is_square(link.left[0]) or is_square(link.right[0]))
