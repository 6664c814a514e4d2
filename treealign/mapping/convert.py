"""`Convert`: several keys become several others, with operations on their tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from treealign.formats.cached import cached_property
from treealign.mapping.operations import Operation, SizeTable, invert, output_count
from treealign.mapping.scope import Rewritten, Transform, agreed_limits, as_texts, has_range, refuse
from treealign.tree.patterns import Choice, KeyPattern, Position
from treealign.tree.segments import NO_SLOTS, Capture, Captured, Captures, Name, Segment, Slot, Slots

MOST_MEMBERS = 100_000  # of one group of tensors on one side
_MANY = 8  # sources from which on it is looked up which may match


class Group(NamedTuple):
    """Keys that are converted together.

    `sources` and `targets` stand in the order in which the operations take and give their tensors; `captures` are what
    the patterns share, for the sizes that depend on them.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    captures: dict[str, str]


class _Found(NamedTuple):
    place: Position
    scope: Captures


@dataclass(frozen=True, init=False, repr=False)
class Convert(Transform):
    """Turn the tensors of the sources into those of the targets.

    Parameters
    ----------
    sources, targets : str or iterable of str
        Key patterns. Captures on both sides stand in each pattern, and number the groups. A capture on one side only
        carries its range (``{j:0..15}``) or choice and runs over the members of a group: pattern by pattern, and
        within a pattern in the order of its captures, the last one fastest.
    operations : sequence of Operation
        Applied left to right to the tensors of a group.
    under : str
        Key pattern below which the patterns are looked for.
    counts : mapping of str to SizeTable
        How many values a capture on one side only has, from the low end of its range, where that depends on the
        captures that both sides share.
    before, after : str or iterable of str
        The guard.

    Raises
    ------
    PatternError
        The patterns do not fit each other, or the operations do not make as many tensors as there are targets.

    Examples
    --------
    >>> from treealign.mapping.operations import Concat
    >>> c = Convert(["**.attn.q", "**.attn.k", "**.attn.v"], "**.attn.qkv", [Concat(0, (8, 2, 2))])
    >>> c.map_key("h.0.attn.k.weight")
    ('h.0.attn.qkv.weight',)
    >>> c.inverse.map_key("h.0.attn.qkv.weight")
    ('h.0.attn.q.weight', 'h.0.attn.k.weight', 'h.0.attn.v.weight')
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    operations: tuple[Operation, ...]
    counts: tuple[tuple[str, SizeTable], ...]

    def __init__(
        self,
        sources: str | Iterable[str],
        targets: str | Iterable[str],
        operations: Operation | Sequence[Operation],
        under: str = "",
        counts: Mapping[str, SizeTable] | Iterable[tuple[str, SizeTable]] = (),
        before: str | Iterable[str] = (),
        after: str | Iterable[str] = (),
    ) -> None:
        steps = (operations,) if isinstance(operations, Operation) else tuple(operations)
        tables = counts.items() if isinstance(counts, Mapping) else counts
        self._set(sources=as_texts(sources), targets=as_texts(targets), operations=steps, counts=tuple(tables))
        self._set_shared(under, before, after)
        refuse(self, self._reasons())

    @property
    def inverse(self) -> Convert:
        """Targets to sources, with the inverse operations in the opposite order."""
        operations = invert(self.operations)
        return Convert(self.targets, self.sources, operations, self.under, self.counts, self.after, self.before)

    def with_guard(self, before: str | Iterable[str] = (), after: str | Iterable[str] = ()) -> Convert:
        """The same conversion with another guard."""
        return Convert(self.sources, self.targets, self.operations, self.under, self.counts, before, after)

    def rewrite(self, name: Name, slots: Slots = NO_SLOTS) -> Rewritten | None:
        """All targets of the group that a source belongs to."""
        found = self._find(name, slots)
        if found is None:
            return None
        return Rewritten(tuple(self._members(name, found, self._patterns[1], slots)), _all_captures(found))

    def group(self, key: str) -> Group | None:
        """The group that a key belongs to as a source, or None."""
        name = tuple(key.split("."))
        found = self._find(name, NO_SLOTS)
        if found is None:
            return None
        sources, targets = (tuple(map(_text, self._members(name, found, side, NO_SLOTS))) for side in self._patterns)
        captured = _all_captures(found)
        return Group(sources, targets, {n: str(v) for n, v in captured.items() if n not in self._lone})

    def _sources(self) -> Iterable[KeyPattern]:
        return self._parsed[0]

    def _starts(self, name: Name, start: int, slots: Slots) -> Iterable[int]:
        return (place.start for source in self._candidates(name) for place in source.positions(name, start, slots))

    def _find(self, name: Name, slots: Slots) -> _Found | None:
        entered = self._enter(name, slots)
        if entered is None:
            return None
        best: Position | None = None
        for source in self._candidates(name):
            place = source.match(name, entered[0], slots)
            if place and (best is None or (place.start, -place.stop) < (best.start, -best.stop)):
                best = place
        found = best and _Found(best, entered[1])
        return found if found and self._counted(found, slots) else None

    def _candidates(self, name: Name) -> Sequence[KeyPattern]:
        """The sources that may match a name: of many, those one of whose literals it has."""
        sources = self._patterns[0]
        if len(sources) < _MANY or not all(isinstance(segment, str) for segment in name):
            return sources
        having, wordless = self._by_literal
        return [sources[at] for at in sorted({*wordless, *(at for word in name for at in having.get(word, ()))})]

    @cached_property
    def _by_literal(self) -> tuple[dict[Segment, list[int]], list[int]]:
        """The sources by the rarest literal of each, and those that have none."""
        literals = [[s.literal for s in source.segments if s.literal is not None] for source in self._patterns[0]]
        counts = Counter(word for words in literals for word in words)
        having: dict[Segment, list[int]] = {}
        for at, words in enumerate(literals):
            if words:
                having.setdefault(min(words, key=counts.__getitem__), []).append(at)
        return having, [at for at, words in enumerate(literals) if not words]

    def _counted(self, found: _Found, slots: Slots) -> bool:
        """Whether captures that run over the group stay within their counts."""
        captured = _all_captures(found)
        for name, _ in self.counts:
            if name in found.place.captures:
                values, at = self._values(name, captured, slots), found.place.captures[name]
                if not values or not _within(at, values, slots):
                    return False
        return True

    def _members(self, name: Name, found: _Found, patterns: Iterable[KeyPattern], slots: Slots) -> Iterator[Name]:
        captured = _all_captures(found)
        head, tail = name[: found.place.start], name[found.place.stop :]
        for pattern in patterns:
            lone = [capture for capture in pattern.captures if capture in self._lone]
            for values in product(*(self._values(capture, captured, slots) for capture in lone)):
                held = {**captured, **dict(zip(lone, values, strict=True))}
                yield (*head, *pattern.substitute(held), *tail)

    def _values(self, name: str, captured: Captures, slots: Slots) -> Sequence[str]:
        limits = self._lone[name]
        if isinstance(limits, Choice):
            return limits.options
        table = dict(self.counts).get(name)
        if table is None:
            return [str(n) for n in range(limits.low, (limits.high or 0) + 1)]
        held = {n: _value(v, slots) for n, v in captured.items() if n in table.captures}
        return [str(n) for n in range(limits.low, limits.low + table.resolve(held))]

    @cached_property
    def _parsed(self) -> tuple[tuple[KeyPattern, ...], tuple[KeyPattern, ...]]:
        return tuple(map(KeyPattern.parse, self.sources)), tuple(map(KeyPattern.parse, self.targets))

    @cached_property
    def _patterns(self) -> tuple[tuple[KeyPattern, ...], tuple[KeyPattern, ...]]:
        limits = agreed_limits((*self._parsed[0], *self._parsed[1]), [])
        sources, targets = (tuple(pattern.limited(limits) for pattern in side) for side in self._parsed)
        return sources, targets

    @cached_property
    def _lone(self) -> dict[str, Capture | Choice]:
        """The captures that stand on one side only."""
        limits = agreed_limits((*self._parsed[0], *self._parsed[1]), [])
        left, right = ({name for pattern in side for name in pattern.captures} for side in self._parsed)
        return {name: capture for name, capture in limits.items() if name not in left & right}

    def _reasons(self) -> list[str]:
        if not (self.sources and self.targets and self.operations):
            return ["it needs a source, a target and an operation"]
        odd = [operation for operation in self.operations if not isinstance(operation, Operation)]
        if odd:
            return [f"{operation!r} is no operation" for operation in odd]
        patterns = (*self._parsed[0], *self._parsed[1])
        reasons = self._scope_reasons()
        agreed_limits(patterns, reasons)
        if len({(pattern.anywhere, pattern.at_end) for pattern in patterns}) > 1:
            reasons.append("some patterns have `**.` or `$` and some have not")
        for side in (self.sources, self.targets):
            reasons += [f"`{text}` stands on one side twice" for text, count in Counter(side).items() if count > 1]
        reasons += self._capture_reasons(patterns) + self._count_reasons()
        return reasons or self._width_reasons() or self._size_reasons()

    def _width_reasons(self) -> list[str]:
        """A range stands for every number in it: a group of more members than any model has would fill the memory."""
        counts = (sum(self._member_count(pattern) for pattern in side) for side in self._patterns)
        return [
            f"{count:,} tensors on one side, of at most {MOST_MEMBERS:,}" for count in counts if count > MOST_MEMBERS
        ]

    def _capture_reasons(self, patterns: Sequence[KeyPattern]) -> list[str]:
        limits = agreed_limits(patterns, [])
        scope = self.scope.captures if self.scope else {}
        reasons = [f"{{{name}}} stands in `under` too" for name in limits if name in scope]
        for name, limit in limits.items():
            if name in self._lone and not has_range(limit):
                reasons.append(f"{{{name}}} stands on one side only and has no range")
            absent = [p.text for p in patterns if name not in p.captures]
            if name not in self._lone and absent:
                reasons.append(f"{{{name}}} stands on both sides, but not in `{absent[0]}`")
        return reasons

    def _count_reasons(self) -> list[str]:
        odd = [name for name, _ in self.counts if not isinstance(self._lone.get(name), Capture)]
        return [f"`counts` holds {{{name}}}, which is no index on one side only" for name in odd]

    def _size_reasons(self) -> list[str]:
        """The operations against the number of patterns, where no size depends on captures."""
        if self.counts or any(operation.capture_names for operation in self.operations):
            return []
        takes, gives = (sum(self._member_count(pattern) for pattern in side) for side in self._patterns)
        try:
            made = output_count(self.operations, takes)
        except Exception as error:
            return [str(error)]
        return [] if made == gives else [f"the operations make {made} tensors of {takes}, for {gives} targets"]

    def _member_count(self, pattern: KeyPattern) -> int:
        count = 1
        for name in pattern.captures:
            limits = self._lone.get(name)
            if isinstance(limits, Choice):
                count *= len(limits.options)
            elif limits is not None:
                count *= (limits.high or 0) - limits.low + 1
        return count

    def __repr__(self) -> str:
        sides = [repr(side[0] if len(side) == 1 else list(side)) for side in (self.sources, self.targets)]
        counts = [f"counts={dict(self.counts)!r}"] if self.counts else []
        return f"Convert({', '.join([*sides, repr(list(self.operations)), *self._options(), *counts])})"


def _all_captures(found: _Found) -> Captures:
    return {**found.scope, **found.place.captures}


def _value(value: Captured, slots: Slots) -> str:
    return slots.value(value) if isinstance(value, Slot) else value


def _within(at: Captured, values: Sequence[str], slots: Slots) -> bool:
    return slots.holds(at, int(values[0]), int(values[-1])) if isinstance(at, Slot) else at in values


def _text(name: Name) -> str:
    return ".".join(str(segment) for segment in name)
