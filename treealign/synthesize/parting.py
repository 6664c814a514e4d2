"""Places parted by what tells them apart, and contents that hand over names to each other in a circle."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

from treealign.synthesize.contents import Content
from treealign.synthesize.tracks import Place

_LONGEST_CYCLE = 4


def partitions(places: Sequence[Place]) -> Iterator[list[list[Place]]]:
    """The places parted by what tells them apart, in one way after the other, those of most places first."""
    features: tuple[Callable[[Place], Hashable], ...] = (
        lambda p: p.left[-1:],
        lambda p: p.right[:1],
        lambda p: len(p.left),
        lambda p: p.left[:1],
        lambda p: p.right[:2],
        lambda p: p.left[:2],
        lambda p: p.left,
        lambda p: p.right,
        lambda p: p.track,
    )
    for feature in features:
        parts: dict[Hashable, list[Place]] = {}
        for p in places:
            parts.setdefault(feature(p), []).append(p)
        if len(parts) > 1:
            yield sorted(parts.values(), key=len, reverse=True)


def cycles(contents: Sequence[Content], numbers: Sequence[int]) -> Iterator[list[int]]:
    """Contents of which each makes what the next replaces, and the last what the first does."""
    by_old: dict[object, list[int]] = {}
    for n in numbers:
        by_old.setdefault(contents[n].old, []).append(n)
    waiting = [[n] for n in numbers]
    while waiting:
        way = waiting.pop()
        for n in by_old.get(contents[way[-1]].new, []):
            if n == way[0] and len(way) > 1:
                yield way
            elif n > way[0] and n not in way and len(way) < _LONGEST_CYCLE:
                waiting.append([*way, n])


def in_step(places: Sequence[Sequence[Place]]) -> Iterator[list[list[Place]]]:
    """All places, and those that stand in the same surroundings only, kind by kind."""
    yield [list(some) for some in places]
    features: tuple[Callable[[Place], Hashable], ...] = (
        lambda p: p.left[-1:],
        lambda p: len(p.left),
        lambda p: p.left,
        lambda p: (p.left, p.right[:1]),
        lambda p: (p.left, p.right),
    )
    for feature in features:
        kinds = [{feature(p) for p in some} for some in places]
        for kind in sorted(set.intersection(*kinds), key=repr):
            yield [[p for p in some if feature(p) == kind] for some in places]
