"""Whether two matched names can mean the same thing: the match against "neither belongs to anything".

Shapes and elimination alone pair what is left over on both sides, `v_proj` with `out_proj` where one side lacks the one
and the other side the other. So a match is doubted when what stands at the place where its two names differ speaks
against it: roles that exclude each other, words of their own with nothing in common, modules of another kind, or
ancestors on both sides that other leaves have settled elsewhere.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from treealign.align.knowledge.entries import parts_of
from treealign.align.knowledge.weights import SAME_NODE, SMALL_NODE
from treealign.align.matching.scoring import Side, Votes
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.words import CONTAINERS, split_words, tokens, vocabulary
from treealign.formats.cached import cached_property

ROLES = Reason("belongs", "their names say they are different things")
WORDS = Reason("belongs", "their names have nothing in common, and others of their shape are left over")
KINDS = Reason("belongs", "the modules they stand in are of different kinds")
ELSEWHERE = Reason("belongs", "the modules around them correspond to others")
NUMBERS = Reason("belongs", "the numbers in their names differ, and no series explains it")
COPY = Reason("belongs", "one of them is an averaged or a teacher's copy")
PARTS = frozenset({"q", "k", "v", "o", "gate", "up", "down"})
RANKS = "%$"


@dataclass(frozen=True, eq=False)
class Agreement:
    """Judges pairs of patterns of two sides, given votes of certain matches."""

    left: Side
    right: Side
    votes: Votes
    mirrored: npt.NDArray[np.float32] | None = None
    modules: frozenset[tuple[tuple[str, ...], tuple[str, ...]]] = frozenset()

    def of_one_module(self, i: int, j: int) -> bool:
        """Whether another leaf of the one's module certainly goes to the other's: all leaves of a module go to one."""
        return (self.left.patterns[i].segments[:-1], self.right.patterns[j].segments[:-1]) in self.modules

    def objection(self, i: int, j: int) -> str:
        """What speaks against a match, or nothing."""
        if self.left.patterns[i].template == self.right.patterns[j].template:
            return ""
        return self._contrary(i, j) or self._names(i, j) or self._ancestors(i, j)

    def _contrary(self, i: int, j: int) -> str:
        """One path is about an encoder, the other about a decoder."""
        mine, theirs = ({t.text for t in s.tokens[n]} for s, n in ((self.left, i), (self.right, j)))
        for words in vocabulary().contraries:
            if mine & words and theirs & words and not mine & theirs & words:
                return ROLES
        return ""

    def same_role(self, i: int, j: int) -> bool:
        """One path, one name, or exactly the same roles."""
        a, b = self.left.patterns[i], self.right.patterns[j]
        if a.template == b.template or a.named[-2:] == b.named[-2:]:
            return True
        module = a.named[-2:-1]
        named = any("{}" not in s and not s.isdecimal() for s in module)  # a number is a place in a list, not a role
        if named and module == b.named[-2:-1] and _parameter(self.left, i) == _parameter(self.right, j):
            return True
        mine = _own_roles(self.left, i)
        return bool(mine) and mine == _own_roles(self.right, j)

    def conversion_objection(self, parts: tuple[int, ...], whole: int, parts_left: bool) -> str:
        """The same for the parts of a whole: each must be able to be one of its parts."""
        sides = (self.left, self.right) if parts_left else (self.right, self.left)
        wanted = composed_roles(_own_roles(sides[1], whole))
        made_of = parts_of(sides[1].patterns[whole].segments, sides[1].patterns[whole].library)
        for p in parts:
            mine, known = _own_roles(sides[0], p), any(f"@{role}" in _near(sides[0], p) for role in made_of)
            if mine and wanted and not mine & wanted and not known:
                return ROLES
            if not (mine & wanted or known) and not _near(sides[0], p) & _near(sides[1], whole):
                return WORDS
            pair = (p, whole) if parts_left else (whole, p)
            if objection := self._ancestors(*pair):
                return objection
        return ""

    def _names(self, i: int, j: int) -> str:
        if self._is_second(self.left, i) != self._is_second(self.right, j):
            return COPY
        if self._numbers_differ(i, j):
            return NUMBERS
        mine, theirs = _own_roles(self.left, i), _own_roles(self.right, j)
        if (mine and theirs and not mine & theirs) or self._parts_differ(i, j):
            return ROLES
        near = _own(self.left, i) & _near(self.right, j) or _near(self.left, i) & _own(self.right, j)
        if near or mine & theirs:
            return ""
        if (mine or _own_words(self.left, i)) and (theirs or _own_words(self.right, j)):
            return WORDS
        return KINDS if self.left.companions[i] != self.right.companions[j] else ""

    def _is_second(self, side: Side, at: int) -> bool:
        """A copy beside what it is a copy of; where a side has nothing but copies, they are the weights."""
        return _is_copy(side, at) and not self._just_copies[side is self.right]

    @cached_property
    def _just_copies(self) -> tuple[bool, bool]:
        left, right = (all(_is_copy(side, at) for at in range(len(side.patterns))) for side in (self.left, self.right))
        return left, right

    def _parts_differ(self, i: int, j: int) -> bool:
        """One module in parts of an attention or an MLP that exclude each other: `key.norm` and `value.norm`."""
        a, b = self.left.patterns[i].segments, self.right.patterns[j].segments
        if a[-2:] != b[-2:] or len(a) < 3 or len(b) < 3:
            return False
        mine, theirs = _roles_at(self.left, i, 2), _roles_at(self.right, j, 2)
        return bool(mine) and bool(theirs) and not mine & theirs

    def _numbers_differ(self, i: int, j: int) -> bool:
        """The same words with other numbers, in the module or the one above it, and no common rank there."""
        if self._is_mirrored(i, j):
            return False
        for depth in (1, 2):
            mine, theirs = _numbered(self.left, i, depth), _numbered(self.right, j, depth)
            if mine is None or theirs is None or mine[0] != theirs[0] or mine[1] == theirs[1]:
                continue
            here, there = _ranks(self.left, i, depth), _ranks(self.right, j, depth)
            if here & there:
                continue
            # a bare number is a place in a list, and that list may stand at another depth on the other side
            if mine[0] or not here & _all_ranks(self.right, j) or not there & _all_ranks(self.left, i):
                return True
        return False

    def _is_mirrored(self, i: int, j: int) -> bool:
        """What was settled before is not in the table, and never mirrored."""
        known = self.mirrored is not None and i < self.mirrored.shape[0] and j < self.mirrored.shape[1]
        return known and self.mirrored is not None and bool(self.mirrored[i, j] > 0)

    def _ancestors(self, i: int, j: int) -> str:
        """Both sides' nearest settled ancestors have their counterparts elsewhere."""
        a, b = self.left.patterns[i].segments, self.right.patterns[j].segments
        there = self._settled(a, self._places_left, self._best_of_left, self.votes.nodes_right)
        here = self._settled(b, self._places_right, self._best_of_right, self.votes.nodes_left)
        away = there is not None and b[: len(there)] != there
        return ELSEWHERE if away and here is not None and a[: len(here)] != here else ""

    def _settled(
        self,
        segments: tuple[str, ...],
        places: dict[str, int],
        best: npt.NDArray[np.int64],
        others: list[str],
    ) -> tuple[str, ...] | None:
        """The counterpart of the nearest settled ancestor above the module itself."""
        for depth in range(len(segments) - 2, 0, -1):
            node = places.get(".".join(segments[:depth]))
            if node is not None and best[node] >= 0:
                return tuple(others[best[node]].split("."))
        return None

    @cached_property
    def _places_left(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.votes.nodes_left)}

    @cached_property
    def _places_right(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.votes.nodes_right)}

    @cached_property
    def _best_of_left(self) -> npt.NDArray[np.int64]:
        return _best(self.votes.dice, self.votes.size_left)

    @cached_property
    def _best_of_right(self) -> npt.NDArray[np.int64]:
        return _best(self.votes.dice.T.tocsr(), self.votes.size_right)


def _best(dice: Any, sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The counterpart of each node, or -1 where none is settled: of equals the first."""
    best = np.full(len(sizes), -1)
    rows, columns = dice.nonzero()
    order = np.lexsort((-columns, dice.data, rows))
    best[rows[order]] = np.where(dice.data[order] >= SAME_NODE, columns[order], -1)
    return np.where(sizes >= SMALL_NODE, best, -1)


def composed_roles(roles: Set[str]) -> Set[str]:
    """The roles, and those of the parts of fused ones."""
    parts = vocabulary().compositions
    return set(roles) | {p for role in roles for p in parts.get(role, ())}


def _is_copy(side: Side, at: int) -> bool:
    return any(t.text in vocabulary().secondary for t in side.tokens[at])


def names_exclude(left: Pattern, right: Pattern) -> bool:
    """Whether the names of two leaves say that they are different things, by themselves or by the module around."""
    mine, theirs = ({(t.text[1:], t.depth) for t in tokens(p.named) if t.text[0] == "@"} for p in (left, right))
    for depths, among in ((range(2), None), (range(2, 3), PARTS)):
        here, there = (
            {role for role, depth in found if depth in depths and (among is None or role in among)} - CONTAINERS
            for found in (mine, theirs)
        )
        if here and there and not here & there:
            return True
    return False


def _numbered(side: Side, at: int, depth: int) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Words and numbers of the name at a depth; None where it has no number."""
    segments = side.patterns[at].named
    if len(segments) <= depth:
        return None
    words = split_words(segments[-1 - depth])
    numbers = tuple(w for w in words if w.isdigit())
    return (tuple(w for w in words if not w.isdigit()), numbers) if numbers else None


def _ranks(side: Side, at: int, depth: int) -> set[str]:
    return {t.text for t in side.tokens[at] if t.text[0] in RANKS and t.depth == depth}


def _all_ranks(side: Side, at: int) -> set[str]:
    return {t.text for t in side.tokens[at] if t.text[0] in RANKS}


def _own_roles(side: Side, at: int) -> set[str]:
    found = {t.text[1:] for t in side.tokens[at] if t.text[0] == "@" and t.depth <= 1}
    return found - CONTAINERS


def _roles_at(side: Side, at: int, depth: int) -> set[str]:
    return {t.text[1:] for t in side.tokens[at] if t.text[0] == "@" and t.depth == depth} & PARTS


def _own(side: Side, at: int) -> set[str]:
    """Qualified words of the module's own name and the parameter's."""
    return {t.text for t in side.tokens[at] if t.qualified and t.depth <= 1 and t.text[0] not in RANKS}


def _near(side: Side, at: int) -> set[str]:
    """The same with those of the module above: a level may have been split or joined."""
    return {t.text for t in side.tokens[at] if t.qualified and t.depth <= 2 and t.text[0] not in RANKS}


def _parameter(side: Side, at: int) -> set[str]:
    """The parameter's own name in the field's words: `kernel` is `weight`."""
    return {t.text for t in side.tokens[at] if t.depth == 0 and not t.ordinal}


def _own_words(side: Side, at: int) -> set[str]:
    return {t for t in _own(side, at) if t[0] not in "@=!" and " " not in t}
