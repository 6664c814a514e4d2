"""What a suggestion leaves open, as choices between mappings: what a probe can try one after the other.

A choice decides all layers, and all leaves of a module, at once: two norms are exchanged with their biases in every
layer, two towers whole. Its options stand in order of plausibility, the best guess first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any, NamedTuple

from treealign.align.alignment import Alignment
from treealign.align.doubting.conventions import is_turned_square, without_guess
from treealign.align.doubting.transposition import block
from treealign.align.links import Group, Link
from treealign.align.patterns import Pattern
from treealign.mapping.operations import Keep, Operation, Parallel, Permute

MAX_HEADS = 4  # of which all orders are tried: 24
Path = tuple[str, ...]


class HeadLayout(NamedTuple):
    """How the rows of a projection are arranged in heads, as far as the model says it; see `RotaryPermute`."""

    head_dim: int
    rotary_dim: int | None = None
    start: int = 0


Layouts = Callable[[str], Sequence[HeadLayout]]  # of a key of the model; none where nothing is known


@dataclass(frozen=True, eq=False)
class Option:
    """One way to decide a choice.

    Attributes
    ----------
    text : str
        In words.
    links : tuple of Link
        What takes the place of the choice's links; empty where these stay.
    turned : mapping
        Id of a pattern to the operations on it that come last before the model's pattern, or first after a part's.
    """

    text: str
    links: tuple[Link, ...] = ()
    turned: Mapping[int, tuple[Operation, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Choice:
    """Links of which evidence does not say how they go, and all the ways that are known.

    Attributes
    ----------
    links : tuple of Link
        What it is about, as the alignment has them; an option that has links has one for each, in this order.
    options : tuple of Option
        At least two, the best guess first.
    complete : bool
        Whether these are all ways that the rivals allow.
    """

    links: tuple[Link, ...]
    options: tuple[Option, ...]
    complete: bool = True


def with_turns(link: Link, turned: Mapping[int, tuple[Operation, ...]]) -> Link:
    """The link with the operations on its patterns, or on its parts, added."""
    if len(link.left) == len(link.right) == 1:
        operations = link.operations + turned.get(id(link.right[0]), ())
        return replace(link, operations=operations, groups=tuple(link.expand()) if operations else ())
    parts = link.left if len(link.left) > 1 else link.right
    added = [turned.get(id(p), (Keep(),)) for p in parts]
    if not any(id(p) in turned for p in parts):
        return link
    parallel = Parallel(tuple(operations[0] for operations in added))
    operations = (parallel, *link.operations) if len(link.left) > 1 else (*link.operations, parallel)
    return replace(link, operations=operations)


def rename_choices(alignment: Alignment) -> list[Choice]:
    """Which of several patterns goes to which: exchanges between rivals, whole modules together."""
    groups: dict[Any, list[list[Link]]] = defaultdict(list)
    for links in connected([link for link in alignment.links if not link.certain]):
        if all(len(link.left) == len(link.right) == 1 for link in links):
            heads = [frozenset(_heads(side)) for side in _sides(links)]
            groups[tuple(heads)].append(links)
    choices = (_exchange(found) for found in groups.values())
    return [choice for choice in choices if choice is not None]


def _sides(links: Iterable[Link]) -> tuple[list[Pattern], list[Pattern]]:
    """All patterns of either side that the links or their rivals name, each once."""
    found: tuple[dict[int, Pattern], dict[int, Pattern]] = ({}, {})
    for link in links:
        for side, patterns in zip(found, (link.left + link.rivals[0], link.right + link.rivals[1]), strict=True):
            side.update((id(p), p) for p in patterns)
    return list(found[0].values()), list(found[1].values())


def _heads(side: Sequence[Pattern]) -> dict[Path, Pattern]:
    """The patterns by their paths up to where these part, indices left out if they can be: what is exchanged."""
    depth = _parting([p.segments for p in side])
    cut = [p.segments[:depth] for p in side]
    short = [without_indices(path) for path in cut]
    if len(set(short)) == len(side):
        return dict(zip(short, side, strict=True))
    if len(set(cut)) == len(side):
        return dict(zip(cut, side, strict=True))
    return {p.segments: p for p in side}


def _parting(paths: Sequence[Path]) -> int:
    """How many segments it takes to tell two paths apart."""
    shared = 0
    while all(len(path) > shared for path in paths) and len({path[shared] for path in paths}) == 1:
        shared += 1
    return shared + 1


def without_indices(path: Path) -> Path:
    """A path without the segments that only count."""
    return tuple(s for s in path if s != "{}" and not s.isdigit())


def _exchange(groups: list[list[Link]]) -> Choice | None:
    """All ways to send the heads of the checkpoint to those of the model."""
    whole = [link for links in groups for link in links]
    bases = [without_guess(link) for link in whole]
    tables = [tuple(_heads(side) for side in _sides(links)) for links in groups]
    left, right = (sorted(tables[0][n]) for n in (0, 1))
    if max(len(left), len(right)) < 2:
        return None
    complete = max(len(left), len(right)) <= MAX_HEADS
    found = []
    for pairs in _pairings(left, right) if complete else ():
        links = _exchanged(bases, tables, dict(pairs))
        if links is not None:
            kept = sum(id(link.left[0]) == id(b.left[0]) for link, b in zip(links, bases, strict=True))
            found.append((-kept, pairs, links))
    found.sort(key=lambda option: option[:2])
    options = tuple(Option(_pairs_text(pairs), links) for _, pairs, links in found)
    return Choice(tuple(whole), options, complete) if len(options) > 1 else None


def _pairings(left: list[Path], right: list[Path]) -> Iterator[tuple[tuple[Path, Path], ...]]:
    """All ways to pair as many as there are on the smaller side."""
    if len(left) <= len(right):
        yield from (tuple(zip(left, order, strict=True)) for order in permutations(right, len(left)))
    else:
        yield from (tuple(zip(order, right, strict=True)) for order in permutations(left, len(right)))


def _exchanged(
    bases: list[Link], tables: Sequence[tuple[dict[Path, Pattern], ...]], pairs: dict[Path, Path]
) -> tuple[Link, ...] | None:
    """The links with their left sides exchanged; None where shapes forbid it, or something would be left out."""
    partner: dict[int, Pattern] = {}
    for left, right in tables:
        partner.update((id(right[b]), left[a]) for a, b in pairs.items() if b in right and a in left)
    links = []
    for base in bases:
        target = base.right[0]
        source = partner.get(id(target))
        if source is None or not _comparable(source, base.left[0]):
            return None
        links.append(base if source is base.left[0] else _from(source, base))
    return tuple(links)


def _comparable(a: Pattern, b: Pattern) -> bool:
    return a.signature == b.signature or a.ranked == b.ranked


def _from(source: Pattern, base: Link) -> Link:
    groups: tuple[Group, ...] = ()
    if base.groups:
        cell_of = {at: key for key, at in base.left[0].cells.items()}
        if source.cells.keys() == base.left[0].cells.keys():
            groups = tuple(Group(tuple(source.cells[cell_of[at]] for at in g.left), g.right) for g in base.groups)
    return replace(base, left=(source,), groups=groups)


def _pairs_text(pairs: Iterable[tuple[Path, Path]]) -> str:
    return ", ".join(f"{_tail(a)} -> {_tail(b)}" for a, b in pairs)


def _tail(path: Path) -> str:
    """The last name of a path, without what every path ends in."""
    names = path[:-1] if len(path) > 1 and path[-1] in {"weight", "bias"} else path
    return names[-1]


def square_choices(links: Sequence[Link]) -> list[Choice]:
    """Whether the square matrices of a kind of block are transposed as all others of the block are."""
    blocks: dict[Path, list[Link]] = defaultdict(list)
    for link in links:
        if is_turned_square(link):
            blocks[without_indices(block(link.right[0]))].append(link)
    found = []
    for members in blocks.values():
        names = ", ".join(dict.fromkeys(_tail(link.right[0].segments) for link in members))
        turned = {id(link.right[0]): (Permute((1, 0)),) for link in members}
        options = (Option(f"{names} transposed", turned=turned), Option(f"{names} as stored"))
        found.append(Choice(tuple(members), options))
    return found


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
