"""Ambiguities as questions to a person: doubts that share a rival belong to one question."""

from __future__ import annotations

from treealign.align.alignment import Alignment
from treealign.align.converting.quantisation import UNSCALED
from treealign.align.doubting.conventions import without_guess
from treealign.align.links import Ambiguity, Link, keys_of
from treealign.align.matching.in_step import IN_STEP
from treealign.align.patterns import Pattern

ANY = "checkpoint name=model name"


def questions(alignment: Alignment) -> tuple[Ambiguity, ...]:
    """One question for each set of uncertain links that have a rival in common."""
    open_links = [link for link in alignment.links if not link.certain]
    return tuple(_question(alignment, group) for group in connected(open_links))


def connected(links: list[Link]) -> list[list[Link]]:
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
    if reasons == UNSCALED:
        return Ambiguity(left, right, f"{reasons}: the same quantisation on both sides, or none")
    # neither what a habit suggests nor what an order suggests is spelled: no hint about names speaks of it
    if any(without_guess(link) is not link or link.reason == IN_STEP for link in links):
        return Ambiguity(left, right, f"{reasons}: equal values on both sides, a probe, or a mapping of yours")
    hint = next((hint for link in links if (hint := _hint(link)) != ANY), ANY)
    return Ambiguity(left, right, f"{reasons}: a hint such as '{hint}', or equal values on both sides")


def _hint(link: Link) -> str:
    """A hint for one link: a whole and its parts in order, or the last names on either side that differ."""
    if max(len(link.left), len(link.right)) > 1:
        whole = [list(dict.fromkeys(_own_name(p) for p in side)) for side in (link.left, link.right)]
        return "=".join(",".join(side) for side in whole)
    source, target = _names(link.left[0]), _names(link.right[0])
    while len(source) > 1 and len(target) > 1 and source[-1] == target[-1]:
        source, target = source[:-1], target[:-1]
    return f"{source[-1]}={target[-1]}" if source[-1] != target[-1] else ANY


def _own_name(p: Pattern) -> str:
    """The name of the module, or of the parameter where that says more."""
    return p.segments[-1] if p.segments[-1] not in {"weight", "bias"} or len(p.segments) == 1 else p.segments[-2]


def _names(p: Pattern) -> list[str]:
    """The names on a path that a hint can speak of: not the parameter's own, and an index only with its list."""
    named: list[str] = []
    for segment in p.segments[:-1]:
        if segment.isdigit() and named:
            named[-1] += f".{segment}"
        elif "{}" not in segment and not segment.isdigit():
            named.append(segment)
    return named or [p.segments[-1]]
