"""Orders of dimensions that shapes leave open, and what the matches around a leaf show of them.

Whether tensors are turned is a habit of a library, so of all leaves of a kind: where all kernels of a tower that can
show it have their channels last, so has the one whose sizes are equal. What stands nearest speaks first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
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
CONVOLUTION = 4  # dimensions from which a layout is that of a whole tower
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
    beside : bool
        Whether one of them is a leaf of a module beside the leaf's own; of convolutions, anywhere in the tower.
    everywhere : bool
        Whether all of its kind on the two sides agree.
    """

    orders: Orders
    count: int
    beside: bool
    everywhere: bool

    @property
    def settles(self) -> bool:
        """Whether the one order that is left is more than a guess."""
        return len(self.orders) == 1 and self.count >= ENOUGH and self.beside and self.everywhere


@dataclass(frozen=True, eq=False)
class AxisOrders:
    """The orders that matches allow, by number of dimensions, kind of leaf and module of the model.

    Attributes
    ----------
    allowed : dict
        Of all leaves below a module.
    beside : dict
        Of the leaves of its own modules.
    """

    allowed: dict[tuple[int, str, Path], Counter[Orders]]
    beside: dict[tuple[int, str, Path], set[Orders]]

    @classmethod
    def of(cls, links: Sequence[Link]) -> AxisOrders:
        """Read them off the matches of one leaf to one."""
        found: dict[tuple[int, str, Path], Counter[Orders]] = defaultdict(Counter)
        beside: dict[tuple[int, str, Path], set[Orders]] = defaultdict(set)
        for link in links:
            p = link.right[0]
            if (orders := link_orders(link)) and not is_table(p):
                rank, name = len(next(iter(orders))), kind(link.left[0])
                beside[rank, name, p.segments[:-2]].add(orders)
                for above in _above(p):
                    found[rank, name, above][orders] += 1
        return cls(found, beside)

    def shown(self, link: Link, own: Orders | None = None) -> Shown | None:
        """What is shown of a match by those around it; None where nothing is, or where it has one order only.

        `own` are the orders it may have, where it is not one leaf to one as it is.
        """
        own = link_orders(link) if own is None else own
        if len(own) < 2 or is_table(link.right[0]):
            return None
        rank, name = len(next(iter(own))), kind(link.left[0])
        for above in _above(link.right[0]):
            if telling := self._telling(rank, name, above, own):
                near = self._telling(rank, name, block(link.right[0]), own)
                everywhere = own.intersection(*self._telling(rank, name, (), own))
                return Shown(
                    own.intersection(*telling), near.total(), self._beside(rank, name, link, own), bool(everywhere)
                )
        return None

    def _beside(self, rank: int, name: str, link: Link, own: Orders) -> bool:
        holder = link.right[0].segments[:-2]
        return rank >= CONVOLUTION or any(not own <= orders for orders in self.beside.get((rank, name, holder), ()))

    def _telling(self, rank: int, name: str, above: Path, own: Orders) -> Counter[Orders]:
        """The orders of those below a module that exclude some order that the leaf itself allows."""
        found: Counter[Orders] = self.allowed.get((rank, name, above), Counter())
        return Counter({orders: count for orders, count in found.items() if not own <= orders})


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
