"""What content has settled, as links of patterns: anchors that the rest of an alignment takes as given.

Anchors vote for their ancestors as other matches do, and are never in question themselves. What stands beside them may
be settled with them: a leaf whose own content tells nothing (a bias of zeros) goes where the rest of its module went,
and a leaf that was trained further goes where its pattern went in the other repeats.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from treealign.align.contents.beside import beside
from treealign.align.contents.equal import settle, twins
from treealign.align.contents.fingerprints import Contents, Fingerprint, Settled
from treealign.align.links import Group, Link
from treealign.align.matching.scoring import Floats
from treealign.align.patterns import Indices, Pattern, Shape, part
from treealign.errors import MappingError
from treealign.mapping.operations import Operation, output_shapes
from treealign.tree.keytree import KeyTree

REPEATED = "equal content in other repeats"
MOST_VOTERS = 2000  # patterns of a side: voting takes a table of both sides
Sides = tuple[Sequence[Pattern], Sequence[Pattern]]
Path = tuple[str, ...]
Places = Mapping[Path, set[Path]]


@dataclass(frozen=True, eq=False)
class Anchors:
    """Settled links, and the patterns without what they settle.

    Attributes
    ----------
    links : tuple of Link
        All certain; each lists its groups.
    rest : two sequences of Pattern
        What is left of either side.
    places : two mappings of Path to set of Path
        For each module or repeat of either side that content leads from, by its path, where it leads to.
    elsewhere : two mappings
        For a leaf whose content is also on the other side, the leaves there that have it.
    """

    links: tuple[Link, ...]
    rest: Sides
    places: tuple[Places, Places]
    elsewhere: tuple[Mapping[int, frozenset[int]], Mapping[int, frozenset[int]]]

    @property
    def voters(self) -> Sides:
        """Settled patterns of either side, as many as may vote."""
        left = dict.fromkeys(p for link in self.links for p in link.left)
        right = dict.fromkeys(p for link in self.links for p in link.right)
        return list(left)[:MOST_VOTERS], list(right)[:MOST_VOTERS]

    def pairs(self, first: tuple[int, int]) -> dict[int, int]:
        """Voters that belong together, numbered from `first` on: each part with its whole."""
        left, right = ({p: n for n, p in enumerate(v, f)} for v, f in zip(self.voters, first, strict=True))
        ends = ((a, b) for link in self.links for a, b in _ends(link))
        return {left[a]: right[b] for a, b in ends if a in left and b in right}


def likely(contents: Contents | None, left: Sequence[Pattern], right: Sequence[Pattern]) -> Floats | None:
    """1 for patterns of equal content, repeat for repeat, -1 where both have their equals elsewhere, (left, right).

    This ranks what contents do not settle: a bias of zeros is no scale of ones.
    """
    if contents is None:
        return None
    here = [_content(p, contents.left) for p in left]
    there = [_content(p, contents.right) for p in right]
    common = {c for c in here if c is not None} & set(there)
    ids = {c: n for n, c in enumerate(sorted(common, key=here.index), 1)}
    a, b = (np.array([ids.get(c, 0) for c in side], np.int64) for side in (here, there))
    both = (a[:, None] > 0) & (b[None, :] > 0)
    table: Floats = np.where(both, np.where(a[:, None] == b[None, :], 1, -1), 0).astype(np.float32)
    return table


def _content(p: Pattern, side: Sequence[Fingerprint | None]) -> object:
    """Equal for two patterns with the same indices and contents; None where a content is not known."""
    prints = {key: side[at] for key, at in p.cells.items()}
    return None if None in prints.values() else frozenset((key, f.identity) for key, f in prints.items() if f)


def no_anchors(sides: Sides) -> Anchors:
    """Nothing is settled."""
    return Anchors((), sides, ({}, {}), ({}, {}))


def find_anchors(contents: Contents, trees: tuple[KeyTree, KeyTree], sides: Sides) -> Anchors:
    """Compare contents, and make links of what they settle.

    Parameters
    ----------
    contents : Contents
        By position in the trees.
    trees : tuple of KeyTree
        Checkpoint and model.
    sides : two sequences of Pattern
        Patterns of all leaves that are to be matched.
    """
    where = _cells(sides[0]), _cells(sides[1])
    settled = [s for s in settle(contents) if _known(s, where)]
    elsewhere = twins(contents)
    settled += [s for s in beside(contents, trees, settled) if _known(s, where)]
    settled += _repeats(settled, sides, where, elsewhere)
    used = {i for s in settled for i in s.left}, {j for s in settled for j in s.right}
    rest = _without(sides[0], used[0]), _without(sides[1], used[1])
    links = tuple(_links(settled, sides, where, trees))
    return Anchors(links, rest, _places(settled, trees), elsewhere)


def modules_of(key: str) -> list[Path]:
    """The module of a leaf, unless that is the root."""
    above = tuple(key.split("."))[:-1]
    return [above] if above else []


def repeats_around(key: str) -> list[Path]:
    """The paths up to each index, the innermost first; an index may stand inside a name."""
    segments = tuple(key.split("."))
    return [segments[: at + 1] for at in reversed(range(len(segments) - 1)) if any(map(str.isdigit, segments[at]))]


def _places(settled: Iterable[Settled], trees: tuple[KeyTree, KeyTree]) -> tuple[Places, Places]:
    found: tuple[dict[Path, set[Path]], dict[Path, set[Path]]] = (defaultdict(set), defaultdict(set))
    for s in settled:
        keys = [trees[0].keys[i] for i in s.left], [trees[1].keys[j] for j in s.right]
        for around in (modules_of, repeats_around):
            left, right = ({path for key in side for path in around(key)} for side in keys)
            for one, other, goals in ((found[0], left, right), (found[1], right, left)):
                for path in other:
                    one[path] |= goals
    return dict(found[0]), dict(found[1])


Cells = Mapping[int, tuple[int, Indices]]


def _cells(side: Sequence[Pattern]) -> Cells:
    """Where each leaf stands: pattern and indices."""
    return {at: (n, key) for n, p in enumerate(side) for key, at in p.cells.items()}


def _known(s: Settled, where: tuple[Cells, Cells]) -> bool:
    return all(i in where[0] for i in s.left) and all(j in where[1] for j in s.right)


def _without(side: Sequence[Pattern], used: set[int]) -> list[Pattern]:
    found = []
    for p in side:
        kept = [key for key, at in p.cells.items() if at not in used]
        if len(kept) == len(p):
            found.append(p)
        elif kept:
            found.append(part(p, kept))
    return found


def _links(
    settled: Sequence[Settled], sides: Sides, where: tuple[Cells, Cells], trees: tuple[KeyTree, KeyTree]
) -> Iterator[Link]:
    """Settled leaves folded: one link for the same patterns and operations."""
    folded: dict[object, list[Settled]] = defaultdict(list)
    for s in settled:
        mine = tuple(dict.fromkeys(where[0][i][0] for i in s.left))
        theirs = tuple(dict.fromkeys(where[1][j][0] for j in s.right))
        folded[mine, theirs, s.operations, _evidence(s, trees)].append(s)
    for members in folded.values():
        first = members[0]
        evidence = _evidence(first, trees)
        left = _folded([i for s in members for i in s.left], sides[0], where[0])
        right = _folded([j for s in members for j in s.right], sides[1], where[1])
        groups = tuple(Group(s.left, s.right) for s in members)
        yield Link(left, right, first.operations, groups, evidence=evidence, rivals=(left, right))


def _evidence(s: Settled, trees: tuple[KeyTree, KeyTree]) -> tuple[str, ...]:
    """What was found, and whether dtypes differ although the numbers do not."""
    left = {trees[0].leaves[i].dtype for i in s.left}
    right = {trees[1].leaves[j].dtype for j in s.right}
    if left == right or s.evidence == REPEATED:
        return (s.evidence,)
    dtypes = (", ".join(sorted(map(str, side))) for side in (left, right))
    return s.evidence, "the same numbers as {} and as {}".format(*dtypes)


def _folded(leaves: Sequence[int], side: Sequence[Pattern], where: Cells) -> tuple[Pattern, ...]:
    cells: dict[int, list[Indices]] = defaultdict(list)
    for at in leaves:
        cells[where[at][0]].append(where[at][1])
    return tuple(side[n] if len(keys) == len(side[n]) else part(side[n], keys) for n, keys in cells.items())


def _ends(link: Link) -> Iterator[tuple[Pattern, Pattern]]:
    if len(link.left) >= len(link.right):
        yield from ((a, link.right[min(n, len(link.right) - 1)]) for n, a in enumerate(link.left))
    else:
        yield link.left[0], link.right[0]


def _repeats(
    settled: Sequence[Settled],
    sides: Sides,
    where: tuple[Cells, Cells],
    elsewhere: tuple[Mapping[int, frozenset[int]], Mapping[int, frozenset[int]]],
) -> list[Settled]:
    """Leaves of patterns that correspond in other repeats, index for index, under the same operations."""
    used = {i for s in settled for i in s.left}, {j for s in settled for j in s.right}
    agreed: dict[tuple[int, int], list[Settled]] = defaultdict(list)
    for s in settled:
        if len(s.left) == len(s.right) == 1:
            agreed[where[0][s.left[0]][0], where[1][s.right[0]][0]].append(s)
    alone = _alone(agreed)
    found = []
    for (m, n), members in agreed.items():
        straight = all(where[0][s.left[0]][1] == where[1][s.right[0]][1] for s in members)
        if len(members) < 2 or not straight or (m, n) not in alone or len({s.operations for s in members}) != 1:
            continue
        a, b = sides[0][m], sides[1][n]
        for key in a.cells.keys() & b.cells.keys():
            i, j = a.cells[key], b.cells[key]
            fits = _fits(members[0].operations, a.shapes[key], b.shapes[key])
            if fits and i not in used[0] and j not in used[1] and i not in elsewhere[0] and j not in elsewhere[1]:
                found.append(Settled((i,), (j,), members[0].operations, REPEATED))
    return sorted(found, key=lambda s: s.left)


def _fits(operations: Sequence[Operation], before: Shape, after: Shape) -> bool:
    try:
        return before is not None and after is not None and output_shapes(operations, [before]) == (after,)
    except MappingError:
        return False


def _alone(agreed: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Pairs of patterns of which neither corresponds to another as well."""
    left: dict[int, set[int]] = defaultdict(set)
    right: dict[int, set[int]] = defaultdict(set)
    for m, n in agreed:
        left[m].add(n)
        right[n].add(m)
    return {(m, n) for m, n in agreed if len(left[m]) == len(right[n]) == 1}
