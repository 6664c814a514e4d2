"""Containers as wholes: sibling modules of equal contents go somewhere as one, and one verdict speaks for all of each.

Two modules that hold leaves of the same names and shapes could always change places, all leaves at once. Which is which
only their own names can tell, where these differ; whatever is the same in both separates nothing, and neither does a
name whose every word the other has as well (`heads.cmd.mlm_head` beside `heads.fairseq_mlm`). So such a pair is judged
by the words at the place where the two differ, once for all that is below.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np

from treealign.align.knowledge.weights import MARGIN, READ, WHOLE
from treealign.align.matching.assignment import Assignment
from treealign.align.matching.certainty import RIVALLED, Doubt
from treealign.align.matching.scoring import Floats, Side
from treealign.align.words import split_words

MOST_ALIKE = 24  # containers of one content of which each pair is judged
LARGE = 1e6  # leaves that cannot be one another
LEAST = 2  # leaves: a single one is judged as a leaf
Path = tuple[str, ...]
Leaves = dict[Path, int]  # below a container: the rest of the path to the pattern


class Whole(NamedTuple):
    """A container of the checkpoint and where it goes.

    Attributes
    ----------
    here, there : tuple of str
        The paths of the two containers.
    pairs : dict
        For each leaf, by its path below the container, the patterns of both sides.
    """

    here: Path
    there: Path
    pairs: dict[Path, tuple[int, int]]


def judge_wholes(
    left: Side, right: Side, assignment: Assignment, found: Mapping[int, Doubt], mirrored: Floats | None = None
) -> dict[int, Doubt]:
    """The doubts, with one verdict for all leaves of containers that could change places.

    `mirrored` is what lists that run the other way round teach about pairs of leaves, (left, right).
    """
    doubts, taken = dict(found), set(assignment.pairs.values())
    for group in _alike(left, assignment.pairs.keys()):
        wholes = [
            whole for whole in (_whole(right, here, leaves, assignment, taken) for here, leaves in group) if whole
        ]
        for one, other in combinations(wholes, 2):
            if _apart(one.there, other.there) and one.pairs.keys() == other.pairs.keys():
                _judge(left, right, (one, other), assignment, doubts, mirrored)
    return doubts


def as_wholes(left: Side, right: Side, assignment: Assignment, _: object = None) -> Floats | None:
    """What to add to the scores so that no container is torn apart, (left, right); None where none is.

    As many containers of one content on either side, whose leaves go to one another's places by turns, are assigned as
    wholes: leaf to leaf in the way that fits all of them best, then container to container.
    """
    table: Floats = np.zeros(assignment.given.free, np.float32)
    there = {path: group for group in _alike(right, set(assignment.pairs.values())) for path, _ in group}
    for group in _alike(left, assignment.pairs.keys()):
        goals = [_goals(right, leaves, assignment, there) for _, leaves in group]
        homes = {path for found in goals for path in found}
        partners = {there[path][0][0]: there[path] for path in homes if path in there}  # by its first container
        if all(len(found) == 1 for found in goals) or len(partners) != 1 or homes - there.keys():
            continue
        (other,) = partners.values()
        if len(other) == len(group) and len(other[0][1]) == len(group[0][1]):
            _add_wholes(table, assignment, [leaves for _, leaves in group], [leaves for _, leaves in other])
    return table if table.any() else None


def _goals(right: Side, leaves: Leaves, assignment: Assignment, there: Mapping[Path, object]) -> set[Path]:
    """The containers that the leaves of one go to; the root for one that is not alike to any other."""
    found = set()
    for i in leaves.values():
        path = right.patterns[assignment.pairs[i]].segments
        found.add(next((path[:n] for n in range(len(path) - 1, 0, -1) if path[:n] in there), ()))
    return found


def _add_wholes(table: Floats, assignment: Assignment, here: list[Leaves], there: list[Leaves]) -> None:
    from scipy.optimize import linear_sum_assignment

    every = [i for leaves in here for i in leaves.values()], [j for leaves in there for j in leaves.values()]
    if max(every[0]) >= table.shape[0] or max(every[1]) >= table.shape[1]:
        return
    classes = {int(i): n for n, c in enumerate(assignment.classes) for i in c.left}
    others = {int(j): n for n, c in enumerate(assignment.classes) for j in c.right}
    rests = list(here[0]), list(there[0])
    fit = np.array(
        [
            [
                sum(
                    float(assignment.scores[a[x], b[y]]) if classes.get(a[x]) == others.get(b[y]) else -LARGE
                    for a in here
                    for b in there
                )
                for y in rests[1]
            ]
            for x in rests[0]
        ]
    )
    rows, columns = linear_sum_assignment(fit, maximize=True)
    if fit[rows, columns].min() <= -LARGE:
        return
    leaf = [(rests[0][x], rests[1][y]) for x, y in zip(rows, columns, strict=True)]
    whole = np.array([[sum(float(assignment.scores[a[x], b[y]]) for x, y in leaf) for b in there] for a in here])
    table[np.ix_(*every)] -= WHOLE
    for k, n in zip(*linear_sum_assignment(whole, maximize=True), strict=True):
        for x, y in leaf:
            table[here[k][x], there[n][y]] += 2 * WHOLE


def _judge(
    left: Side,
    right: Side,
    both: tuple[Whole, Whole],
    assignment: Assignment,
    doubts: dict[int, Doubt],
    mirrored: Floats | None,
) -> None:
    """Doubt all leaves of two containers that nothing tells apart."""
    (i, j), (k, n) = (next(iter(whole.pairs.values())) for whole in both)
    told = 0.0
    if mirrored is not None and max(i, k) < mirrored.shape[0] and max(j, n) < mirrored.shape[1]:
        told = float(mirrored[i, j] + mirrored[k, n] - mirrored[i, n] - mirrored[k, j])
    if told + _kept(left, right, both) > MARGIN or _surrounded(left, right, both, assignment, doubts):
        return
    for one, other in (both, both[::-1]):
        for rest, (i, j) in one.pairs.items():
            k, n = other.pairs[rest]
            if i not in doubts:
                pair = tuple(sorted((i, k))), tuple(sorted((j, n)))
                doubts[i] = Doubt((i, j), *pair, RIVALLED, ((k,), (n,)))


def _kept(left: Side, right: Side, both: tuple[Whole, Whole]) -> float:
    """What the names of two containers, where they differ, would lose if all leaves of the two changed places."""
    rest = next(iter(both[0].pairs))
    leaves = both[0].pairs[rest], both[1].pairs[rest]
    here = _beyond(both[0].here, both[1].here)
    there = _beyond(both[0].there, both[1].there)
    if all(
        set(a) & set(b) - set(other) for a, b, other in ((here[0], there[0], here[1]), (here[1], there[1], here[0]))
    ):
        return 1.0  # either is called alike on both sides
    if all(path[0].isdecimal() for path in (*here, *there)):
        return 1.0  # members of a list: which way it runs is judged for all of them at once
    names = [
        [_Name.of(side, whole[at], path, own) for whole, path, own in zip(leaves, paths, own_paths, strict=True)]
        for at, (side, paths, own_paths) in enumerate(
            ((left, (both[0].here, both[1].here), here), (right, (both[0].there, both[1].there), there))
        )
    ]
    (a, b), (x, y) = names
    same = sum(whole.here == whole.there for whole in both)
    return same + a.shared(x, b, y) + b.shared(y, a, x) - a.shared(y, b, x) - b.shared(x, a, y)


class _Name(NamedTuple):
    """What names a container, apart from what holds it and another: words, roles, ranks, readings; and whole names."""

    words: set[str]
    whole: set[str]

    @classmethod
    def of(cls, side: Side, at: int, path: Path, own: Path) -> _Name:
        """Read it off the tokens of one of its leaves."""
        depth = len(side.patterns[at].segments) - len(path)
        said = (t for t in side.tokens[at] if t.qualified)
        inside = [t.text for t in said if t.text[0] == "~" or depth <= t.depth < depth + len(own)]
        words = {text for text in inside if text[0] != "=" and (" " not in text or text[0] in "@%$!~")}
        return cls(words, {text for text in inside if text[0] == "="})

    def shared(self, other: _Name, beside: _Name, over: _Name) -> float:
        """How much two have in common; a whole name says nothing of which one beside them has a word, too."""
        rivals = beside.words | over.words
        whole = [name for name in self.whole & other.whole if rivals.isdisjoint(split_words(name[1:]))]
        return sum(READ if word[0] == "~" else 1 for word in self.words & other.words) + len(whole)


def _surrounded(
    left: Side, right: Side, both: tuple[Whole, Whole], assignment: Assignment, doubts: Mapping[int, Doubt]
) -> bool:
    """Whether something certain beside one of them, within what the other is not in, goes to the same surroundings."""
    here, there = (_outermost(a, b) for a, b in ((both[0].here, both[1].here), (both[0].there, both[1].there)))
    for whole, around, over in zip(both, here, there, strict=True):
        own = {i for i, _ in whole.pairs.values()}
        beside = (i for i in left.below[around] if i not in own and i not in doubts and i in assignment.pairs)
        inside = set(right.below[over])
        if around != whole.here and over != whole.there and any(assignment.pairs[i] in inside for i in beside):
            return True
    return False


def _outermost(a: Path, b: Path) -> tuple[Path, Path]:
    """The outermost nodes of two paths that hold the one and not the other."""
    size = len(a) - len(_beyond(a, b)[0]) + 1
    return a[:size], b[:size]


def _beyond(a: Path, b: Path) -> tuple[Path, Path]:
    """What two paths have after what they have in common."""
    shared = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[shared:], b[shared:]


def _apart(a: Path, b: Path) -> bool:
    """Whether neither stands within the other."""
    return all(_beyond(a, b))


def _alike(side: Side, matched: Collection[int]) -> Iterator[list[tuple[Path, Leaves]]]:
    """Containers of the same contents, the outermost only."""
    groups: dict[object, list[tuple[Path, Leaves]]] = defaultdict(list)
    for path, below in side.below.items():
        leaves = {side.patterns[i].segments[len(path) :]: i for i in below}
        if len(leaves) >= LEAST and () not in leaves and all(i in matched for i in below):
            groups[frozenset((rest, side.patterns[i].signature) for rest, i in leaves.items())].append((path, leaves))
    inner = {path for group in groups.values() if len(group) > 1 for path, _ in group}
    for group in groups.values():
        outer = [one for one in group if one[0][:-1] not in inner]
        if 1 < len(outer) <= MOST_ALIKE:
            yield outer


def _whole(right: Side, here: Path, leaves: Leaves, assignment: Assignment, taken: set[int]) -> Whole | None:
    """Where the leaves of a container go, if it is to one place that holds nothing else of the matches."""
    pairs = {rest: (i, assignment.pairs[i]) for rest, i in leaves.items()}
    paths = [right.patterns[j].segments for _, j in pairs.values()]
    size = next((n for n in range(min(map(len, paths))) if len({p[n] for p in paths}) > 1), min(map(len, paths)) - 1)
    there, images = paths[0][:size], {j for _, j in pairs.values()}
    return Whole(here, there, pairs) if size and taken.intersection(right.below[there]) <= images else None
