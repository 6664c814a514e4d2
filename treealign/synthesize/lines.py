"""Many names searched for a rule at once: an index of their segments finds the few that can match."""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from treealign.synthesize.rules import SLOTTED, Found, Side
from treealign.synthesize.templates import PartialMatch, Values
from treealign.tree.segments import Leaves, Name, Segment, cut


class Line(NamedTuple):
    """A name to be searched.

    `template` numbers the template it belongs to, or is -1. A name half on its way is one side's from segment `begin`
    on, and stands there at another place: `offset` leads from a position in the name to that in the side.
    """

    name: Name
    values: Values
    template: int = -1
    offset: int = 0
    begin: int = 0


class Hit(NamedTuple):
    """A line that a rule matches. `found` is None where it matches in part, or at two positions."""

    line: int
    found: Found | None


class Lines:
    """An index of names by the text of their segments, with digits and without."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = list(lines)
        self.searched = 0  # names looked at, over all searches
        self._index: dict[Hashable, list[int]] = {}
        self._unions: dict[frozenset[Hashable], list[int]] = {}
        for number, line in enumerate(self.lines):
            for skeleton in _skeletons(line.name):
                self._index.setdefault(skeleton, []).append(number)

    def rename(self, number: int, name: Name) -> None:
        """Give a line another name."""
        line = self.lines[number]
        self._unions.clear()
        before, after = _skeletons(line.name), _skeletons(name)
        for skeleton in before - after:
            self._index[skeleton].remove(number)
        for skeleton in after - before:
            insort(self._index.setdefault(skeleton, []), number)
        self.lines[number] = line._replace(name=name)

    def find(self, side: Side) -> Iterator[Hit]:
        """All lines that one side of a rule matches."""
        for number in self._candidates(side):
            line = self.lines[number]
            self.searched += 1
            try:
                found = side.find(line.name, line.values)
            except PartialMatch:
                yield Hit(number, None)
            else:
                if found:
                    yield Hit(number, found[0] if len(found) == 1 else None)

    def _candidates(self, side: Side) -> Iterable[int]:
        found = (self._having(skeletons) for skeletons in side.skeletons)
        return min(found, key=len, default=range(len(self.lines)))

    def _having(self, skeletons: frozenset[Hashable]) -> Sequence[int]:
        """The lines that have one of these texts."""
        if len(skeletons) == 1:
            return self._index.get(next(iter(skeletons)), ())
        if skeletons not in self._unions:
            lists = (self._index.get(skeleton, ()) for skeleton in skeletons)
            self._unions[skeletons] = sorted(set().union(*lists))
        return self._unions[skeletons]


def _skeletons(name: Name) -> set[Hashable]:
    last = name[-1:]
    words: Iterable[Segment] = (*name[:-1], *last[0]) if last and isinstance(last[0], Leaves) else name
    return {key for segment in words for key in _keys(segment)}


def _keys(segment: Segment) -> Iterator[Hashable]:
    """Its text without digits, for patterns with captures; for those without, the whole, or that it has slots."""
    pieces = cut(segment) if isinstance(segment, str) else segment
    yield pieces[::2]
    if len(pieces) > 1:
        yield segment if isinstance(segment, str) else (SLOTTED, *pieces[::2])
