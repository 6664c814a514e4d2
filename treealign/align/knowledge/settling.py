"""What known layouts settle: the order of parts, and how rows stand, where both sides are recognised.

A settler answers what is open about a match and changes nothing else. It speaks only where all entries that hold for a
leaf agree, and where each was checked by running the library's code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import TypeVar

from treealign.align.asking.arranging import arranged
from treealign.align.asking.rows import is_join
from treealign.align.doubting.rotary import roles
from treealign.align.hints import Said
from treealign.align.knowledge.entries import Fused, Layout, layouts
from treealign.align.links import Link, joining
from treealign.align.patterns import Pattern
from treealign.align.reasons import About
from treealign.align.verdict import settled_if_answered

ATTENTION = frozenset({"q", "k", "qkv", "v", "kv"})
STORED = Said("rows", "as stored")
T = TypeVar("T")
LINEAR = {"Linear": "outputs", "Conv1D": "inputs"}  # torch.nn.Linear; transformers.pytorch_utils.Conv1D
_LIBRARIES = frozenset({"transformers", "llama.cpp"})  # as which another library stores rows, whatever these do


def settled_by_layouts(links: Sequence[Link], modules: Mapping[str, str]) -> list[Link]:
    """The links, those settled in what known layouts speak of.

    Parameters
    ----------
    links : sequence of Link
        As they are judged without.
    modules : mapping
        Classes of the model's modules by path, where these are known.

    """
    linear = {_numbered(path): LINEAR[name] for path, name in modules.items() if name in LINEAR}
    return [link if link.certain else _settled(link, linear) for link in links]


def _settled(link: Link, linear: Mapping[str, str]) -> Link:
    if {"order", "rows"} & link.open.keys():
        verdict = _Verdict(link)
        link = _answered(link, verdict.said(), ("order", "rows"), verdict.evidence())
    if "axes" in link.open:
        said, evidence = _axes(link, linear)
        link = _answered(link, said, ("axes",), evidence)
    return link


def _answered(link: Link, said: Said | None, about: tuple[About, ...], evidence: Iterable[str]) -> Link:
    made = None if said is None else arranged(link, said)
    if made is None:
        return link
    return settled_if_answered(replace(made, answered=(*made.answered, *about), evidence=(*made.evidence, *evidence)))


def _axes(link: Link, linear: Mapping[str, str]) -> tuple[Said | None, list[str]]:
    """Which way round a matrix stands on either side, and by which entries."""
    firsts, used = [], []
    for side, classes in ((link.left, {}), (link.right, linear)):
        p = side[0]
        said = {entry: first for entry, depth in _entries(p) if (first := entry.first(p.segments[depth:]))}
        known = classes.get(_numbered(".".join(p.segments[:-1]))) if p.segments[-1] == "weight" else None
        firsts.append(known if known is not None and not said else _agreed(said))
        used += [f"layout {e.name}: {first} first ({e.checked})" for e, first in said.items() if e.run]
    if None in firsts:
        return None, []
    return Said("axes", "as stored" if firsts[0] == firsts[1] else "transposed"), used


def _numbered(path: str) -> str:
    return ".".join("{}" if segment.isdigit() else segment for segment in path.split("."))


class _Verdict:
    """What the entries that hold for the two sides of a link say of it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.used: dict[str, str] = {}

    def evidence(self) -> Iterator[str]:
        """What was settled, by which entry, and how that was checked."""
        for name, what in self.used.items():
            yield f"layout {name}: {what} ({layouts()[name].checked})"

    def said(self) -> Said | None:
        """The statement that settles order and rows together; None where something stays open."""
        if not (ATTENTION & self._roles() or self._fused_sides()):
            return STORED if "rows" in self.link.open and self._scales() and self._turn_alike() else None
        wholes = [self._fused(p) for side in (self.link.left, self.link.right) if len(side) == 1 for p in side]
        if self._is_attention() and not self._turn_alike():
            return None
        if is_join(joining(self.link)):
            return self._joined(wholes)
        if len(self.link.left) != 1 or len(self.link.right) != 1:
            return None
        if not self._is_whole():
            return STORED
        return STORED if wholes[0] is not None and wholes[0] == wholes[1] else None

    def _joined(self, wholes: Sequence[Fused | None]) -> Said | None:
        """How the parts stand in a whole that is joined or cut."""
        made = wholes[0]
        if made is None or made.stand not in ("by part", "in turns"):
            return None
        if made.stand == "in turns":
            return Said("rows", "in turns", 0, "checkpoint" if len(self.link.left) == 1 else "model", (), made.parts)
        return Said("rows", "by part", 0, "", (), made.parts)

    def _roles(self) -> set[str]:
        return {role for p in (*self.link.left, *self.link.right) for role in roles(p)}

    def _is_whole(self) -> bool:
        return bool(self._roles() & {"qkv", "kv", "gate up"}) or self._fused_sides()

    def _fused_sides(self) -> bool:
        both = (*self.link.left, *self.link.right)
        return any(entry.fused(p.segments[depth:]) for p in both for entry, depth in _entries(p))

    def _is_attention(self) -> bool:
        made = next((f for p in (*self.link.left, *self.link.right) if (f := self._fused(p))), None)
        return bool({"q", "k"} & set(made.parts)) if made is not None else bool(ATTENTION & self._roles())

    def _scales(self) -> bool:
        """Whether it is a norm of q or of k, doubted as their rows are."""
        return not self.link.operations and all(len(s or ()) == 1 for s in self.link.right[0].shapes.values())

    def _fused(self, p: Pattern) -> Fused | None:
        """How a whole is made, where all entries that speak of it agree."""
        said = {entry: made for entry, depth in _entries(p) if (made := entry.fused(p.segments[depth:]))}
        made = _agreed(said)
        if made is not None:
            self.used.update({entry.name: made.text for entry in said if entry.run and entry.name not in self.used})
        return made

    def _turn_alike(self) -> bool:
        """Whether rotary embeddings turn the rows of q and k of both sides alike, or turn nothing."""
        sides = [{e: e.rotary for p in side for e, _ in _entries(p) if e.rotary} for side in self._sides]
        left, right = (frozenset().union(*said.values()) for said in sides)
        if any({"half split", "interleaved"} <= ways or ("none" in ways and len(ways) > 1) for ways in (left, right)):
            return False
        if "none" in left | right:
            if (left | right) & {"half split", "interleaved"}:
                return False
            return self._take(sides, {"none"}, "no rotary embedding")
        alike = left & right
        text = "rotary rows " + " and ".join(f"as in {way}" if way in _LIBRARIES else way for way in sorted(alike))
        return bool(alike) and self._take(sides, alike, text)

    def _take(self, sides: Sequence[Mapping[Layout, frozenset[str]]], ways: Set[str], text: str) -> bool:
        """Note the entries that say so; whether each side that says it has one that was checked by running."""
        saying = [[entry for entry, said in side.items() if said & ways] for side in sides]
        if not all(any(entry.run for entry in side) for side in saying if side):
            return False
        for entry in (entry for side in saying for entry in side if entry.run):
            self.used[entry.name] = f"{self.used[entry.name]}, {text}" if entry.name in self.used else text
        return True

    @property
    def _sides(self) -> tuple[tuple[Pattern, ...], tuple[Pattern, ...]]:
        return self.link.left, self.link.right


def _entries(p: Pattern) -> Iterator[tuple[Layout, int]]:
    """The entries that hold for a leaf, each with the depth of its root."""
    for known in p.library:
        yield layouts()[known.name], known.depth


def _agreed(said: Mapping[Layout, T]) -> T | None:
    """What all entries say, one of which was checked by running; None where any contradicts another."""
    different = set(said.values())
    return different.pop() if len(different) == 1 and any(entry.run for entry in said) else None
