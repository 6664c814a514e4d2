"""Guards: whether keys were converted already, where the transform itself cannot tell.

A guarded transform carries key patterns that only the checkpoint has (`before`) and only the model has (`after`), read
against the keys as they are given. One side held and not the other decides for all keys; both held, each key follows
the evidence of its own group: itself, then the keys whose captures agree with its own, those below the same modules
first. Decide once for a whole checkpoint and hand the decision to its shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias

from treealign.errors import UndecidedError
from treealign.formats.cached import cached_property
from treealign.mapping.folded import State, expander, settle, start
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange
from treealign.tree.fold import Fold, fold_names
from treealign.tree.patterns import KeyPattern
from treealign.tree.segments import Slot


class Verdict(Enum):
    """What to do with a transform."""

    APPLY = "apply"
    SKIP = "skip"
    UNKNOWN = "unknown"
    APPLY_WHERE_ABSENT = "apply where absent"


class Evidence(NamedTuple):
    """A key that matched a guard: on which side, what it captured, and the modules that it speaks for.

    Those reach down to the last capture; in a pattern without captures they are what ``**.`` stands for.
    """

    after: bool
    captures: tuple[tuple[str, str], ...]
    modules: tuple[str, ...]


Places: TypeAlias = dict["tuple[str, ...] | None", set[bool]]  # modules to the sides seen there; None for all together


@dataclass(frozen=True)
class Groups:
    """Both sides of a guard are held: the evidence by which each group decides for itself."""

    evidence: tuple[Evidence, ...]

    def verdict(self, transform: Transform, key: str, captures: dict[str, str]) -> Verdict:
        """Whether to apply the transform to a key that it touches with these captures."""
        before, after = (any(p.match(key) for p in side) for side in transform.guards)
        sides = {after} if before != after else self._sides(key, captures)
        if len(sides) != 1:
            return Verdict.UNKNOWN
        return Verdict.SKIP if sides == {True} else Verdict.APPLY

    def _sides(self, key: str, captures: dict[str, str]) -> set[bool]:
        """The sides that agreeing evidence is on: the nearest above the key, or all of it where none is above."""
        agreeing = [places for places in self._agreeing(captures) if places]
        segments = tuple(key.split("."))
        for depth in range(len(segments), -1, -1):
            near = [places[segments[:depth]] for places in agreeing if segments[:depth] in places]
            if near:
                return set().union(*near)
        return set().union(*(places[None] for places in agreeing))

    def _agreeing(self, captures: dict[str, str]) -> Iterator[Places]:
        """The evidence whose captures hold what the key's captures of the same names hold."""
        for names in self._names:
            shared = tuple(name for name in names if name in captures)
            index = self._indexed.get((names, shared)) or self._index(names, shared)
            yield index.get(tuple(captures[name] for name in shared), {})

    @cached_property
    def _names(self) -> tuple[tuple[str, ...], ...]:
        return tuple(dict.fromkeys(tuple(name for name, _ in found.captures) for found in self.evidence))

    @cached_property
    def _indexed(self) -> dict[object, dict[tuple[str, ...], Places]]:
        return {}

    def _index(self, names: tuple[str, ...], shared: tuple[str, ...]) -> dict[tuple[str, ...], Places]:
        index: dict[tuple[str, ...], Places] = {}
        for found in self.evidence:
            held = dict(found.captures)
            if tuple(held) == names:
                places = index.setdefault(tuple(held[name] for name in shared), {})
                for place in (found.modules, None):
                    places.setdefault(place, set()).add(found.after)
        self._indexed[names, shared] = index
        return index


Decided: TypeAlias = Verdict | Groups


@dataclass(frozen=True)
class GuardDecision:
    """What the keys of a whole checkpoint say about each transform, to hand to its shards."""

    decided: tuple[Decided, ...]


def decide(transforms: Sequence[Transform], folds: Sequence[Fold], converted: bool | None = None) -> GuardDecision:
    """Read the guards of transforms against folded keys; `converted` overrides them."""
    if converted is not None:
        return GuardDecision(tuple(_overridden(transform, converted) for transform in transforms))
    reader = _Reader(start(folds) if any(t.guarded for t in transforms) else [])
    return GuardDecision(tuple(reader.decided(t) if t.guarded else Verdict.APPLY for t in transforms))


def _overridden(transform: Transform, converted: bool) -> Verdict:
    if not converted:
        return Verdict.APPLY
    if transform.guarded:
        return Verdict.SKIP
    adds = isinstance(transform, PrefixChange) and transform.add is not None
    return Verdict.APPLY_WHERE_ABSENT if adds else Verdict.APPLY


class _Reader:
    """Reads guards against the same keys, each pattern once."""

    def __init__(self, states: list[State]) -> None:
        self._states = states
        self._held: dict[str, bool] = {}

    def decided(self, transform: Transform) -> Decided:
        before, after = (any(self._holds(p) for p in side) for side in transform.guards)
        if before and after:
            return Groups(tuple(sorted(set(self._evidence(transform)))))
        if before or (not after and not transform.before):
            return Verdict.APPLY
        # a guard of one side decides by its absence, too
        return Verdict.SKIP if after or not transform.after else Verdict.UNKNOWN

    def _holds(self, pattern: KeyPattern) -> bool:
        if pattern.text not in self._held:
            self._held[pattern.text] = next(self._matches(pattern), None) is not None
        return self._held[pattern.text]

    def _matches(self, pattern: KeyPattern) -> Iterator[tuple[State, dict[str, str | Slot], int]]:
        for state in self._states:
            for part, found in settle(state, lambda s: pattern.match(s.names[0], slots=s.rows)):
                if found is not None:
                    yield part, found.captures, found.start + pattern.depth

    def _evidence(self, transform: Transform) -> Iterator[Evidence]:
        for after, patterns in zip((False, True), transform.guards, strict=True):
            for pattern in patterns:
                yield from self._matched(pattern, after)

    def _matched(self, pattern: KeyPattern, after: bool) -> Iterator[Evidence]:
        for state, captures, depth in self._matches(pattern):
            modules = [expander((segment,)) for segment in state.names[0][:depth]]
            for row in state.rows.indices:
                held = tuple(sorted(captured_texts(captures, row).items()))
                yield Evidence(after, held, tuple(write(row) for write in modules))


def captured_texts(captures: dict[str, str | Slot], row: tuple[str, ...]) -> dict[str, str]:
    """What captures hold in one key."""
    return {n: str(int(row[v.column]) + v.shift) if isinstance(v, Slot) else v for n, v in captures.items()}


def refuse_unsure(transforms: Sequence[Transform], unsure: Iterable[tuple[int, str]]) -> None:
    """Raise if a transform touched keys without anyone knowing whether it had been done.

    Raises
    ------
    UndecidedError
        Naming each transform, its guard, and the keys.
    """
    keys: dict[int, list[str]] = {}
    for index, key in unsure:
        keys.setdefault(index, []).append(key)
    if keys:
        raise UndecidedError(
            "these keys do not say whether they were converted already",
            facts=[fact for index, touched in sorted(keys.items()) for fact in _facts(transforms[index], touched)],
            hint="--converted yes|no (converted=True or False), or the decision that was made for the whole checkpoint",
        )


def _facts(transform: Transform, touched: list[str]) -> list[str]:
    return [
        repr(transform.with_guard()),
        f"  before: {', '.join(transform.before) or 'nothing'}",
        f"  after: {', '.join(transform.after) or 'nothing'}",
        *(f"  touches {name}" for name in fold_names(touched, limit=5)),
    ]
