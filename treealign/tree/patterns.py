"""`KeyPattern`: keys in which indices are captures, matched segment by segment.

The grammar: segments between dots, each a literal or holding captures; ``{i}`` is one index (ASCII digits, no leading
zeros), alone or inside a segment; ``{i+1}`` and ``{i-1}`` shift it, ``{i:3..60}`` limits it; ``{part:layers|norm}`` is
one of several literals. A leading ``**.`` stands for any number of segments, a trailing ``$`` for the end of the key.
Half a segment never matches, and there is no backtracking: the first position at which the whole run of segments
matches is the one that counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from treealign.errors import PatternError
from treealign.formats.cached import cached_property
from treealign.tree.grammar import Choice, SegmentPattern, is_literal, read_segments
from treealign.tree.segments import NO_SLOTS, Capture, Captured, Captures, Name, Slots, cut

__all__ = ["Capture", "Choice", "KeyPattern", "Position", "is_literal"]

_GRAMMAR = (
    "a key pattern is segments between dots, with {i}, {i+1}, {i:3..60}, {part:layers|norm}, "
    "a leading **. or a trailing $"
)


class Position(NamedTuple):
    """Where a pattern matches: the run of segments `start` up to `stop`, and what it captures there."""

    start: int
    stop: int
    captures: Captures


@dataclass(frozen=True)
class KeyPattern:
    """A pattern for runs of segments of a key. Build one with `KeyPattern.parse`.

    Attributes
    ----------
    text : str
        As it was written.
    anywhere : bool
        ``**.`` stands in front: the run may begin at any segment, the first at which it matches.
    at_end : bool
        ``$`` stands behind: the run ends where the key ends.
    segments : tuple of SegmentPattern
        The run.
    """

    text: str
    anywhere: bool
    at_end: bool
    segments: tuple[SegmentPattern, ...]

    @classmethod
    def parse(cls, text: str) -> KeyPattern:
        """Read a pattern.

        Raises
        ------
        PatternError
            The text is no key pattern; the message lists everything that is wrong with it.

        >>> KeyPattern.parse("**.layers.{i}.norm{k}").match("model.layers.3.norm2.weight")
        Position(start=1, stop=4, captures={'i': '3', 'k': '2'})
        """
        if not isinstance(text, str):
            raise PatternError(f"a key pattern is text, not {text!r}", hint=_GRAMMAR)
        run = text.removeprefix("**.").removesuffix("$")
        segments, reasons = read_segments(run)
        if reasons:
            raise PatternError(f"`{text}` is no key pattern", facts=reasons, hint=_GRAMMAR)
        return cls(text, text.startswith("**."), text.endswith("$"), segments)

    @cached_property
    def captures(self) -> dict[str, Capture | Choice]:
        """The captures by name, in the order in which they stand."""
        parts = (part for segment in self.segments for part in segment.parts)
        return {part.name: part for part in parts if not isinstance(part, str)}

    @cached_property
    def words(self) -> frozenset[str]:
        """The literals that a name must have among its segments; those with digits could be a folded index there."""
        return frozenset(text for _, text in self._plain)

    @cached_property
    def _plain(self) -> tuple[tuple[int, str], ...]:
        literals = ((at, segment.literal) for at, segment in enumerate(self.segments))
        return tuple((at, text) for at, text in literals if text is not None and len(cut(text)) == 1)

    @cached_property
    def _others(self) -> tuple[tuple[int, SegmentPattern], ...]:
        plain = {at for at, _ in self._plain}
        return tuple((at, segment) for at, segment in enumerate(self.segments) if at not in plain)

    @cached_property
    def depth(self) -> int:
        """How many segments of the run lead down to the last capture, that one included."""
        holding = [at for at, segment in enumerate(self.segments) if segment.literal is None]
        return holding[-1] + 1 if holding else 0

    def limited(self, captures: Mapping[str, Capture | Choice]) -> KeyPattern:
        """The pattern with range and choice of these captures in place of its own; shifts stay."""
        return replace(self, segments=tuple(segment.limited(captures) for segment in self.segments))

    def match(self, key: str | Name, start: int = 0, slots: Slots = NO_SLOTS) -> Position | None:
        """The first position from segment `start` on at which the pattern matches, or None.

        Without ``**.`` that can only be `start` itself. `slots` is for folded names: see `match_segment`.
        """
        return next(self.positions(key, start, slots), None)

    def positions(self, key: str | Name, start: int = 0, slots: Slots = NO_SLOTS) -> Iterator[Position]:
        """Every position at which it could match, the first first; more than one is worth a finding."""
        name = tuple(key.split(".")) if isinstance(key, str) else key
        for at in self._starts(name, start):
            captures = self._match_at(name, at, slots)
            if captures is not None:
                yield Position(at, at + len(self.segments), captures)

    def _starts(self, name: Name, start: int) -> Sequence[int]:
        last = len(name) - len(self.segments)
        if not self.anywhere:
            return (start,) if start == last or (start < last and not self.at_end) else ()
        if self.at_end:
            return (last,) if start <= last else ()
        if self._plain:
            at, text = self._plain[0]
            return [n for n in range(start, last + 1) if name[n + at] == text]
        return range(start, last + 1)

    def _match_at(self, name: Name, at: int, slots: Slots) -> Captures | None:
        for offset, text in self._plain:  # first: an index need not be known where the words differ
            if name[at + offset] != text:
                return None
        captures: Captures = {}
        for offset, segment in self._others:
            found = segment.match(name[at + offset], slots)
            if found is None:
                return None
            captures.update(found)
        return captures

    def substitute(self, captures: Mapping[str, Captured]) -> Name:
        """The run of segments that it stands for, given what its captures hold.

        Raises
        ------
        KeyError
            A capture is not given.
        """
        return tuple(segment.fill(captures) for segment in self.segments)

    def __str__(self) -> str:
        return self.text
