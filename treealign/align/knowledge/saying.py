"""What the entries that hold for the two sides of a match say of the order of its parts and of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TypeVar

from treealign.align.asking.rows import is_join
from treealign.align.doubting.habits import Habits, is_head_norm
from treealign.align.doubting.rotary import roles
from treealign.align.hints import Said
from treealign.align.knowledge.entries import Fused, Layout, layouts
from treealign.align.links import Link, joining
from treealign.align.patterns import Pattern

T = TypeVar("T")
ATTENTION = frozenset({"q", "k", "qkv", "v", "kv"})
HALVES = 2
STORED = Said("rows", "as stored")
TURNED = frozenset({"half split", "interleaved"})
STATES = TURNED | {"none"}  # what is not one of them is the name of another library


class Saying:
    """What the entries that hold for the two sides of a link say of it."""

    def __init__(self, link: Link, habits: Habits | None) -> None:
        self.link = link
        self.habits = habits
        self.used: dict[str, str] = {}

    def evidence(self) -> Iterator[str]:
        """What was settled, by which entry, and how that was checked."""
        for name, what in self.used.items():
            yield f"layout {name}: {what} ({layouts()[name].checked})"

    def said(self) -> Said | None:
        """The statement that settles order and rows together; None where something stays open."""
        if not (ATTENTION & self._roles() or self._fused_sides()):
            return self._scaled()
        wholes = [self.fused(p) for side in (self.link.left, self.link.right) if len(side) == 1 for p in side]
        if self._is_attention() and not self.turn_alike():
            return self._turned()
        if is_join(joining(self.link)):
            return self._joined(wholes)
        if len(self.link.left) != 1 or len(self.link.right) != 1:
            return None
        if not self._is_whole():
            return STORED
        return self._whole(*wholes)

    def _whole(self, left: Fused | None, right: Fused | None) -> Said | None:
        """How the rows of a whole stand that is one on both sides."""
        if left is None or left == right:
            return None if left is None else STORED
        halves = right is not None and len(left.parts) == HALVES and left.stand == right.stand == "by part"
        return Said("rows", "swapped") if halves and right is not None and left.parts == right.parts[::-1] else None

    def _scaled(self) -> Said | None:
        """How the entries of a norm of q or of k stand: as the rows do that it scales."""
        if "rows" not in self.link.open or not self._scales():
            return None
        return STORED if self.turn_alike() else self._turned()

    def _joined(self, wholes: Sequence[Fused | None]) -> Said | None:
        """How the parts stand in a whole that is joined or cut."""
        made = wholes[0]
        if made is None:
            return None
        if made.stand == "by part":
            return Said("rows", "by part", 0, "", (), made.parts)
        end = "checkpoint" if len(self.link.left) == 1 else "model"
        if made.stand == "in turns":
            return Said("rows", "in turns", 0, end, (), made.parts)
        size = self.habits.proven_head_size(self.link) if self.habits is not None else None
        return None if size is None else Said("rows", "by head", size, end, (), made.parts)

    def _turned(self) -> Said | None:
        """Rows of q or k alone that one side has in turns and the other in halves, where a leaf proves the size."""
        if len(self.link.left) != 1 or len(self.link.right) != 1 or self._is_whole() or self.habits is None:
            return None
        states = [{w for ways in side.values() for w in ways} & STATES for side in self._ways]
        if {frozenset(state) for state in states} != {frozenset({"half split"}), frozenset({"interleaved"})}:
            return None
        size = self.habits.proven_head_size(self.link)
        if size is None or not self._take(self._ways, {"half split", "interleaved"}, f"rotary rows, heads of {size}"):
            return None
        return Said("rows", "to half split" if states[1] == {"half split"} else "to interleaved", size)

    def is_turned(self) -> bool:
        """Whether it is a q or a k."""
        return bool({"q", "k", "qkv"} & self._roles())

    def _roles(self) -> set[str]:
        return {role for p in (*self.link.left, *self.link.right) for role in roles(p)}

    def _is_whole(self) -> bool:
        return bool(self._roles() & {"qkv", "kv", "gate up"}) or self._fused_sides()

    def _fused_sides(self) -> bool:
        both = (*self.link.left, *self.link.right)
        return any(entry.fused(p.segments[depth:]) for p in both for entry, depth in entries_of(p))

    def _is_attention(self) -> bool:
        made = next((f for p in (*self.link.left, *self.link.right) if (f := self.fused(p))), None)
        return bool({"q", "k"} & set(made.parts)) if made is not None else bool(ATTENTION & self._roles())

    def _scales(self) -> bool:
        """Whether it is a norm of q or of k, doubted as their rows are."""
        norms = any(is_head_norm(name) for p in (self.link.left[0], self.link.right[0]) for name in p.named[-2:])
        return norms and not self.link.operations and all(len(s or ()) == 1 for s in self.link.right[0].shapes.values())

    def fused(self, p: Pattern) -> Fused | None:
        """How a whole is made, where all entries that speak of it agree."""
        said = {entry: made for entry, depth in entries_of(p) if (made := entry.fused(p.segments[depth:]))}
        made = agreed(said)
        if made is not None:
            self.used.update({entry.name: made.text for entry in said if entry.run and entry.name not in self.used})
        return made

    def turn_alike(self) -> bool:
        """Whether rotary embeddings turn the rows of q and k of both sides alike, or turn nothing."""
        left, right = (frozenset().union(*said.values()) for said in self._ways)
        states = (left | right) & STATES
        if len(states) > 1:
            return False
        if states == {"none"}:
            return self._take(self._ways, states, "no rotary embedding")
        alike = left & right
        text = "rotary rows " + " and ".join(way if way in STATES else f"as in {way}" for way in sorted(alike))
        return bool(alike) and self._take(self._ways, alike, text)

    def _take(self, sides: Sequence[Mapping[Layout, frozenset[str]]], ways: Set[str], text: str) -> bool:
        """Note the entries that say so; whether each side that says it has one that was checked by running."""
        saying = [[entry for entry, said in side.items() if said & ways] for side in sides]
        if not all(any(entry.run for entry in side) for side in saying if side):
            return False
        for entry in (entry for side in saying for entry in side if entry.run):
            self.used[entry.name] = f"{self.used[entry.name]}, {text}" if entry.name in self.used else text
        return True

    @property
    def _ways(self) -> list[dict[Layout, frozenset[str]]]:
        """How rows of q and k stand, by the entries of either side that say so."""
        return [
            {e: e.rotary for p in side for e, _ in entries_of(p) if e.rotary}
            for side in (self.link.left, self.link.right)
        ]


def stands_by_part(link: Link) -> bool:
    """Whether what is known of the whole that is joined or cut is that its parts stand one after the other."""
    wholes = [p for side in (link.left, link.right) if len(side) == 1 for p in side]
    made = Saying(link, None).fused(wholes[0]) if is_join(joining(link)) else None
    return made is not None and made.stand == "by part"


def rotary_way(link: Link) -> str:
    """Which way rows of q and k are turned if they are, by the entries of the side that is known for one order."""
    here, there = (
        {way for p in side for entry, _ in entries_of(p) for way in entry.rotary & TURNED}
        for side in (link.left, link.right)
    )
    if here == there or max(len(here), len(there)) > 1:
        return ""
    return "to half split" if "half split" in there or "interleaved" in here else "to interleaved"


def entries_of(p: Pattern) -> Iterator[tuple[Layout, int]]:
    """The entries that hold for a leaf, each with the depth of its root."""
    for known in p.library:
        yield layouts()[known.name], known.depth


def agreed(said: Mapping[Layout, T]) -> T | None:
    """What all entries say, one of which was checked by running; None where any contradicts another."""
    different = set(said.values())
    return different.pop() if len(different) == 1 and any(entry.run for entry in said) else None
