"""Ambiguities as questions to a person: doubts that share a rival belong to one question."""

from __future__ import annotations

from treealign.align.alignment import Alignment
from treealign.align.links import Ambiguity, Link, keys_of
from treealign.align.patterns import Pattern
from treealign.tree.fold import fold_names


def questions(alignment: Alignment) -> tuple[Ambiguity, ...]:
    """One question for each set of uncertain links that have a rival in common."""
    open_links = [link for link in alignment.links if not link.certain]
    return tuple(_question(alignment, group) for group in _connected(open_links))


def _connected(links: list[Link]) -> list[list[Link]]:
    """Links grouped by shared rivals (union-find)."""
    parent = list(range(len(links)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    seen: dict[int, int] = {}
    for n, link in enumerate(links):
        for p in _patterns(link):
            first = seen.setdefault(id(p), n)
            parent[root(n)] = root(first)
    groups: dict[int, list[Link]] = {}
    for n, link in enumerate(links):
        groups.setdefault(root(n), []).append(link)
    return list(groups.values())


def _patterns(link: Link) -> list[Pattern]:
    return [*link.left, *link.right, *link.rivals[0], *link.rivals[1]]


def _question(alignment: Alignment, links: list[Link]) -> Ambiguity:
    left = keys_of(alignment.checkpoint, [p for link in links for p in (*link.left, *link.rivals[0])])
    right = keys_of(alignment.model, [p for link in links for p in (*link.right, *link.rivals[1])])
    reasons = "; ".join(dict.fromkeys(link.reason for link in links))
    example = links[0]
    source, target = fold_names(left[:1])[0], fold_names(right[:1])[0]
    if example.left[0].segments[-2:-1] and example.right[0].segments[-2:-1]:
        source, target = example.left[0].segments[-2], example.right[0].segments[-2]
    return Ambiguity(left, right, f"{reasons}: a hint such as '{source}={target}', or equal values on both sides")
