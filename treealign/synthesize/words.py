"""One word that differs: `to_q -> q_proj` with `to_k -> k_proj` is one content with a choice, as people write it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeAlias

from treealign.synthesize.contents import Content
from treealign.tree.segments import Name, Segment, Slot

WORD = 1000  # the column of the slot that stands for the word
_LONGEST = 3

Skeleton: TypeAlias = tuple[Name, Name]


def with_choices(contents: Iterable[Content]) -> list[Content]:
    """Contents for several that differ in one word only, which stands on both sides of each.

    Words stand between underscores; two or three of them in a row count as one, too.
    """
    groups: dict[Skeleton, dict[str, Content]] = {}
    for content in contents:
        for skeleton, word in _skeletons(content):
            groups.setdefault(skeleton, {}).setdefault(word, content)
    return [
        Content(*skeleton, tuple(o for c in found.values() for o in c.occurrences), tuple(sorted(found)))
        for skeleton, found in sorted(groups.items(), key=lambda item: repr(item[0]))
        if len(found) > 1
    ]


def _skeletons(content: Content) -> Iterator[tuple[Skeleton, str]]:
    """The content with each word in turn left open that stands on both sides."""
    right = {word: (at, made) for at, segment in enumerate(content.new) for word, made in _open(segment)}
    for at, segment in enumerate(content.old):
        for word, made in _open(segment):
            if word in right:
                there, other = right[word]
                yield (_put(content.old, at, made), _put(content.new, there, other)), word


def _put(name: Name, at: int, segment: Segment) -> Name:
    return (*name[:at], segment, *name[at + 1 :])


@lru_cache(maxsize=4096)
def _open(segment: Segment) -> tuple[tuple[str, Segment], ...]:
    """The words of a segment, and what is left of it around each."""
    if not isinstance(segment, str):
        return ()
    words = segment.split("_")
    found: list[tuple[str, Segment]] = []
    for start in range(len(words)):
        for stop in range(start + 1, min(len(words), start + _LONGEST) + 1):
            word = "_".join(words[start:stop])
            if word:
                before = "".join(w + "_" for w in words[:start])
                after = "".join("_" + w for w in words[stop:])
                found.append((word, (before, Slot(WORD), after)))
    return tuple(found)
