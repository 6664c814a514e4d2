"""One map of numbers for each pair of lists: a repeat of the one side is one repeat of the other.

Where leaves of one block go to two blocks of a list, one of them is wrong, whichever of them its evidence makes
certain: the numbers of the list may be shifted, or the block may be another's. The same holds for two blocks of a list
of which leaves go to one block of the list of the same name. And one list maps to another rising or falling as a whole.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Set
from itertools import product
from typing import TYPE_CHECKING

from treealign.align.links import Link
from treealign.align.patterns import Pattern, Shape, concrete
from treealign.align.reasons import Reason
from treealign.align.verdict import Alternatives, alone
from treealign.tree.keys import number_of

if TYPE_CHECKING:
    from treealign.align.state import State
    from treealign.tree.keytree import KeyTree

TWICE = Reason("names", "other leaves of its block go to another number of the list, or come from another")
MINGLED = Reason("names", "some numbers of its list rise with those of the other side, and some fall")
_NUMBER = re.compile(r"(?<![0-9])(?:0|[1-9][0-9]*)(?![0-9])", re.ASCII)
SEVERAL = 2
Path = tuple[str, ...]
Lists = tuple[Path, Path]
Numbers = dict[tuple[str, str], set[tuple[Link, int, int]]]  # by number on either side, the leaves of one match


def judge_index_families(state: State) -> Alternatives:
    """Matches of a block that goes to two blocks of a list, where no shape says which it is.

    Linear in the patterns and their columns of numbers; leaves are looked at in lists that are torn alone.
    """
    lists = {link: dict(_lists(link)) for link in state.known}
    families: dict[Lists, set[tuple[str, str]]] = defaultdict(set)
    for found in lists.values():
        for pair, numbers in found.items():
            families[pair] |= numbers
    torn = {
        pair for pair, numbers in families.items() if any(max(map(len, way.values())) > 1 for way in _ways(numbers))
    }
    maps: dict[Lists, Numbers] = defaultdict(lambda: defaultdict(set))
    for link, found in lists.items() if torn else ():
        if not torn.isdisjoint(found):
            _count(link, maps, torn)
    doubted = (link for pair, numbers in maps.items() for link in _conflicting(pair, numbers, state.trees))
    mixed = {pair for pair, numbers in families.items() if not _run_one_way(numbers)}
    mingled = {link: alone(link, MINGLED) for link, found in lists.items() if not mixed.isdisjoint(found)}
    return mingled | {link: alone(link, TWICE) for link in doubted}


def _lists(link: Link) -> Iterator[tuple[Lists, set[tuple[str, str]]]]:
    """The lists of either side in which its leaves stand, all numbers replaced, and which number goes to which.

    By its patterns and the columns of their captures, so that it costs nothing for each leaf.
    """
    mine, theirs = (list(_numbers(side[0])) for side in (link.left, link.right))
    if len(mine) == len(theirs):
        for (here, some), (there, others) in zip(mine, theirs, strict=True):
            paired = zip(some, others, strict=True) if len(some) == len(others) else product(some, others)
            yield (here, there), set(paired)


def _numbers(p: Pattern) -> Iterator[tuple[Path, list[str]]]:
    """The lists in which a pattern stands, all numbers replaced, and its numbers in each, the least first."""
    plain, columns = _plain(p.segments), iter(list(zip(*p.cells, strict=True)))
    for at, segment in enumerate(p.segments):
        column = next(columns) if "{}" in segment else ()
        if at < len(p.segments) - 2 and plain[at].count("#") == 1:
            yield plain[: at + 1], sorted(set(column), key=int) or _NUMBER.findall(segment)


def _ways(numbers: Set[tuple[str, str]]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Where each number goes, and where each comes from."""
    there: dict[str, set[str]] = defaultdict(set)
    here: dict[str, set[str]] = defaultdict(set)
    for i, j in numbers:
        there[i].add(j)
        here[j].add(i)
    return there, here


def _run_one_way(numbers: Set[tuple[str, str]]) -> bool:
    """Whether the numbers of two lists rise together, or one falls as the other rises, where each goes to one."""
    there, here = _ways(numbers)
    if max(map(len, (*there.values(), *here.values())), default=1) > 1:
        return True
    row = [number_of(j) for _, j in sorted((number_of(i), j) for i, j in numbers)]
    return row in (sorted(row), sorted(row, reverse=True))


def _count(link: Link, maps: dict[Lists, Numbers], torn: Set[Lists]) -> None:
    keys = [{at: key for key, at in side[0].cells.items()} for side in (link.left, link.right)]
    for group in link.expand():
        leaves = group.left[0], group.right[0]
        if leaves[0] not in keys[0] or leaves[1] not in keys[1]:
            continue
        places = [list(_places(side[0], keys[n][leaves[n]])) for n, side in enumerate((link.left, link.right))]
        for (a, i), (b, j) in zip(*places, strict=True):
            if (_plain(a), _plain(b)) in torn:
                maps[a, b][i, j].add((link, *leaves))


def _plain(path: Path) -> Path:
    return tuple(_NUMBER.sub("#", s.replace("{}", "#")) for s in path)


def _places(p: Pattern, key: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """The lists in which a leaf stands, by path with the number replaced, and its number in each."""
    segments = concrete(p, key)
    for at, segment in enumerate(segments[:-2]):
        runs = list(_NUMBER.finditer(segment))
        if len(runs) == 1:
            run = runs[0]
            yield (*segments[:at], segment[: run.start()] + "#" + segment[run.end() :]), run.group()


def _spread(lists: Lists, pairs: Numbers, tree: KeyTree) -> Iterator[Link]:
    """The links of modules beside one another, below one number of the first list, that go to several of the second."""
    found: dict[Path, dict[str, list[Link]]] = defaultdict(lambda: defaultdict(list))
    for (_, j), some in pairs.items():
        for link, a, _ in some:
            holder = tuple(tree.keys[a].split(".")[:-2])
            if len(holder) > len(lists[0]):  # not the member of the list itself, of which each module may go elsewhere
                found[holder][j].append(link)
    for numbers in found.values():
        if len(numbers) > 1:
            yield from (link for some in numbers.values() for link in some)


def _conflicting(lists: Lists, pairs: Numbers, trees: tuple[KeyTree, KeyTree]) -> Iterator[Link]:
    """The links of numbers that go to two, or come from two.

    What hangs together below a number is proved where the shapes of the other numbers forbid any of it to be there.
    Levels may nest otherwise, so that one number of the one list stands for all of the other: the two are one level
    where they bear one name, or where several numbers of each correspond. Else only modules beside one another that go
    to two numbers all the same are doubted.
    """
    there, here = _ways(pairs.keys())
    alike = lists[0][-2:] == lists[1][-2:]
    if not alike and min(len(there), len(here)) < SEVERAL:
        yield from _spread(lists, pairs, trees[0])
        return
    for (i, j), some in pairs.items():
        elsewhere, others = there[i] - {j}, here[j] - {i} if alike else set()
        if not elsewhere and not others:
            continue
        below = _below(trees[0], lists[0], others)
        branches: dict[str, list[tuple[Link, bool]]] = defaultdict(list)
        for link, a, b in some:
            nowhere = _shapes(trees[1], b, lists[1], elsewhere)
            rivals = _shapes(trees[0], a, lists[0], others) or below
            proved = trees[1].leaves[b].shape not in nowhere and trees[0].leaves[a].shape not in rivals
            branches[trees[0].keys[a].split(".")[len(lists[0])]].append((link, proved))
        for members in branches.values():
            if not any(proved for _, proved in members):
                yield from (link for link, _ in members)


def _shapes(tree: KeyTree, at: int, path: Path, numbers: Set[str]) -> list[Shape]:
    """The shapes of the leaf's namesakes in these members of a list."""
    segments = tree.keys[at].split(".")
    twins = (".".join((*path[:-1], path[-1].replace("#", n), *segments[len(path) :])) for n in sorted(numbers))
    return [tree.leaf(twin).shape for twin in twins if twin in tree]


def _below(tree: KeyTree, path: Path, numbers: Set[str]) -> set[Shape]:
    """The shapes of all leaves of these members of a list."""
    starts = tuple(".".join((*path[:-1], path[-1].replace("#", n), "")) for n in sorted(numbers))
    return {leaf.shape for leaf in tree.leaves if leaf.key.startswith(starts)} if starts else set()
