"""Changes that shapes cannot show. Nothing here is assumed in silence: a match that may hide one is no longer certain.

- heads: rows of a fused qkv may be grouped head by head, in one library and not in another.
- rotary row order: two libraries may store the rows of q and k interleaved or half-split. Where the attention module is
  spelled differently on the two sides and the tower has no learned positions, the spelling tells of two conventions.
- fused gate and up: rows one after another, or taking turns. Where the fused name differs, so may the order.
- transposed square matrices: where all other matrices of a block are transposed, so are the square ones.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from treealign.align.doubting.habits import Guess, Habits
from treealign.align.doubting.layouts import BothWays, Turned, all_turned, is_bare, is_cut_square, is_kernel, is_table
from treealign.align.doubting.transposition import block, is_matrix, is_square
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.words import quantised_piece, tokens, unwrapped
from treealign.mapping.operations import Deinterleave, Interleave, Permute, RotaryPermute, RotaryUnpermute

ROTARY = Reason(
    "rows",
    "rows of q and k may be in another rotary order: the attention is spelled differently, shapes cannot show it",
)
FUSED = Reason("rows", "the fused rows may take turns on one side: the names differ, and shapes cannot show it")
HEADS = Reason("rows", "the rows of a fused qkv may be grouped by head, which shapes cannot show")
SQUARE = Reason("axes", "a square matrix in a block whose other matrices are transposed: shapes cannot show it")
KERNEL = Reason(
    "axes", "a kernel has its inputs first and a weight its outputs: one would be the transpose of the other"
)
WAY = Reason(
    "axes",
    "a bare parameter on one side and a layer's weight on the other: both sides hold a matrix of its transpose, too",
)
BARE = Reason("axes", "a square matrix of its own on one side, of a layer on the other: either may be the transpose")
KERNELS = "a kernel among kernels that are all transposed"
OUTPUTS = {"lora_b", "lora_magnitude_vector"}  # of an adapter: one row for each output of its layer
TURNED = {"q", "k", "qkv"}
Path = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Conventions:
    """What two sides show of the conventions of their libraries: what a match is judged by.

    Attributes
    ----------
    habits : Habits
        Of either library.
    learned : set of tuple of str
        Towers of the model in which positions are learned.
    turned : Turned
        Where all matrices that can show it are transposed.
    both_ways : BothWays
        Where matrices of a shape and of its transpose stand.
    """

    habits: Habits
    learned: frozenset[Path]
    turned: Turned
    both_ways: BothWays

    @classmethod
    def of(cls, links: Sequence[Link], habits: Habits) -> Conventions:
        """Read them off the matches."""
        both_ways = BothWays.of(habits.left, habits.right)
        return cls(habits, frozenset(_learned_positions(links)), all_turned(links), both_ways)

    def judged(self, given: Link) -> Link:
        """The link, uncertain if it may hide a change, and changed as a habit suggests."""
        link = _turned_kernel(given, self.turned)
        guess = _suggested(link, self.learned, self.turned, self.habits)
        if guess is None and link.certain and (reasons := self.doubts(link)):
            guess = Guess(link.operations, reasons[0])
        return link if guess is None else _guessed(link, guess)

    def doubts(self, link: Link) -> tuple[Reason, ...]:
        """What the names of a link may hide, each aspect apart from the others."""
        found = _rows_doubt(link, self.learned), _axes_doubt(link, self.both_ways)
        return tuple(reason for reason in found if reason is not None)


def hidden_changes(links: Sequence[Link], conventions: Conventions) -> list[Link]:
    """The links, those that may hide a change marked uncertain with the reason, changed as habits of libraries suggest.

    No hint about names settles any of it: names say nothing of rows and axes.
    """
    return _with_their_norms([conventions.judged(link) for link in links])


def _turned_kernel(link: Link, transposed: Turned) -> Link:
    """The transpose of a square kernel, which is one wherever it is called so and all others of its block are.

    Not a habit of one library: `kernel` has its inputs first in TensorFlow, Keras and Flax alike, `weight` its outputs.
    """
    turned = link.certain and not link.operations and is_square(link.left[0]) and is_kernel(link)
    if not turned or not transposed.settles(link):
        return link
    return replace(link, operations=(Permute((1, 0)),), groups=tuple(link.expand()), evidence=(*link.evidence, KERNELS))


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
    words = {t.text for t in tokens(link.right[0].segments) if t.depth <= 1}
    return {"q", "k"} & words if "norm" in words else set()


def hidden_beneath(links: Sequence[Link]) -> dict[int, str]:
    """What uncertain links may hide, whatever they are doubted for: id of the link to the reason."""
    learned = _learned_positions(links)
    found: dict[int, str] = {}
    for link in links:
        base = without_guess(link)
        if link.certain:
            continue
        if len(link.left) == len(link.right) == 1 and "qkv" in roles(link.left[0]) | roles(link.right[0]):
            found[id(link)] = HEADS
        elif _may_turn(base, learned):
            found[id(link)] = ROTARY
        elif _may_alternate(base):
            found[id(link)] = FUSED
    return found


def without_guess(link: Link) -> Link:
    """A link of one pattern to one without the operations that only a habit or its surroundings suggest."""
    if link.certain or len(link.left) != 1 or len(link.right) != 1 or not link.operations:
        return link
    hidden = (RotaryPermute, RotaryUnpermute, Interleave, Deinterleave)
    if all(isinstance(o, hidden) for o in link.operations) or is_turned_square(link):
        return replace(link, operations=(), groups=())
    return link


def is_turned_square(link: Link) -> bool:
    """Whether a square matrix is transposed because others around it are."""
    return not link.certain and link.operations == (Permute((1, 0)),) and is_square(link.left[0])


def rotated_parts(link: Link) -> tuple[Pattern, ...]:
    """The patterns of a link that stand for q or k alone: the model's, or those that are joined."""
    side = link.left if len(link.left) > 1 else link.right
    return side if len(side) == 1 else tuple(p for p in side if {"q", "k"} & roles(p))


def _suggested(link: Link, learned: Set[Path], transposed: Turned, habits: Habits) -> Guess | None:
    """Operations that what is known of the block or of the libraries suggests."""
    if not link.operations and is_square(link.left[0]) and transposed.speaks_of(link):
        return Guess((Permute((1, 0)),), SQUARE)
    if is_cut_square(link) and transposed.speaks_of(link):
        turn = Permute((1, 0))
        return Guess((turn, *link.operations) if is_square(link.left[0]) else (*link.operations, turn), SQUARE)
    guess = habits.fused(link)
    if guess is None and link.certain and _turns(link, learned):
        guess = habits.rotary(link)
    return guess


def _rows_doubt(link: Link, learned: Set[Path]) -> Reason | None:
    if _may_stand_by_head(link):
        return HEADS
    if _may_turn(link, learned):
        return ROTARY
    return FUSED if _may_alternate(link) else None


def _may_stand_by_head(link: Link) -> bool:
    """Whether q, k and v are fused on either side."""
    fused = {r for p in (*link.left, *link.right) for r in roles(p)}
    parts = [roles(p) for p in (link.left if len(link.left) > 1 else link.right)]
    if any("qkv" in r for r in (roles(p) for p in (*link.left, *link.right))):
        return bool(link.operations)
    whole = len(parts) == 3 and {"q", "k", "v"} <= fused
    return whole and bool(link.operations)


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
    reason = link.reason or guess.reason
    rivals = _sides(link) if link.certain else link.rivals
    return replace(link, operations=guess.operations, groups=groups, certain=False, reason=reason, rivals=rivals)


def _sides(link: Link) -> tuple[tuple[Pattern, ...], tuple[Pattern, ...]]:
    return link.left, link.right


def roles(p: Pattern) -> set[str]:
    """What a leaf stands for in an attention or an MLP, by its own name and its module's."""
    return {t.text[1:] for t in tokens(_layer(p)) if t.text[0] == "@" and t.depth <= 1}


def _layer(p: Pattern) -> Path:
    """The path of the layer's own weight, for what an adapter adds to its outputs: these have the same rows."""
    named = unwrapped(p.segments)
    at = next((at for at, s in enumerate(named) if s.lower() in OUTPUTS), None)
    return named if at is None else (*named[:at], "weight")


def _module(p: Pattern) -> Path:
    """The spelling of the attention: its name and that of the projection."""
    named = _layer(p)
    end = next((at for at, s in enumerate(named) if s in {"weight", "bias"} or quantised_piece(s)), len(named))
    return named[max(end - 2, 0) : end]


def _turns(link: Link, learned: Set[Path]) -> bool:
    """Whether it may be a rotated q or k at all."""
    found = [r for side in (link.left, link.right) for p in side for r in roles(p)]
    if not TURNED & set(found) or any(p.segments[: len(tower)] == tower for p in link.right for tower in learned):
        return False
    return not any("norm" in t.text for p in link.right for t in tokens(p.segments))


def _may_turn(link: Link, learned: Set[Path]) -> bool:
    differ = bool(link.operations) or _module(link.left[0]) != _module(link.right[0])
    return differ and _turns(link, learned)


def _learned_positions(links: Sequence[Link]) -> set[Path]:
    """Towers of the model in which positions are learned, as a table or a bias: no rotary embedding there."""
    return {tower for link in links for p in link.right if (tower := _tower_of_positions(p)) is not None}


def _tower_of_positions(p: Pattern) -> Path | None:
    found = tokens(p.segments)
    words = {t.text for t in found}
    if {"rel", "pos"} <= words:
        capture = next((at for at, s in enumerate(p.segments) if "{}" in s), len(p.segments) - 1)
        return p.segments[: max(capture - 1, 0)]
    depths = [t.depth for t in found if t.text == "@pos embed"]
    # the table stands in a module of its own or not, and that in one for embeddings
    return p.segments[: max(len(p.segments) - 2 - min(depths), 0)] if depths else None


def _may_alternate(link: Link) -> bool:
    if link.operations or "gate up" not in roles(link.left[0]) | roles(link.right[0]):
        return False
    return _module(link.left[0])[-1:] != _module(link.right[0])[-1:]
