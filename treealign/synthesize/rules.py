"""Rules as the search sees them: an edit with its context, still without guard and not yet written as a transform."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from treealign.formats.cached import cached_property
from treealign.synthesize.templates import PartialMatch, Values
from treealign.tree.grammar import Choice, SegmentPattern
from treealign.tree.keys import is_index
from treealign.tree.segments import Capture, Captures, Leaves, Name, Segment, Slots, cut

Run: TypeAlias = tuple[SegmentPattern, ...]
Move: TypeAlias = "tuple[Rule, ...]"  # rules that work at once; mostly one


SLOTTED = object()  # marks what a segment with slots is called by patterns without captures


class Found(NamedTuple):
    """Where a rule applies: the first segment that it replaces, the run it looks at, and what it captures."""

    at: int
    first: int
    stop: int
    captures: Captures


@dataclass(frozen=True)
class Side:
    """What a rule looks for on one side: `scope` at the root, then `run`, with `left` and `right` kept segments in it.

    Without a gap `run` follows `scope`; with one it stands anywhere below it.
    """

    scope: Run
    gap: bool
    left: Run
    old: Run
    right: Run
    at_end: bool

    @cached_property
    def _words(self) -> frozenset[str]:
        """Segments that stand in every name it matches: a cheap first test."""
        return frozenset(s.literal for s in self.patterns if s.literal is not None and len(cut(s.literal)) == 1)

    @cached_property
    def patterns(self) -> Run:
        """All segments it looks for."""
        return (*self.scope, *self.left, *self.old, *self.right)

    @cached_property
    def skeletons(self) -> tuple[frozenset[Hashable], ...]:
        """For each segment it looks for what `lines` calls those of which one stands there."""
        return tuple(_segment(s).skeletons for s in self.patterns)

    @cached_property
    def _scope(self) -> _Matcher:
        return _Matcher(self.scope)

    @cached_property
    def _run(self) -> _Matcher:
        return _Matcher((*self.left, *self.old, *self.right))

    def find(self, name: Name, slots: Slots) -> list[Found]:
        """Where it matches: nowhere, once, or the first two positions."""
        if not self._words.issubset(name) and not (
            name and isinstance(name[-1], Leaves) and self._words.issubset({*name, *name[-1]})
        ):
            return []
        held = self._scope.match(name, 0, slots)
        if held is None:
            return []
        found: list[Found] = []
        first, length = len(self.scope), len(self._run.run)
        last = len(name) - length
        for start in self._run.starts(name) if self.gap else (first,):
            if start < first or start > last or (self.at_end and start != last):
                continue
            captures = self._run.match(name, start, slots)
            at = start + len(self.left)
            if captures is None or self._is_nothing(at, len(name)):
                continue
            # anchored: what comes before matters, too
            found.append(Found(at, start if self.gap else -1, start + length, {**held, **captures}))
            if len(found) == 2:
                break
        return found

    def _is_nothing(self, at: int, length: int) -> bool:
        """Levels are put in front of something."""
        return at == length and not (self.gap or self.at_end or self.old or self.right)


def _keys(pieces: tuple[str | Capture, ...]) -> Iterator[Hashable]:
    texts = [p for p in pieces if isinstance(p, str)]
    if 1 < len(texts) == len(pieces):
        yield "".join(texts)
        yield (SLOTTED, *texts[::2])
    else:
        yield pieces[::2]


class _Matcher:
    """A run of segments, its plain text compared first: an index need not be known where the words differ."""

    def __init__(self, run: Run) -> None:
        self.run = run
        texts = [(at, s.literal) for at, s in enumerate(run)]
        self._plain = [(at, text) for at, text in texts if text is not None and len(cut(text)) == 1]
        plain = {at for at, _ in self._plain}
        self._others = [(at, _segment(s)) for at, s in enumerate(run) if at not in plain]

    def starts(self, name: Name) -> Iterable[int]:
        """Where it may begin in a name."""
        if not self._plain:
            return range(len(name) - len(self.run) + 1)
        at, text = self._plain[0]
        found = [n - at for n, segment in enumerate(name) if segment == text]
        if name and isinstance(name[-1], Leaves) and text in name[-1]:
            found.append(len(name) - 1 - at)
        return found

    def match(self, name: Name, start: int, slots: Slots) -> Captures | None:
        """What the run captures if it stands there."""
        if start + len(self.run) > len(name):
            return None
        partial = False
        for at, text in self._plain:
            found = name[start + at]
            if found != text:
                if not isinstance(found, Leaves) or text not in found:
                    return None
                partial = True
        captures: Captures = {}
        for at, segment in self._others:
            try:
                held = segment.match(name[start + at], slots)
            except PartialMatch:
                partial = True
                continue
            if held is None:
                return None
            captures.update(held)
        if partial:
            raise PartialMatch
        return captures


class _Segment:
    """One segment of a pattern; what it says of a segment is remembered where the indices in slots do not matter."""

    def __init__(self, pattern: SegmentPattern) -> None:
        self._pattern = pattern
        self._known: dict[Segment, Captures | None] = {}
        self._free = not any(isinstance(p, str) and len(cut(p)) > 1 for p in pattern.parts) and not any(
            isinstance(p, Choice) or (isinstance(p, Capture) and p.limited) for p in pattern.parts
        )
        self._listed = [p for p in pattern.parts if isinstance(p, Choice) and all(map(is_index, p.options))]
        self._opened = SegmentPattern(tuple(Capture(p.name) if p in self._listed else p for p in pattern.parts))

    @cached_property
    def skeletons(self) -> frozenset[Hashable]:
        """What `lines` calls the segments of which one stands there."""
        return frozenset(k for way in self._pattern.alternatives for k in _keys(way.pieces))

    def match(self, found: Segment, slots: Slots) -> Captures | None:
        """As `SegmentPattern.match`; a choice of indices captures a slot that holds nothing but some of them."""
        if isinstance(found, Leaves):
            return self._among(found, slots)
        if not self._free and not isinstance(found, str):
            return self._compare(found, slots)
        if found not in self._known:
            self._known[found] = self._pattern.match(found, slots)
        return self._known[found]

    def _among(self, words: Leaves, slots: Slots) -> Captures | None:
        """Nothing is captured: which of the words stands there makes no difference."""
        matching = sum(self._pattern.match(word, slots) is not None for word in words)
        if 0 < matching < len(words):
            raise PartialMatch
        return {} if matching else None

    def _compare(self, found: Segment, slots: Slots) -> Captures | None:
        if not self._listed or not isinstance(slots, Values):
            return self._pattern.match(found, slots)
        captures = self._opened.match(found, slots)
        for choice in self._listed if captures is not None else ():
            held = captures[choice.name]  # type: ignore[index]
            texts = {held} if isinstance(held, str) else {str(int(v) + held.shift) for v in slots.columns[held.column]}
            if texts.isdisjoint(choice.options):
                return None
            if not texts.issubset(choice.options):
                raise PartialMatch
        return captures


@lru_cache(maxsize=4096)
def _segment(pattern: SegmentPattern) -> _Segment:
    """The same for equal patterns: rules share most of theirs."""
    return _Segment(pattern)


@dataclass(frozen=True)
class Rule:
    """Replace `old` by `new` where its context stands around it.

    Attributes
    ----------
    scope : Run
        Kept segments at the root.
    gap : bool
        Whether any segments may stand between `scope` and the rest.
    left, right : Run
        Kept segments around what is replaced.
    old, new : Run
        What is replaced, and by what.
    at_end : bool
        Whether the key ends there.
    """

    scope: Run
    gap: bool
    left: Run
    old: Run
    new: Run
    right: Run = ()
    at_end: bool = False

    @cached_property
    def _hash(self) -> int:
        return hash((self.scope, self.gap, self.left, self.old, self.new, self.right, self.at_end))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def forward(self) -> Side:
        """What it looks for in the checkpoint's names."""
        return Side(self.scope, self.gap, self.left, self.old, self.right, self.at_end)

    @cached_property
    def backward(self) -> Side:
        """What its inverse looks for."""
        return Side(self.scope, self.gap, self.left, self.new, self.right, self.at_end)

    @cached_property
    def length(self) -> float:
        """How much there is to read: segments, and something for choices, bare numbers and floating rules."""
        run = (*self.left, *self.right)
        parts = [p for s in (*self.scope, *run, *self.old, *self.new) for p in s.parts]
        options = sum(len(p.options) - 0.5 for p in parts if isinstance(p, Choice))
        limits = sum(isinstance(p, Capture) and p.high is not None for p in parts)
        floats = (1.5 if not self.scope else 1.0) if self.gap else 0.0
        segments = len(self.scope) + 2 * len(run) + len(self.old) + len(self.new)
        numbers = sum(bool(run) and all(map(_is_number, run)) for run in (self.old, self.new))
        return segments + 0.3 * options + 0.5 * limits + floats + 1.5 * self.at_end + 2.0 * numbers


def _is_number(segment: SegmentPattern) -> bool:
    """Whether it is one index, and no other: what is one number here is another elsewhere."""
    return segment.literal is not None and is_index(segment.literal)


def step(move: Move, name: Name, slots: Slots) -> Name:
    """The name after rules that work at once: of several that match, the one that matches first, then the longest."""
    best: tuple[int, int, Name] | None = None
    for rule in move:
        for found in rule.forward.find(name, slots)[:1]:
            if best is None or (found.first, -found.stop) < best[:2]:
                best = found.first, -found.stop, rewritten(name, found, len(rule.old), rule.new)
    return name if best is None else best[2]


def rewritten(name: Name, found: Found, length: int, new: Run) -> Name:
    """The name with so many segments where a rule was found replaced by others."""
    return (*name[: found.at], *(s.fill(found.captures) for s in new), *name[found.at + length :])


def undone(move: Move, name: Name, slots: Slots) -> Name | None:
    """What the inverse of a move makes of a name; None where it cannot tell, or works at two positions."""
    best: tuple[Rule, Found] | None = None
    for rule in move:
        try:
            found = rule.backward.find(name, slots)
        except PartialMatch:
            return None
        if len(found) > 1:
            return None
        if found and (best is None or (found[0].first, -found[0].stop) < (best[1].first, -best[1].stop)):
            best = rule, found[0]
    if best is None:
        return None
    return rewritten(name, best[1], len(best[0].new), best[0].old)
