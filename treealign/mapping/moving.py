"""The states of keys on their way through many transforms, found by the words of their names.

A transform looks only at states that have the rarest of the words it needs, so that many literal transforms over many
names cost what they touch, not one times the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from treealign.mapping.folded import State
from treealign.mapping.scope import Transform
from treealign.tree.segments import Segment


class Moving:
    """States in order; each may be replaced by several, which stand in its place."""

    def __init__(self, states: Sequence[State]) -> None:
        self._states = list(states)
        self._next = [*range(1, len(self._states)), -1]  # the number of the state behind each, -1 behind the last
        self._having: dict[Segment, set[int]] = {}
        for number in range(len(self._states)):
            self._note(number)

    def __iter__(self) -> Iterator[State]:
        number = 0 if self._states else -1
        while number >= 0:
            yield self._states[number]
            number = self._next[number]

    def touchable(self, transform: Transform) -> Iterator[State]:
        """The states that have all words without which the transform touches nothing."""
        return (self._states[number] for number in self._numbers(transform))

    def advance(self, transform: Transform, step: Callable[[State], Iterable[State]]) -> None:
        """Put what a step makes of each state that the transform may touch in its place."""
        for number in self._numbers(transform):
            before = self._states[number]
            made = list(step(before))
            if len(made) == 1 and made[0] is before:
                continue
            self._states[number] = made[0]
            self._note(number)
            for state in reversed(made[1:]):
                self._states.append(state)
                self._next.append(self._next[number])
                self._next[number] = len(self._states) - 1
                self._note(len(self._states) - 1)

    def _note(self, number: int) -> None:
        for word in self._states[number].words:
            self._having.setdefault(word, set()).add(number)

    def _numbers(self, transform: Transform) -> list[int]:
        found: set[int] = set()
        for words in dict.fromkeys(transform.words):
            some = min((self._having.get(word, set()) for word in words), key=len, default=None)
            numbers = range(len(self._states)) if some is None else some
            found.update(n for n in numbers if words <= self._states[n].words)
        return sorted(found)
