"""Shrink a pair of trees by what is obviously the same, so that the costly search sees only the rest.

After GumTree's top-down matcher (Falleri et al. 2014) and difftastic: from the roots down, children of one name whose
subtrees have equal digests correspond, leaf by leaf; of what is left in two corresponding containers, a child whose
digest occurs once on either side was renamed, moved in or given a level. What could as well be exchanged with a
leftover beside it is set aside: a number of a list that is not the same on both sides as a whole (`norm0, norm1`
against `norm1, norm2`), and a container of which the other side has another of the same leaves.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import networkx as nx

from treealign.align.hinted import Hint, contains
from treealign.align.patterns import Pattern
from treealign.formats.cached import cached_property
from treealign.tree.graph import ROOT, Path, grow, set_digests

Unlike = Callable[[Pattern], bool]
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
FEW = 2  # modules from which a subtree that moved or was renamed is known again


def _never(_: Pattern) -> bool:
    return False


def shrink(
    left: Sequence[Pattern], right: Sequence[Pattern], apart: tuple[Unlike, Unlike] = (_never, _never)
) -> dict[int, int]:
    """Patterns that are obviously the same, left to right by position.

    Parameters
    ----------
    left, right : sequence of Pattern
        Checkpoint and model.
    apart : two functions
        Whether a pattern of that side is never obviously the same as another: a hint speaks of it.

    Notes
    -----
    Linear in the number of segments, apart from sorting the children of each level.
    """
    sides = _Grown(left, apart[0], 0), _Grown(right, apart[1], 1)
    search = _Search(sides)
    search.descend()
    search.find_moved()
    return {i: j for a, b in search.found for i, j in _leaves(sides, a, b)}


def shrunk(left: Sequence[Pattern], right: Sequence[Pattern], hints: Sequence[Hint]) -> dict[int, int]:
    """The same, but for patterns that bear one of the names that hints give."""
    return shrink(left, right, (_said([h.source for h in hints]), _said([h.target for h in hints])))


def _said(runs: Sequence[tuple[str, ...]]) -> Unlike:
    return lambda p: any(contains(p.segments, run) for run in runs)


class Behind(NamedTuple):
    """Both sides with what is the same behind the rest, its pairs by position, and how many the rest are."""

    left: list[Pattern]
    right: list[Pattern]
    same: dict[int, int]
    free: tuple[int, int]


def set_behind(left: Sequence[Pattern], right: Sequence[Pattern], same: Mapping[int, int]) -> Behind:
    """Sort what `shrink` found behind the rest, which keeps its order."""
    taken = set(same.values())
    free = [i for i in range(len(left)) if i not in same], [j for j in range(len(right)) if j not in taken]
    sizes = len(free[0]), len(free[1])
    pairs = {sizes[0] + n: sizes[1] + n for n in range(len(same))}
    return Behind([left[i] for i in (*free[0], *same)], [right[j] for j in (*free[1], *same.values())], pairs, sizes)


@dataclass(frozen=True, eq=False)
class _Grown:
    """The tree of one side's patterns, with digests with and without names."""

    patterns: Sequence[Pattern]
    apart: Unlike
    number: int

    @cached_property
    def at(self) -> Mapping[Path, list[int]]:
        """The patterns of each path."""
        found: dict[Path, list[int]] = defaultdict(list)
        for n, p in enumerate(self.patterns):
            found[p.segments].append(n)
        return found

    @cached_property
    def tree(self) -> nx.DiGraph:
        """With `digest`, and with `kind`, which leaves names out."""
        tree = grow(self.at)
        set_digests(tree, self._content)
        set_digests(tree, self._content, "kind", named=False)
        return tree

    @cached_property
    def words(self) -> set[str]:
        """All segments."""
        return {segment for path in self.at for segment in path}

    def _content(self, node: Path) -> object:
        """Signatures of the patterns at a path; where a hint speaks of one, something that the other side has not."""
        members = [self.patterns[n] for n in self.at.get(node, ())]
        return sorted((p.signature, self.number if self.apart(p) else -1) for p in members)

    def digest(self, node: Path) -> str:
        """Of the names and leaves below a node."""
        return str(self.tree.nodes[node]["digest"])

    def kind(self, node: Path) -> str:
        """Of the leaves below a node, however they are called."""
        return str(self.tree.nodes[node]["kind"])

    def children(self, node: Path) -> dict[str, Path]:
        """By name."""
        return {child[-1]: child for child in self.tree.successors(node)}

    def below(self, node: Path) -> list[Path]:
        """The paths of the leaves of a subtree."""
        return [path for path in nx.dfs_preorder_nodes(self.tree, node) if path in self.at]


class _Search:
    """The corresponding subtrees found so far, and what is set aside."""

    def __init__(self, sides: tuple[_Grown, _Grown]) -> None:
        self.sides = sides
        self.found: list[tuple[Path, Path]] = []
        self.aside: tuple[set[Path], set[Path]] = (set(), set())

    def descend(self) -> None:
        """From the roots down through containers of one path."""
        waiting = [(ROOT, ROOT)]
        while waiting:
            a, b = waiting.pop()
            if self.sides[0].digest(a) == self.sides[1].digest(b):
                self.found.append((a, b))
            else:
                waiting += self._children(a, b)

    def _children(self, a: Path, b: Path) -> Iterator[tuple[Path, Path]]:
        """The children of two containers that correspond as such or have to be looked into."""
        mine, theirs = self.sides[0].children(a), self.sides[1].children(b)
        same = {s for s in mine.keys() & theirs.keys() if self._equal(mine[s], theirs[s])}
        uneven = {_stem(s) for s in (mine.keys() | theirs.keys()) - same if _stem(s) != s}
        for side, children in zip(self.aside, (mine, theirs), strict=True):
            side.update(child for s, child in children.items() if _stem(s) in uneven)
        left, right = ([c for s, c in side.items() if s not in same] for side in (mine, theirs))
        kinds = {self.sides[0].kind(c) for c in left} | {self.sides[1].kind(c) for c in right}
        for s in (s for s in mine if s in theirs and _stem(s) not in uneven):
            if s not in same or self.sides[0].kind(mine[s]) not in kinds:
                yield mine[s], theirs[s]
            else:
                self.aside[0].add(mine[s])
                self.aside[1].add(theirs[s])
        yield from self._renamed(left, right, {self.sides[0].kind(mine[s]) for s in same})

    def _renamed(self, left: Sequence[Path], right: Sequence[Path], taken: Set[str]) -> Iterator[tuple[Path, Path]]:
        """What is left over in two containers, if that is the same and called otherwise throughout.

        Not if one of them is numbered, or of a kind that is `taken`: a child of one name is of that kind as well.
        """
        mine = _unique((self.sides[0].digest(c), c) for c in left)
        theirs = _unique((self.sides[1].digest(c), c) for c in right)
        pairs = [(a, theirs[digest]) for digest, a in mine.items() if digest in theirs]
        if len(pairs) == len(left) == len(right) and all(self._is_foreign(a, b, taken) for a, b in pairs):
            yield from pairs

    def _is_foreign(self, a: Path, b: Path, taken: Set[str]) -> bool:
        words = self.sides[0].words, self.sides[1].words
        numbered = _stem(a[-1]) != a[-1] or _stem(b[-1]) != b[-1]
        return not numbered and a[-1] not in words[1] and b[-1] not in words[0] and self.sides[0].kind(a) not in taken

    def _equal(self, a: Path, b: Path) -> bool:
        return self.sides[0].digest(a) == self.sides[1].digest(b)

    def find_moved(self) -> None:
        """Subtrees of one digest that stand nowhere else on either side: a level more or less, another place.

        Nor any other of the same leaves under other names, for which it could be exchanged.
        """
        known = [[*(pair[side] for pair in self.found), *self.aside[side]] for side in (0, 1)]
        above = [{path[:n] for path in paths for n in range(len(path))} for paths in known]
        free = [list(self._free(number)) for number in (0, 1)]
        counts = [Counter(map(side.kind, nodes)) for side, nodes in zip(self.sides, free, strict=True)]
        theirs = {self.sides[1].digest(node): node for node in free[1] if node not in above[1]}
        covered: set[Path] = set()
        for a in free[0]:
            b, kind = theirs.get(self.sides[0].digest(a)), self.sides[0].kind(a)
            if a and a[:-1] in covered:
                covered.add(a)
            elif b is None or a in above[0]:  # a part of either belongs elsewhere, or may
                continue
            elif counts[0][kind] == counts[1][kind] == 1 and self._is_telling(a, b):
                covered.add(a)
                self.found.append((a, b))

    def _is_telling(self, a: Path, b: Path) -> bool:
        """Several modules, none of them one of a numbered series: a lone norm is not known again by its size."""
        if any(_stem(path[-1]) != path[-1] for path in (a, b) if path):
            return False
        return len({path[:-1] for path in self.sides[0].below(a)}) >= FEW

    def _free(self, number: int) -> Iterator[Path]:
        """The nodes, from the root down, of which nothing is known yet."""
        side, aside = self.sides[number], self.aside[number]
        done = {pair[number] for pair in self.found}
        waiting = [ROOT]
        while waiting:
            node = waiting.pop()
            if node in done or node in aside:
                continue
            yield node
            waiting += side.tree.successors(node)


def _leaves(sides: tuple[_Grown, _Grown], a: Path, b: Path) -> Iterator[tuple[int, int]]:
    """The patterns of two subtrees of equal digest."""
    for path in sides[0].below(a):
        there = {sides[1].patterns[j].signature: j for j in sides[1].at[(*b, *path[len(a) :])]}
        yield from ((i, there[sides[0].patterns[i].signature]) for i in sides[0].at[path])


def _unique(entries: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """The digests that occur once."""
    listed = list(entries)
    counts = Counter(digest for digest, _ in listed)
    return {digest: node for digest, node in listed if counts[digest] == 1}


def _stem(segment: str) -> str:
    """A name without its numbers; an index that was folded is no number."""
    return _DIGITS.sub("#", segment)
