"""Changes that shapes cannot show. Nothing here is assumed in silence: a match that may hide one is no longer certain.

- heads: rows of a fused qkv may be grouped head by head, in one library and not in another.
- rotary row order: two libraries may store the rows of q and k interleaved or half-split. Where the attention module is
  spelled differently on the two sides and the tower has no learned positions, the spelling tells of two conventions.
- fused gate and up: rows one after another, or taking turns. Where the fused name differs, so may the order.
- dimensions of equal sizes: where all others of a kind around a leaf are turned, so is that which cannot show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from treealign.align.converting.rearrangements import TURNS
from treealign.align.converting.shape_algebra import Sizes, disorder
from treealign.align.doubting.axis_orders import AxisOrders, link_orders
from treealign.align.doubting.gates import FUSED, Gates
from treealign.align.doubting.habits import Guess, Habits
from treealign.align.doubting.layouts import BothWays, is_bare, is_cut_square, is_kernel, is_table
from treealign.align.doubting.rotary import PROJECTIONS, Rotary, roles
from treealign.align.doubting.transposition import block, is_matrix, is_square
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.verdict import doubted, settled
from treealign.align.words import tokens
from treealign.mapping.operations import Deinterleave, Interleave, Permute, RotaryPermute, RotaryUnpermute
from treealign.tree.keytree import KeyTree

ROTARY = Reason(
    "rows",
    "rows of q and k may be in another rotary order: the attention is spelled differently, shapes cannot show it",
)
HEADS = Reason("rows", "the rows of a fused qkv may be grouped by head, which shapes cannot show")
SQUARE = Reason("axes", "its sizes are equal, and others of its kind around it are turned: shapes cannot show it")
KERNEL = Reason(
    "axes", "a kernel has its inputs first and a weight its outputs: one would be the transpose of the other"
)
WAY = Reason(
    "axes",
    "a bare parameter on one side and a layer's weight on the other: both sides hold a matrix of its transpose, too",
)
BARE = Reason("axes", "a square matrix of its own on one side, of a layer on the other: either may be the transpose")
ALIKE = "all others of its kind are turned alike"
LAYER = 2  # levels from a leaf to a module that holds its layer
BOTH = frozenset({(0, 1), (1, 0)})
Path = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Conventions:
    """What two sides show of the conventions of their libraries: what a match is judged by.

    Attributes
    ----------
    habits : Habits
        Of either library.
    rotary : Rotary
        Where rows may stand in rotary order.
    orders : AxisOrders
        The orders of dimensions that the matches allow.
    gates : Gates
        The shapes of the model's matrices.
    both_ways : BothWays
        Where matrices of a shape and of its transpose stand.
    """

    habits: Habits
    rotary: Rotary
    orders: AxisOrders
    both_ways: BothWays
    gates: Gates

    @classmethod
    def of(cls, links: Sequence[Link], habits: Habits, model: KeyTree) -> Conventions:
        """Read them off the matches, and off the classes of the model."""
        both_ways = BothWays.of(habits.left, habits.right)
        return cls(habits, Rotary.of(links, habits, model), AxisOrders.of(links), both_ways, Gates.of(habits.right))

    def judged(self, given: Link) -> Link:
        """The link, uncertain if it may hide a change, and changed as a habit suggests."""
        link = self._turned_alike(given)
        guess = self._suggested(link)
        if guess is None and link.certain and (reasons := self.doubts(link)):
            guess = Guess(link.operations, reasons[0])
        return link if guess is None else _guessed(link, guess)

    def _turned_alike(self, link: Link) -> Link:
        """The link with its dimensions in the order that all others of its kind show, where they settle it."""
        shown = self.orders.shown(link)
        if shown is None or not (link.certain or link.reason == TURNS):
            return link
        if shown.settles or (is_kernel(link) and shown.count and shown.everywhere and shown.orders == {(1, 0)}):
            return _in_order(link, next(iter(shown.orders)))
        return link

    def _suggested(self, link: Link) -> Guess | None:
        """Operations that what is known of the block or of the libraries suggests."""
        guess = self._turned(link) or self.habits.fused(link)
        if guess is None and link.certain and self.rotary.turns(link):
            guess = self.habits.rotary(link)
        return guess

    def _turned(self, link: Link) -> Guess | None:
        """The order of dimensions that others of its kind show, or in which a kernel stands everywhere."""
        if is_cut_square(link):
            turn = Permute((1, 0))
            shown = self.orders.shown(link, BOTH)
            if is_table(link.right[0]) or not (is_kernel(link) or (shown is not None and shown.orders == {turn.dims})):
                return None
            return Guess((turn, *link.operations) if is_square(link.left[0]) else (*link.operations, turn), SQUARE)
        shown = self.orders.shown(link)
        if shown is None or not shown.orders:
            known = not link.operations and is_square(link.left[0]) and is_kernel(link) and not is_table(link.right[0])
            return Guess((Permute((1, 0)),), SQUARE) if known else None
        best = min(shown.orders, key=disorder)
        now = next((o.dims for o in link.operations if isinstance(o, Permute)), tuple(range(len(best))))
        if now in shown.orders and (now == best or list(now) == sorted(now)):
            return None
        return Guess((Permute(best),), SQUARE)

    def doubts(self, link: Link) -> tuple[Reason, ...]:
        """What the names of a link may hide, each aspect apart from the others."""
        found = _rows_doubt(link, self.rotary, self.gates), _axes_doubt(link, self.both_ways)
        return tuple(reason for reason in found if reason is not None)


def hidden_changes(links: Sequence[Link], conventions: Conventions) -> list[Link]:
    """The links, those that may hide a change marked uncertain with the reason, changed as habits of libraries suggest.

    No hint about names settles any of it: names say nothing of rows and axes.
    """
    return _with_their_biases(_with_their_norms([conventions.judged(link) for link in links]))


def _in_order(link: Link, dims: Sizes) -> Link:
    """The link with its dimensions in this order, for certain."""
    if list(dims) == sorted(dims):
        return link
    evidence = (*link.evidence, ALIKE)
    made = replace(link, operations=(Permute(dims),), groups=tuple(link.expand()), evidence=evidence)
    return doubted(made, link.beneath[0], beneath=link.beneath[1:]) if link.beneath else settled(made)


def _with_their_biases(links: list[Link]) -> list[Link]:
    """The links, the bias of a fused qkv doubted as the rows of its matrix are: nothing is done to it either way."""
    doubted = {_modules(link) for link in links if HEADS in (link.reason, *link.beneath)}
    return [
        _guessed(link, Guess((), HEADS))
        if link.certain and not link.operations and _modules(link) in doubted and _is_vector(link)
        else link
        for link in links
    ]


def _modules(link: Link) -> tuple[frozenset[tuple[str, ...]], ...]:
    return tuple(frozenset(p.segments[:-1] for p in side) for side in (link.left, link.right))


def _is_vector(link: Link) -> bool:
    return all(len(shape or ()) == 1 for shape in link.right[0].shapes.values())


def _with_their_norms(links: list[Link]) -> list[Link]:
    """The links, norms of q and of k doubted as the rows are that they scale."""
    rotary = (RotaryPermute, RotaryUnpermute)
    doubted = {
        (block(p), role)
        for link in links
        if link.reason == ROTARY or (not link.certain and any(isinstance(o, rotary) for o in link.operations))
        for p in link.right
        for role in {"q", "k"} & roles(p)
    }
    return [
        _guessed(link, Guess((), ROTARY))
        if link.certain and any((block(link.right[0]), role) in doubted for role in _scaled(link))
        else link
        for link in links
    ]


def _scaled(link: Link) -> set[str]:
    """Which of q and k a norm of their rows scales."""
    if link.operations or len(next(iter(link.right[0].shapes.values())) or ()) != 1:
        return set()
    words = {t.text for t in tokens(link.right[0].named) if t.depth <= 1}
    return {"q", "k"} & words if "norm" in words else set()


def without_guess(link: Link) -> Link:
    """A link of one pattern to one without the operations that only a habit or its surroundings suggest."""
    if link.certain or len(link.left) != 1 or len(link.right) != 1 or not link.operations:
        return link
    hidden = (RotaryPermute, RotaryUnpermute, Interleave, Deinterleave)
    if all(isinstance(o, hidden) for o in link.operations) or is_turned_square(link):
        return replace(link, operations=(), groups=())
    return link


def is_turned_square(link: Link) -> bool:
    """Whether dimensions of equal sizes are turned because others around it are."""
    alone = len(link.left) == len(link.right) == len(link.operations) == 1
    if link.certain or not alone or not isinstance(link.operations[0], Permute):
        return False
    return any(list(dims) == sorted(dims) for dims in link_orders(link))


def _rows_doubt(link: Link, rotary: Rotary, gates: Gates) -> Reason | None:
    if _may_stand_by_head(link):
        return HEADS
    if rotary.may_turn(link):
        return ROTARY
    return FUSED if gates.may_hide(link) else None


def _may_stand_by_head(link: Link) -> bool:
    """Whether q, k and v are fused on either side; of two fused ones, whether but one is called so."""
    fused = {r for p in (*link.left, *link.right) for r in roles(p)}
    parts = [roles(p) for p in (link.left if len(link.left) > 1 else link.right)]
    both = (*link.left, *link.right)
    if any("qkv" in roles(p) for p in both):
        return bool(link.operations) or not all(map(_is_called_fused, both))
    whole = len(parts) == 3 and {"q", "k", "v"} <= fused
    return whole and bool(link.operations)


def _is_called_fused(p: Pattern) -> bool:
    """Whether its module is called so, or the one that holds a layer of it: `qkv_proj.convolution`."""
    own = roles(p) & PROJECTIONS
    return "qkv" in own or (not own and any(t.text == "@qkv" and t.depth <= LAYER for t in tokens(p.named)))


def _axes_doubt(link: Link, both_ways: BothWays) -> Reason | None:
    if len(link.left) > 1 or len(link.right) > 1:
        return None
    if is_bare(link):
        return BARE
    if both_ways.speaks_of(link):
        return WAY
    turnable = not link.operations and is_matrix(link.right[0]) and not is_table(link.right[0])
    return KERNEL if turnable and is_kernel(link) else None


def _guessed(link: Link, guess: Guess) -> Link:
    """The link with operations that nothing proves."""
    groups = tuple(link.expand()) if guess.operations else link.groups
    rivals = _sides(link) if link.certain else link.rivals
    made = replace(link, operations=guess.operations, groups=groups)
    if not link.reason:
        return doubted(made, guess.reason, rivals)
    # beside what else is open, it is a guess all the same
    return doubted(made, link.reason, rivals, beneath=(*link.beneath, guess.reason))


def _sides(link: Link) -> tuple[tuple[Pattern, ...], tuple[Pattern, ...]]:
    return link.left, link.right
