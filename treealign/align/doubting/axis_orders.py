"""Orders of dimensions that shapes leave open, and what the matches around a leaf show of them.

Whether tensors are turned is a habit of a library, so of all leaves of a kind: where all kernels of a tower that can
show it have their channels last, so has the one whose sizes are equal. What stands nearest speaks first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from treealign.align.converting.shape_algebra import Sizes, fitting_orders
from treealign.align.doubting.layouts import is_table, kind
from treealign.align.doubting.transposition import block
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.mapping.operations import Permute

Orders = frozenset[Sizes]
Path = tuple[str, ...]
ENOUGH = 2  # matches that must show it where it is to be more than a guess


@dataclass(frozen=True)
class Shown:
    """What siblings show of the order of dimensions of a leaf.

    Attributes
    ----------
    orders : frozenset of tuple of int
        Those of its own orders that all of them allow; empty where they contradict each other.
    count : int
        How many matches of the same block narrow it down.
    everywhere : bool
        Whether all of its kind on the two sides agree.
    """

    orders: Orders
    count: int
    everywhere: bool

    @property
    def settles(self) -> bool:
        """Whether the one order that is left is more than a guess."""
        return len(self.orders) == 1 and self.count >= ENOUGH and self.everywhere


@dataclass(frozen=True, eq=False)
class AxisOrders:
    """The orders that matches allow, by number of dimensions, kind of leaf and each module of the model above it."""

    allowed: dict[tuple[int, str, Path], list[Orders]]

    @classmethod
    def of(cls, links: Sequence[Link]) -> AxisOrders:
        """Read them off the matches of one leaf to one."""
        found: dict[tuple[int, str, Path], list[Orders]] = defaultdict(list)
        for link in links:
            p = link.right[0]
            if (orders := link_orders(link)) and not is_table(p):
                for above in _above(p):
                    found[len(next(iter(orders))), kind(link.left[0]), above].append(orders)
        return cls(found)

    def shown(self, link: Link, own: Orders | None = None) -> Shown | None:
        """What is shown of a match by those around it; None where nothing is, or where it has one order only.

        `own` are the orders it may have, where it is not one leaf to one as it is.
        """
        own = link_orders(link) if own is None else own
        if len(own) < 2 or is_table(link.right[0]):
            return None
        rank, name = len(next(iter(own))), kind(link.left[0])
        for above in _above(link.right[0]):
            telling = _telling(self.allowed.get((rank, name, above), ()), own)
            if telling:
                near = _telling(self.allowed.get((rank, name, block(link.right[0])), ()), own)
                all_of_it = _telling(self.allowed.get((rank, name, ()), ()), own)
                return Shown(own.intersection(*telling), len(near), bool(own.intersection(*all_of_it)))
        return None


def link_orders(link: Link) -> Orders:
    """The orders of dimensions that its shapes allow; empty where it is no match of one leaf to one, or reshaped."""
    if len(link.left) != 1 or len(link.right) != 1 or len(link.operations) > 1:
        return frozenset()
    if not all(isinstance(o, Permute) for o in link.operations):
        return frozenset()
    sides = set(link.left[0].shapes.values()), set(link.right[0].shapes.values())
    if len(sides[0]) == len(sides[1]) == 1:
        pairs = {(next(iter(sides[0])), next(iter(sides[1])))}
    else:
        here = {at: link.left[0].shapes[key] for key, at in link.left[0].cells.items()}
        there = {at: link.right[0].shapes[key] for key, at in link.right[0].cells.items()}
        pairs = {(here[g.left[0]], there[g.right[0]]) for g in link.expand()}
    known = frozenset((a, b) for a, b in pairs if a is not None and b is not None)
    return frozenset(fitting_orders(known)) if len(known) == len(pairs) else frozenset()


def _above(p: Pattern) -> Iterator[Path]:
    return (p.segments[:depth] for depth in range(len(p.segments) - 1, -1, -1))


def _telling(orders: Sequence[Orders], own: Orders) -> list[Orders]:
    """Those that exclude some order that the leaf itself allows."""
    return [one for one in orders if not own <= one]
