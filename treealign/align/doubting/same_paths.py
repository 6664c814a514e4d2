"""One path on both sides, which is first taken for itself, where other leaves say that it is another's.

A checkpoint of which a half is converted, or a tower that bears another's name: leaves of `encoder` are those of the
model's `visual`, so `visual.embeddings` of the model may be `encoder.embeddings`, though one of that path is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.verdict import Alternative, Alternatives, Rivals

if TYPE_CHECKING:
    from treealign.align.state import State

MOVED = Reason("names", "other leaves of its container have another name there, and one of its own is not settled")
Path = tuple[str, ...]
Moved = dict[Path, set[Path]]  # of a container of one side, those of the other in which its leaves certainly stand


def judge_same_paths(state: State) -> Alternatives:
    """Matches of one path that others of its container show to be elsewhere, where a leaf is that nobody certainly has.

    Linear in the number of links, by the names of containers.
    """
    taken = [{p for link in state.known if link.certain for p in (link.left, link.right)[at]} for at in (0, 1)]
    free = [{p.segments: p for p in side if p not in used} for side, used in zip(state.patterns, taken, strict=True)]
    moved: tuple[Moved, Moved] = (defaultdict(set), defaultdict(set))
    for link in state.known if any(free) else ():
        if link.certain and not link.operations and link.left[0].template != link.right[0].template:
            for here, there in _containers(link.left[0].holder, link.right[0].holder):
                moved[0][there].add(here)
                moved[1][here].add(there)
    found = ((link, _rivals(link, free, moved)) for link in state.known)
    return {link: Alternative(MOVED, rivals) for link, rivals in found if rivals is not None}


def _rivals(link: Link, free: Sequence[Mapping[Path, Pattern]], moved: Sequence[Moved]) -> Rivals | None:
    p, q = link.left[0], link.right[0]
    if link.operations or p.template != q.template:
        return None
    for at, own in enumerate((p, q)):
        for depth in range(len(own.segments) - 1, 0, -1):
            for other in sorted(moved[at].get(own.segments[:depth], ())):
                rival = free[at].get((*other, *own.segments[depth:]))
                if rival is not None and rival.signature == own.signature:
                    return ((p, rival), (q,)) if at == 0 else ((p,), (q, rival))
    return None


def _containers(here: Path, there: Path) -> Iterator[tuple[Path, Path]]:
    """What holds two leaves, and what holds that as long as it is called alike."""
    while here and there:
        yield here, there
        if here[-1] != there[-1]:
            return
        here, there = here[:-1], there[:-1]
