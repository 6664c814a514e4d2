"""Links taken apart where a hint speaks of some of their repeats only: an answer reaches no further than it says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from treealign.align.alignment import Alignment
from treealign.align.hints import Naming, Statement
from treealign.align.links import Group, Link, piece_of
from treealign.align.paths import is_limited, leaves_of
from treealign.align.patterns import Indices, Pattern

Hint = Statement | Naming
Part = frozenset[Indices]  # the indices of a part, as the first pattern of the checkpoint has them
Parts = Mapping[Part, Sequence[Group]]
Pieces = Mapping[Pattern, Mapping[Part, Pattern]]


def parted_for(alignment: Alignment, hint: Hint) -> Alignment:
    """The alignment with each link in as many parts as a hint tells its repeats apart.

    What rivals a link that is taken apart is so too, at the same indices: a part can be exchanged with the same part of
    another only.

    Parameters
    ----------
    alignment : Alignment
        Before the hint is followed.
    hint : Statement or Naming
        Nothing is taken apart unless it gives numbers of repeats: `layers.0`, `layers.{i:1|2}`.

    """
    if not any(map(is_limited, hint.every_path)):
        return alignment
    cuts = {link: parts for link in alignment.links if len(parts := _told_apart(link, hint)) > 1}
    if not cuts:
        return alignment
    cuts = _with_rivals(alignment.links, cuts)
    made = {link: {part: piece_of(link, groups) for part, groups in parts.items()} for link, parts in cuts.items()}
    pieces: dict[Pattern, dict[Part, Pattern]] = defaultdict(dict)
    for link, ones in made.items():
        for part, piece in ones.items():
            for old, new in zip((*link.left, *link.right), (*piece.left, *piece.right), strict=True):
                pieces[old][part] = new
    found: list[Link] = []
    for link in alignment.links:
        whole: Mapping[Part, Link] = {frozenset(): link}
        found += [_between(one, part, pieces) for part, one in made.get(link, whole).items()]
    return replace(alignment, links=tuple(found))


def _told_apart(link: Link, hint: Hint) -> Parts:
    """The groups of a link by which of their leaves the hint speaks of."""
    sides = (hint.paths, hint.paths) if isinstance(hint, Statement) else (hint.source, hint.target)
    spoken = [_spoken(paths, patterns) for paths, patterns in zip(sides, (link.left, link.right), strict=True)]
    scope = [_spoken([hint.under], patterns) if hint.under else None for patterns in (link.left, link.right)]
    if not any(spoken):
        return {}
    found: dict[object, list[Group]] = defaultdict(list)
    for group in link.expand():
        within = not hint.under or any(at in (side or ()) for side, ats in zip(scope, group, strict=True) for at in ats)
        says = tuple(within and not mine.isdisjoint(ats) for mine, ats in zip(spoken, group, strict=True))
        found[any(says) if isinstance(hint, Statement) else says].append(group)
    keys = _keys(link)
    return {frozenset(keys[group.left[0]] for group in groups): groups for groups in found.values()}


def _spoken(paths: Sequence[str], patterns: Sequence[Pattern]) -> set[int]:
    return {at for p in patterns for path in paths for at in leaves_of(path, p)}


def _keys(link: Link) -> dict[int, Indices]:
    """The indices of the leaf with which each group begins."""
    return {at: key for p in link.left for key, at in p.cells.items()}


def _with_rivals(links: Sequence[Link], cuts: Mapping[Link, Parts]) -> dict[Link, Parts]:
    """The cuts, and those at the same indices of what rivals the links that are cut."""
    owner = {p: link for link in links if _is_plain(link) for p in (*link.left, *link.right)}
    found, waiting = dict(cuts), list(cuts)
    while waiting:
        link = waiting.pop()
        for p in dict.fromkeys(p for rivals in (*link.rivals, *link.near) for p in rivals):
            other = owner.get(p)
            if other is None or other in found or not _is_plain(link):
                continue
            if other.left[0].cells.keys() == link.left[0].cells.keys():
                keys = _keys(other)
                groups = [(keys[group.left[0]], group) for group in other.expand()]
                found[other] = {part: [group for key, group in groups if key in part] for part in found[link]}
                waiting.append(other)
    return found


def _is_plain(link: Link) -> bool:
    return len(link.left) == len(link.right) == 1


def _between(link: Link, part: Part, pieces: Pieces) -> Link:
    """A link with the pieces of its rivals in their place: of those cut as it is, its own."""
    sides = (*link.rivals, *link.near)
    rivals = tuple(tuple(q for p in side for q in _of(p, part, pieces)) for side in sides)
    return replace(link, rivals=(rivals[0], rivals[1]), near=(rivals[2], rivals[3]))


def _of(p: Pattern, part: Part, pieces: Pieces) -> Sequence[Pattern]:
    mine = pieces.get(p)
    return (p,) if mine is None else (mine[part],) if part in mine else tuple(mine.values())
