"""Ranks in lists that have nothing to do with one another: the 1 of `norm_1` counts norms, that of `fc1` linears.

An equal rank in two lists is evidence where the lists correspond: where their other members do, too. That an attention
is the middle one of three members on one side, and the middle one of three attentions on the other, says nothing when
the other members are no attentions. Nor is the first of two `linear` the first of two `layers`, where its partner has a
number among `linear`, too.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from treealign.align.matching.assignment import Assignment
from treealign.align.matching.scoring import Floats, Side
from treealign.align.matching.series import Kind, List, places_by_kind
from treealign.align.patterns import Pattern
from treealign.tree.keys import number_of

_DIGITS = re.compile(r"[0-9]+", re.ASCII)


def unfounded_ranks(left: Side, right: Side, assignment: Assignment) -> Floats | None:
    """Minus what equal ranks count for matches of leaves whose lists do not correspond, (left, right); None where none.

    Two lists do not correspond where one member of the one goes to the other, and another member goes elsewhere or is
    filled from elsewhere; nor where one of a match stands in a list of the other's name, and not this is the other's.

    Parameters
    ----------
    left, right : Side
        Checkpoint and model.
    assignment : Assignment
        The matches so far.

    """
    lists = [_ranked(_with_kinds(side.patterns)) for side in (left, right)]
    links: dict[tuple[List, List], set[tuple[int, int]]] = defaultdict(set)
    away: tuple[dict[List, set[int]], dict[List, set[int]]] = (defaultdict(set), defaultdict(set))
    for i, j in assignment.pairs.items():
        for a, here in lists[0][i]:
            away[0][a].add(here)
        for b, there in lists[1][j]:
            away[1][b].add(there)
        for a, here in lists[0][i]:
            for b, there in lists[1][j]:
                links[a, b].add((here, there))
    strange = {both for both, numbers in links.items() if _is_strange(numbers, away[0][both[0]], away[1][both[1]])}
    table: Floats = np.zeros(assignment.given.free, np.float32)
    for i, j in assignment.pairs.items():
        if i < table.shape[0] and j < table.shape[1]:
            mine, theirs = _texts(left, i, lists[0][i]), _texts(right, j, lists[1][j])
            shared = [{(a, b) for a in mine[t] for b in theirs[t]} for t in mine.keys() & theirs.keys()]
            named = [{name for one, _ in lists[side][at] if (name := _name(one))} for side, at in enumerate((i, j))]
            table[i, j] = -sum(
                bool(pairs) and all(p in strange or _are_others(*p, *named) for p in pairs) for pairs in shared
            )
    return table if table.any() else None


def _is_strange(ranks: set[tuple[int, int]], here: set[int], there: set[int]) -> bool:
    """Whether at most one rank leads from one list to the same rank of another, of which other members are matched.

    Lists that are moved against each other, or run the other way round, correspond all the same.
    """
    moved = Counter(b - a for a, b in ranks), Counter(a + b for a, b in ranks)
    steady = max(moved[0][0], *(max(found.values()) if len(found) == 1 else 0 for found in moved))
    return steady < 2 and (len(here) > 1 or len(there) > 1)


def _are_others(one: List, other: List, mine: set[str], theirs: set[str]) -> bool:
    """Whether two lists are called otherwise, and one of the two leaves is in a list called as the other one, too."""
    names = _name(one), _name(other)
    return names[0] != names[1] and bool({names[1]} & mine or {names[0]} & theirs)


def _name(one: List) -> str:
    """What numbered modules are called, as `linear` in `linear1`; nothing of a list, whose members are but numbers."""
    return one[1].partition("\0")[0]


def _with_kinds(patterns: Sequence[Pattern]) -> list[list[tuple[List, int]]]:
    """The places of each pattern, and those among the members of its list that are built as its own is."""
    kinds = places_by_kind(patterns)
    return [
        [*found, *((_of_kind(one, kinds[one, n]), n) for one, n in found if (one, n) in kinds)]
        for found in (list(_places(p)) for p in patterns)
    ]


def _of_kind(one: List, place: Kind) -> List:
    return one[0], f"{one[1]} {place.kind}"


def _ranked(lists: Sequence[Sequence[tuple[List, int]]]) -> list[list[tuple[List, int]]]:
    """The places by rank among the numbers of each list, in place of the number."""
    numbers: dict[List, set[int]] = defaultdict(set)
    for places in lists:
        for one, number in places:
            numbers[one].add(number)
    ranks = {one: {n: rank for rank, n in enumerate(sorted(found))} for one, found in numbers.items()}
    return [[(one, ranks[one][number]) for one, number in places] for places in lists]


def _places(p: Pattern) -> Iterator[tuple[List, int]]:
    """The lists in which a leaf stands, by the numbers in its names; folded ones have no place to tell apart."""
    for at, segment in enumerate(p.segments):
        for run in _DIGITS.finditer(segment) if "{}" not in segment else ():
            yield (p.segments[:at], segment[: run.start()] + "\0" + segment[run.end() :]), number_of(run.group())


def _texts(side: Side, at: int, places: Sequence[tuple[List, int]]) -> dict[str, set[List]]:
    """The ranks that count as evidence, each with the lists in which it is one."""
    found: dict[str, set[List]] = defaultdict(set)
    segments = side.patterns[at].segments
    for token in side.tokens[at]:
        if token.text[0] == "%" and token.qualified:
            above = len(segments) - 1 - token.depth
            found[token.text] |= {one for one, _ in places if len(one[0]) == above}
    return found
