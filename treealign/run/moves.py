"""What can be tried beside the options of questions: keys that are left over, and modules that trade places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from treealign.align.alignment import Alignment
from treealign.align.asking.choices import Choice, Way
from treealign.align.asking.exchanging import exchangeable, reach
from treealign.align.links import Link
from treealign.align.paths import rooted_text
from treealign.align.patterns import Pattern

MOST_LEFT = 4  # keys of the checkpoint that are left over and tried for one that nothing fills
Path = tuple[str, ...]


def leftovers(alignment: Alignment) -> Iterator[Choice]:
    """For a key of the model that nothing fills: nothing, or one of those keys of like shape that belong to nothing."""
    left, right = _sides(alignment)
    for q in alignment.right:
        like = [p for p in alignment.left if reach(p, q)][:MOST_LEFT]
        target = rooted_text([q], right)[0]
        ways = [Way(f"{p.template} -> {q.template}", (f"{rooted_text([p], left)[0]}={target}",)) for p in like]
        if ways:
            yield Choice((), (Way("nothing", ()), *ways))


def exchanges(alignment: Alignment) -> Iterator[Choice]:
    """For a module in question: as guessed, or it trades places with another of the same leaves."""
    left, right = _sides(alignment)
    modules: dict[tuple[Path, Path], dict[str, Link]] = defaultdict(dict)
    for link in alignment.links:
        if not link.certain and len(link.left) == len(link.right) == 1:
            p, q = link.left[0], link.right[0]
            modules[p.segments[:-1], q.segments[:-1]][q.segments[-1]] = link
    for place, mine in modules.items():
        ways = []
        for other, theirs in modules.items():
            if other != place and _trade(mine, theirs):
                ends = [(theirs[name].left[0], link.right[0]) for name, link in mine.items()]
                hints = tuple(f"{rooted_text([p], left)[0]}={rooted_text([q], right)[0]}" for p, q in ends)
                ways.append(Way(f"{'.'.join(other[0])} -> {'.'.join(place[1])}", hints))
        if ways:
            yield Choice((), (Way("as guessed", ()), *ways))


def _trade(mine: dict[str, Link], theirs: dict[str, Link]) -> bool:
    return mine.keys() == theirs.keys() and all(exchangeable(link, theirs[name]) for name, link in mine.items())


def _sides(alignment: Alignment) -> tuple[list[Pattern], list[Pattern]]:
    left = [*alignment.left, *(p for link in alignment.links for p in link.left)]
    return left, [*alignment.right, *(p for link in alignment.links for p in link.right)]
