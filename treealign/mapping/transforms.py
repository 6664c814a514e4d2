"""The transforms that rename: `PrefixChange` and `Rename`; `Convert` stands beside them.

All are frozen values with exact inverses. A transform may carry a guard, key patterns that only the checkpoint has
(`before`) and only the model has (`after`); `treealign.mapping.guards` reads it, the inverse swaps the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from treealign.errors import PatternError
from treealign.formats.cached import cached_property
from treealign.mapping.convert import Convert
from treealign.mapping.scope import Rewritten, Transform, agreed_limits, refuse
from treealign.tree.patterns import KeyPattern, Position, is_literal
from treealign.tree.segments import NO_SLOTS, Name, Slots

__all__ = ["Convert", "PrefixChange", "Rename", "Transform"]


@dataclass(frozen=True, init=False, repr=False)
class PrefixChange(Transform):
    """Put whole levels at the start of everything below `under`, or take them away.

    Parameters
    ----------
    add, remove : str
        The levels, literals between dots; exactly one of the two.
    under : str
        Key pattern below which the levels stand; the root if it is empty.
    before, after : str or iterable of str
        The guard.

    Raises
    ------
    PatternError
        Neither or both are given, or something is no key pattern.

    Notes
    -----
    `remove` touches keys that have the levels and something below them; `add` touches every key below `under`, those
    that begin with the levels too: only the guard, or ``converted=True``, tells that they were added before.

    >>> PrefixChange(add="model", under="vision").map_key("vision.norm.weight")
    ('vision.model.norm.weight',)
    >>> PrefixChange(remove="model").inverse
    PrefixChange(add='model')
    """

    add: str | None
    remove: str | None

    def __init__(
        self,
        add: str | None = None,
        remove: str | None = None,
        under: str = "",
        before: str | Iterable[str] = (),
        after: str | Iterable[str] = (),
    ) -> None:
        self._set(add=add, remove=remove)
        self._set_shared(under, before, after)
        refuse(self, self._reasons())

    @cached_property
    def levels(self) -> tuple[str, ...]:
        """The segments that are added or removed."""
        return tuple((self.add or self.remove or "").split("."))

    @property
    def inverse(self) -> PrefixChange:
        """The opposite change."""
        return PrefixChange(self.remove, self.add, self.under, self.after, self.before)

    def with_guard(self, before: str | Iterable[str] = (), after: str | Iterable[str] = ()) -> PrefixChange:
        """The same change with another guard."""
        return PrefixChange(self.add, self.remove, self.under, before, after)

    def rewrite(self, name: Name, slots: Slots = NO_SLOTS) -> Rewritten | None:
        """The name with the levels put in or taken away."""
        entered = self._enter(name, slots)
        if entered is None:
            return None
        at, captures = entered
        if self.add is not None:
            return Rewritten(((*name[:at], *self.levels, *name[at:]),), captures) if at < len(name) else None
        stop = self._prefix_end(name, at, slots)
        return Rewritten(((*name[:at], *name[stop:]),), captures) if stop is not None and stop < len(name) else None

    def has_levels(self, name: Name, slots: Slots = NO_SLOTS) -> bool:
        """Whether the levels stand at the start of what is below `under`."""
        entered = self._enter(name, slots)
        return entered is not None and self._prefix_end(name, entered[0], slots) is not None

    def _sources(self) -> Iterable[KeyPattern]:
        # whatever stands below `under` may get a level: nothing is needed but what the empty pattern needs
        return (self._prefix,) if self.add is None else (KeyPattern("", False, False, ()),)

    @cached_property
    def _prefix(self) -> KeyPattern:
        return KeyPattern.parse(".".join(self.levels))

    def _prefix_end(self, name: Name, at: int, slots: Slots) -> int | None:
        found = self._prefix.match(name, at, slots)
        return found and found.stop

    def _reasons(self) -> list[str]:
        if (self.add is None) == (self.remove is None):
            return ["it takes either `add` or `remove`"]
        if not isinstance(self.add or self.remove or "", str):
            return ["the levels are text"]
        odd = [level for level in self.levels if not is_literal(level)]
        return [f"the level `{level}` is no literal" for level in odd] + self._scope_reasons()

    def __repr__(self) -> str:
        change = f"add={self.add!r}" if self.add is not None else f"remove={self.remove!r}"
        return f"PrefixChange({', '.join([change, *self._options()])})"


@dataclass(frozen=True, init=False, repr=False)
class Rename(Transform):
    """Replace a run of segments by another, either of which may be the longer.

    ``Rename(source, target, under="")`` or ``Rename({source: target, …}, under="")``: several pairs at once, which
    must form one swap or chain, so that their order matters (norm0 -> norm1 with norm1 -> norm2).

    Parameters
    ----------
    source, target : str
        Key patterns with the same captures, both with a leading ``**.`` or neither, both with a trailing ``$`` or
        neither. What follows the run is kept.
    under : str
        Key pattern below which the source is looked for.
    before, after : str or iterable of str
        The guard.

    Raises
    ------
    PatternError
        Something is no key pattern, the two sides do not fit each other, or the pairs are no swap or chain.

    Examples
    --------
    >>> Rename("**.layer_{i}.attn", "**.layers.{i}.self_attn").map_key("encoder.layer_3.attn.q.weight")
    ('encoder.layers.3.self_attn.q.weight',)
    >>> Rename({"**.norm0": "**.norm1", "**.norm1": "**.norm2"}).map_key("h.norm1.bias")
    ('h.norm2.bias',)
    """

    pairs: tuple[tuple[str, str], ...]

    def __init__(
        self,
        source: str | Mapping[str, str],
        target: str | None = None,
        under: str = "",
        before: str | Iterable[str] = (),
        after: str | Iterable[str] = (),
    ) -> None:
        if isinstance(source, Mapping) == isinstance(target, str):
            hint = "Rename(source, target) or Rename({source: target, …})"
            raise PatternError(f"Rename({source!r}, {target!r}) does not name two sides", hint=hint)
        pairs = tuple(source.items()) if isinstance(source, Mapping) else ((source, target or ""),)
        self._set(pairs=pairs)
        self._set_shared(under, before, after)
        refuse(self, self._pair_reasons() or self._chain_reasons())

    @property
    def source(self) -> str:
        """The source of the first pair, the only one but for a swap or chain."""
        return self.pairs[0][0]

    @property
    def target(self) -> str:
        """The target of the first pair."""
        return self.pairs[0][1]

    @property
    def inverse(self) -> Rename:
        """The sides swapped."""
        swapped = {target: source for source, target in self.pairs}
        return Rename(swapped, None, self.under, self.after, self.before)

    def with_guard(self, before: str | Iterable[str] = (), after: str | Iterable[str] = ()) -> Rename:
        """The same renaming with another guard."""
        return Rename(dict(self.pairs), None, self.under, before, after)

    def rewrite(self, name: Name, slots: Slots = NO_SLOTS) -> Rewritten | None:
        """The name with the run replaced; of several pairs the one that matches first, then the longest, counts."""
        entered = self._enter(name, slots)
        if entered is None:
            return None
        best: tuple[Position, KeyPattern] | None = None
        for source, target in self._patterns:
            found = source.match(name, entered[0], slots)
            if found and (best is None or (found.start, -found.stop) < (best[0].start, -best[0].stop)):
                best = found, target
        if best is None:
            return None
        place, target = best
        renamed = (*name[: place.start], *target.substitute(place.captures), *name[place.stop :])
        return Rewritten((renamed,), {**entered[1], **place.captures})

    def _sources(self) -> Iterable[KeyPattern]:
        return (source for source, _ in self._parsed)

    def _starts(self, name: Name, start: int, slots: Slots) -> Iterable[int]:
        return (found.start for source, _ in self._patterns for found in source.positions(name, start, slots))

    @cached_property
    def _patterns(self) -> tuple[tuple[KeyPattern, KeyPattern], ...]:
        patterns = []
        for source, target in self._parsed:
            limits = agreed_limits((source, target), [])
            patterns.append((source.limited(limits), target.limited(limits)))
        return tuple(patterns)

    @cached_property
    def _parsed(self) -> tuple[tuple[KeyPattern, KeyPattern], ...]:
        return tuple((KeyPattern.parse(source), KeyPattern.parse(target)) for source, target in self.pairs)

    def _pair_reasons(self) -> list[str]:
        reasons = [] if self.pairs else ["it has no pair"]
        scoped = self.scope.captures if self.scope else {}
        for source, target in self._parsed:
            reasons += [f"{reason} in `{source}` -> `{target}`" for reason in _misfits(source, target)]
            reasons += [f"{{{name}}} stands in `under` too" for name in source.captures if name in scoped]
        return reasons + self._scope_reasons()

    def _chain_reasons(self) -> list[str]:
        following = dict(self.pairs)
        if len({*following.values()}) < len(self.pairs):
            return ["two pairs have the same target"]
        if len({(source.anywhere, source.at_end) for source, _ in self._parsed}) > 1:
            return ["some pairs have `**.` or `$` and some have not"]
        begin = next((source for source in following if source not in following.values()), self.source)
        at, reached = following[begin], 1
        while at in following and at != begin:
            at, reached = following[at], reached + 1
        apart = reached < len(following)
        return ["its pairs do not form one swap or chain: write one Rename for each"] if apart else []

    def __repr__(self) -> str:
        change = [repr(self.source), repr(self.target)] if len(self.pairs) == 1 else [repr(dict(self.pairs))]
        return f"Rename({', '.join([*change, *self._options()])})"


def _misfits(source: KeyPattern, target: KeyPattern) -> list[str]:
    reasons: list[str] = []
    agreed_limits((source, target), reasons)
    if source.text == target.text:
        reasons.append("nothing changes")
    if source.anywhere != target.anywhere:
        reasons.append("`**.` stands on one side only")
    if source.at_end != target.at_end:
        reasons.append("`$` stands on one side only")
    lone = source.captures.keys() ^ target.captures.keys()
    return reasons + [f"{{{name}}} stands on one side only" for name in sorted(lone)]
