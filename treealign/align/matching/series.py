"""Numbers in names are positions in a series, not names: `{norm0, norm1}` against `{norm1, norm2}` is a shift.

A series is a set of siblings that differ by one number only; a member's evidence is its rank and the length of the
series. Where a side is ordered, siblings of one shape have a rank by definition too, and it may meet the rank of a
numbered series on the other side (`layer_norm_1..3` against three norms with names).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

from treealign.align.patterns import Pattern
from treealign.align.words import Token, split_words
from treealign.tree.keys import number_of

_DIGITS = re.compile(r"[0-9]+", re.ASCII)
PAIR_ROLES = (("@pre_attn", "@post_attn"), ("@pre_mlp", "@post_mlp"))  # the first norm of a block, the second
LETTERED_ROLES = frozenset({"@gate", "@up", "@down"})  # w1, w3 and w2, of all three
_COUNTED = re.compile(r"_[0-9]+$", re.ASCII)
_LETTERED = re.compile(r"w_?[123](?![0-9])", re.ASCII)
NUMBERED_ROLES = frozenset(role for roles in PAIR_ROLES for role in roles)
COUNTER = "num_batches_tracked"  # of a batch norm; torch does without it


def _by_rank(found: Sequence[Token], place: Rank | None) -> Iterator[Token]:
    """The roles of a pair of numbered norms go by rank: of norm0 and norm1, norm1 is the second."""
    roles = [t for t in found if t.text in NUMBERED_ROLES]
    yield from (t for t in found if t.text not in NUMBERED_ROLES)
    if not roles or place is None or place.members != 2:
        yield from roles
    else:
        yield from (replace(roles[0], text=text) for text in PAIR_ROLES[place.rank])


List = tuple[tuple[str, ...], str]  # the path above it, and the name of its members without the number
BARE = "\0"  # that name where the members are numbers and nothing else


class Kind(NamedTuple):
    """The place of a member of a list among those that are built as it is, which are the so-many-th kind there."""

    kind: int
    rank: int
    members: int


class Rank(NamedTuple):
    """The place of a pattern in a numbered series."""

    rank: int
    members: int
    depth: int
    gaps: str


def with_series(
    patterns: Sequence[Pattern], tokens: Sequence[tuple[Token, ...]], ordered: bool
) -> list[tuple[Token, ...]]:
    """The tokens of all patterns with numbers replaced by ranks.

    Tokens added: ``%r/n``, rank r among the n members of a numbered series; ``$r/n``, rank r among the n siblings of
    one shape, by number or by order of definition.
    """
    ranks = _numbered(patterns)
    groups = _sibling_groups(patterns)
    orders = _orders(groups, patterns, ordered, ranks)
    crowded = {at for members in groups for at in members if len(members) > 2}
    complete, second = _complete(patterns), _after_a_bare_name(patterns)
    out = []
    for at, found in enumerate(tokens):
        mine = ranks.get(at, [])
        # "the second norm" names a role only where a block has two
        numbered = any(t.ordinal and t.depth == 1 for t in found) and _counts_norms(patterns[at])
        long = numbered and (at in crowded or at in second or any(r.members > 2 for r in mine if r.depth == 1))
        kept = [t for t in found if not t.ordinal and not (long and t.text in NUMBERED_ROLES)]
        if numbered and not long:
            kept = [*_by_rank(kept, next((r for r in mine if r.depth == 1), None))]
        if at not in complete:
            kept = [t for t in kept if t.text not in LETTERED_ROLES or not _is_lettered(patterns[at], t.depth)]
        kept += [Token(f"%{rank}/{count}{gaps}", depth, True, True) for rank, count, depth, gaps in mine]
        if at in orders:
            r, n = orders[at]
            # an order of definition against numbers ranks candidates; libraries differ, so it settles nothing
            kept.append(Token(f"${r}/{n}", 1, False, True))
        out.append(tuple(kept))
    return out


def _complete(patterns: Sequence[Pattern]) -> set[int]:
    """Leaves of `w1`, `w2`, `w3` where all three stand side by side; of two of them either may be the gate."""
    found: dict[Any, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at, p in enumerate(patterns):
        for depth, segment in enumerate(reversed(p.segments)):
            if hit := _LETTERED.match(segment):
                place = p.segments[: len(p.segments) - 1 - depth]
                found[place, segment[hit.end() :], depth][hit.group()[-1]].append(at)
    return {at for numbers in found.values() if len(numbers) == 3 for members in numbers.values() for at in members}


def _after_a_bare_name(patterns: Sequence[Pattern]) -> set[int]:
    """Leaves of `norm_1` beside `norm`: TensorFlow numbers from the second on, so that the 1 is not the first."""
    modules = {p.segments[:-1] for p in patterns if len(p.segments) > 1}
    bare = {m for m in modules if (*m[:-1], f"{m[-1]}_1") in modules}
    return {
        at
        for at, p in enumerate(patterns)
        if len(p.segments) > 1 and _COUNTED.search(p.segments[-2])
        if (*p.segments[:-2], _COUNTED.sub("", p.segments[-2])) in bare
    }


def _counts_norms(p: Pattern) -> bool:
    """Whether the number in a module's name counts norms: that of `fc1` counts linears, whatever stands inside."""
    return len(p.segments) > 1 and "norm" in split_words(p.segments[-2])


def _is_lettered(p: Pattern, depth: int) -> bool:
    return depth < len(p.segments) and _LETTERED.match(p.segments[-1 - depth]) is not None


def _numbered(patterns: Sequence[Pattern]) -> dict[int, list[Rank]]:
    """Rank, length, depth and gaps of every numbered series that each pattern is in.

    Numbers inside names count up one by one; where they do not, a member is absent, and only a series with the same
    gaps is comparable. The indices of a Sequential skip the modules without parameters. Where the members of one
    list are built in several ways, its blocks between an embedding and a head, each also has its rank among those that
    are built as it is.
    """
    groups: dict[tuple[List, int], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at, p in enumerate(patterns):
        for depth, one, number in _numbers(p):
            groups[one, depth][number].append(at)
    found: dict[int, list[Rank]] = defaultdict(list)
    kinds = places_by_kind(patterns)
    for (one, depth), members in groups.items():
        numbers = sorted(members)
        steps = [b - a for a, b in pairwise(numbers)]
        gaps = "" if one[1] == BARE or set(steps) <= {1} else f"+{','.join(map(str, steps))}"
        for rank, number in enumerate(numbers):
            entries = [Rank(rank, len(numbers), depth, gaps)] if len(numbers) > 1 else []
            if place := kinds.get((one, number)):
                entries.append(Rank(place.rank, place.members, depth, ""))
            for at in members[number]:
                found[at] += [entry for entry in dict.fromkeys(entries) if entry not in found[at]]
    return found


def places_by_kind(patterns: Sequence[Pattern]) -> dict[tuple[List, int], Kind]:
    """The place of each member of a list among those of its kind, where the list holds other members, too.

    Of one kind are members of which most names below them are the same, numbers in these replaced: the blocks of a
    Sequential between an embedding and a head, be it that some of them have a shortcut. Kinds of one member have no
    places.
    """
    below: dict[List, dict[frozenset[int], set[tuple[str, ...]]]] = defaultdict(lambda: defaultdict(set))
    for p in patterns:
        for depth, one, numbers in bare_numbers(p):
            path = tuple(_DIGITS.sub(BARE, s.replace("{}", BARE)) for s in p.segments[len(p.segments) - depth :])
            below[one][numbers].add(path)
    found = {}
    for one, paths in below.items():
        members: dict[int, set[tuple[str, ...]]] = defaultdict(set)
        for numbers, some in paths.items() if len(paths) > 1 else ():
            for number in numbers:
                members[number] |= some
        kinds: list[list[int]] = []
        built: dict[frozenset[tuple[str, ...]], list[int]] = {}
        for number in sorted(members):
            names = frozenset(members[number])
            if names not in built:
                like = (kind for kind in kinds if _mostly_the_same(members[kind[0]], names))
                if (kind := next(like, None)) is None:
                    kinds.append(kind := [])
                built[names] = kind
            built[names].append(number)
        for at, kind in enumerate(kinds) if len(kinds) > 1 else ():
            if len(kind) > 1:
                found.update({(one, number): Kind(at, rank, len(kind)) for rank, number in enumerate(kind)})
    return found


def bare_numbers(p: Pattern) -> Iterator[tuple[int, List, frozenset[int]]]:
    """The numbers that are whole names in a path: how deep they stand, in which list, and all that its leaves have."""
    last, capture = len(p.segments) - 1, 0
    for at, segment in enumerate(p.segments):
        if segment == "{}":
            yield last - at, (p.segments[:at], BARE), p.columns[capture]
        elif segment.isdecimal():
            yield last - at, (p.segments[:at], BARE), frozenset((number_of(segment),))
        capture += segment.count("{}")


def _mostly_the_same(some: Set[tuple[str, ...]], others: Set[tuple[str, ...]]) -> bool:
    return 2 * len(some & others) > len(some | others)


def _numbers(p: Pattern) -> Iterator[tuple[int, List, int]]:
    """The numbers in its names: how deep each stands, the list that it counts, and the number."""
    last = len(p.segments) - 1
    for at, segment in enumerate(p.segments):
        for run in _DIGITS.finditer(segment):
            stem = segment[: run.start()] + "\0" + segment[run.end() :]
            yield last - at, (p.segments[:at], stem), number_of(run.group())


def _sibling_groups(patterns: Sequence[Pattern]) -> list[list[int]]:
    """Leaves of one name and shape in modules of one kind below one parent."""
    groups: dict[Any, list[int]] = defaultdict(list)
    beside = companions(patterns)
    for at, p in enumerate(patterns):
        groups[p.segments[:-2], p.segments[-1], p.signature, beside[at]].append(at)
    return [members for members in groups.values() if len(members) > 1]


def _orders(
    groups: list[list[int]], patterns: Sequence[Pattern], ordered: bool, ranks: dict[int, list[Rank]]
) -> dict[int, tuple[int, int]]:
    """Rank and number of the siblings, by order of definition or by the numbers of one series."""
    found = {}
    for members in groups:
        if ordered:
            inorder = sorted(members, key=lambda at: min(patterns[at].cells.values()))
        elif _one_series(members, patterns, ranks):
            inorder = sorted(members, key=lambda at: next(r.rank for r in ranks[at] if r.depth == 1))
        else:
            continue
        for rank, at in enumerate(inorder):
            found[at] = rank, len(members)
    return found


def _one_series(members: list[int], patterns: Sequence[Pattern], ranks: dict[int, list[Rank]]) -> bool:
    stems = {_stem(patterns[at]) for at in members}
    return len(stems) == 1 and all(any(r.depth == 1 for r in ranks.get(at, ())) for at in members)


def _stem(p: Pattern) -> str:
    return _DIGITS.sub("", p.segments[-2]) if len(p.segments) > 1 else ""


def companions(patterns: Sequence[Pattern]) -> list[tuple[int, ...]]:
    """The sorted ranks of the leaves beside each pattern in its module: (1, 1) a norm, (1, 2) a linear layer.

    A convolution over one point is a linear layer. A counter tells nothing: files of before batch norms counted have
    none.
    """
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for p in patterns:
        shape = next(iter(p.shapes.values()))
        if p.segments[-1] != COUNTER:
            found[p.segments[:-1]].append(-1 if shape is None else _rank(shape))
    return [tuple(sorted(found[p.segments[:-1]])) for p in patterns]


def _rank(shape: tuple[int, ...]) -> int:
    return 2 if len(shape) > 2 and set(shape[2:]) == {1} else len(shape)
