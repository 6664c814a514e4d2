"""What all transforms share: the scope below which they work, the guard, and how captures of several patterns agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from treealign.errors import PatternError
from treealign.formats.cached import cached_property
from treealign.tree.patterns import Choice, KeyPattern
from treealign.tree.segments import LARGEST, NO_SLOTS, Capture, Captures, Name, Slots


class Rewritten(NamedTuple):
    """What a transform makes of a name: one new name, or several where a `Convert` has several targets.

    `captures` are those of the patterns that matched, `under` included.
    """

    names: tuple[Name, ...]
    captures: Captures


@dataclass(frozen=True, init=False, repr=False)
class Transform:
    """One rule of a conversion mapping.

    Attributes
    ----------
    under : str
        Key pattern; the transform works on what follows it, and keeps it. Empty for the whole key.
    before, after : tuple of str
        The guard: key patterns that only keys before the transform match, and only keys after it.
    """

    under: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def guarded(self) -> bool:
        """Whether names alone do not tell whether the transform was done, so that the guard has to."""
        return bool(self.before or self.after)

    @property
    def inverse(self) -> Self:
        """The transform that undoes this one; its inverse is this one again."""
        raise NotImplementedError

    def with_guard(self, before: str | Iterable[str] = (), after: str | Iterable[str] = ()) -> Self:
        """The same transform with another guard."""
        raise NotImplementedError

    def rewrite(self, name: Name, slots: Slots = NO_SLOTS) -> Rewritten | None:
        """What becomes of a name, plain or folded; None where the transform does not touch it."""
        raise NotImplementedError

    def map_key(self, key: str) -> tuple[str, ...] | None:
        """The names that a key gets, or None where the transform does not touch it. The guard is not asked."""
        rewritten = self.rewrite(tuple(key.split(".")))
        return rewritten and tuple(".".join(name) for name in rewritten.names)  # type: ignore[arg-type]

    def positions(self, name: Name, slots: Slots = NO_SLOTS) -> int:
        """At how many positions the transform could work on a name; it takes the first. More than one is a finding."""
        if self.rewrite(name, slots) is None:
            return 0
        scopes = sum(1 for _ in self.scope.positions(name, 0, slots)) if self.scope else 1
        entered = self._enter(name, slots)
        starts = self._starts(name, entered[0] if entered else 0, slots)
        return max(scopes, len(set(starts)))

    @cached_property
    def words(self) -> tuple[frozenset[str], ...]:
        """For each source, the segments without which a name cannot be touched: most names are ruled out by these."""
        scope = self.scope.words if self.scope else frozenset()
        return tuple(scope | source.words for source in self._sources())

    def _sources(self) -> Iterable[KeyPattern]:
        raise NotImplementedError

    def _starts(self, name: Name, start: int, slots: Slots) -> Iterable[int]:
        """The positions from `start` on; the same one may come several times."""
        return (start,)

    @cached_property
    def scope(self) -> KeyPattern | None:
        """`under` as a pattern."""
        return KeyPattern.parse(self.under) if self.under else None

    @cached_property
    def guards(self) -> tuple[tuple[KeyPattern, ...], tuple[KeyPattern, ...]]:
        """`before` and `after` as patterns."""
        return tuple(map(KeyPattern.parse, self.before)), tuple(map(KeyPattern.parse, self.after))

    def _enter(self, name: Name, slots: Slots) -> tuple[int, Captures] | None:
        """Where the part below `under` begins, and what `under` captures."""
        if self.scope is None:
            return 0, {}
        found = self.scope.match(name, slots=slots)
        return found and (found.stop, found.captures)

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _set_shared(self, under: str, before: str | Iterable[str], after: str | Iterable[str]) -> None:
        self._set(under=under, before=as_texts(before), after=as_texts(after))

    def _scope_reasons(self) -> list[str]:
        """What is wrong with `under`; reading it and the guard raises on its own."""
        assert self.guards is not None
        if self.scope is None:
            return []
        shifts = [c.name for c in self.scope.captures.values() if isinstance(c, Capture) and c.shift]
        reasons = [f"`under` is kept, so a shift of {{{name}}} in it means nothing" for name in shifts]
        return reasons + ["`under` cannot end with `$`: nothing follows the end of a key"] * self.scope.at_end

    def _options(self) -> list[str]:
        options = [f"under={self.under!r}"] if self.under else []
        options += [f"before={self.before!r}"] if self.before else []
        return options + ([f"after={self.after!r}"] if self.after else [])


def as_texts(texts: str | Iterable[str]) -> tuple[str, ...]:
    """One text or several, as a tuple."""
    return (texts,) if isinstance(texts, str) else tuple(texts)


def agreed_limits(patterns: Sequence[KeyPattern], reasons: list[str]) -> dict[str, Capture | Choice]:
    """The range or choice that each capture has in all patterns together; what does not agree goes into `reasons`."""
    names = dict.fromkeys(name for pattern in patterns for name in pattern.captures)
    return {n: _agreed(n, [p.captures[n] for p in patterns if n in p.captures], reasons) for n in names}


def has_range(capture: Capture | Choice) -> bool:
    """Whether a capture lists what it may hold."""
    return isinstance(capture, Choice) or (capture.high is not None and capture.high < LARGEST)


def _agreed(name: str, found: list[Capture | Choice], reasons: list[str]) -> Capture | Choice:
    choices = {capture.options for capture in found if isinstance(capture, Choice)}
    indices = [capture for capture in found if isinstance(capture, Capture)]
    ranges = {(c.low, c.high) for c in indices if has_range(c)}
    if len(choices) + len(ranges) > 1:
        reasons.append(f"{{{name}}} has two different ranges or choices")
    if choices:
        if any(capture.shift for capture in indices):
            reasons.append(f"{{{name}}} is a choice of literals on one side and shifted on the other")
        return Choice(name, choices.pop())
    return _with_shifts(name, ranges, [capture.shift for capture in indices])


def _with_shifts(name: str, ranges: set[tuple[int, int | None]], shifts: list[int]) -> Capture:
    low, high = ranges.pop() if ranges else (0, LARGEST if any(shifts) else None)
    # no side may become negative
    return Capture(name, 0, max(low, -min(shifts)), high)


def refuse(transform: object, reasons: list[str]) -> None:
    """Raise if there are reasons.

    Raises
    ------
    PatternError
        Naming the transform and everything that is wrong with it.
    """
    if reasons:
        raise PatternError(f"{transform!r} is no transform", facts=reasons)


def bounded(pattern: KeyPattern, limits: dict[str, Capture | Choice]) -> KeyPattern:
    """The pattern with limits that all sides agreed on."""
    return replace(pattern.limited(limits), text=pattern.text)
