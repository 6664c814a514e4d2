"""Units: links that stand or fall together, by the modules that they connect, and what they could be instead."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from treealign.align.asking.exchanging import called_alike
from treealign.align.links import Link
from treealign.align.paths import module_path, without_indices
from treealign.align.patterns import MIN_SERIES, Pattern
from treealign.tree.keys import natural_key

_NUMBER = re.compile(r"[0-9]+", re.ASCII)
_WORD = re.compile(r"[A-Z]*[a-z]+|[A-Z]+|[0-9]+|[{}]+", re.ASCII)
Path = tuple[str, ...]


class Exchange(NamedTuple):
    """What a link's place or its key could have instead: another link's, or what is left over on either side."""

    link: Link
    other: Link | None = None
    source: Pattern | None = None
    target: Pattern | None = None

    @property
    def pattern(self) -> Pattern:
        """The alternative, by the checkpoint's side where it has one."""
        return self.other.left[0] if self.other else self.source or self.target or self.link.left[0]

    @property
    def differing(self) -> tuple[Path, Path, Path, Path]:
        """The names in which the alternative differs from what is guessed, on both sides, what is common cut off."""
        left = self.other.left[0] if self.other else self.source or self.link.left[0]
        right = self.other.right[0] if self.other else self.target or self.link.right[0]
        return *cut_common(self.link.left[0], left), *cut_common(self.link.right[0], right)

    @property
    def rises(self) -> bool:
        """Whether the first of two keys, by name, has the first of their two places."""
        ends = (self.link, self.other or self.link)
        left, right = ([natural_key(side[n][0].template) for side in ((x.left, x.right) for x in ends)] for n in (0, 1))
        return (left[0] < left[1]) == (right[0] < right[1])


@dataclass(frozen=True, eq=False)
class Unit:
    """Links that stand or fall together, and what they could be instead, one tuple of exchanges for each way."""

    links: tuple[Link, ...]
    ways: tuple[tuple[Exchange, ...], ...]

    @property
    def by_source(self) -> bool:
        """Whether the question is what fills its place."""
        return any(e.source is not None for way in self.ways for e in way)

    @property
    def container(self) -> tuple[Path, Path] | None:
        """The two containers whose other names these are, if all below them is called alike; else nothing."""
        found = {_heads(link) for link in self.links}
        return found.pop() if len(found) == 1 else None

    @property
    def signature(self) -> tuple[object, ...]:
        """How the names of the alternatives differ from its own: equal for units that are decided alike."""
        return tuple(way[0].differing for way in self.ways)


def is_open(way: Sequence[Exchange]) -> bool:
    """Whether all of it can be at once, and names do not refute it."""
    others = [e.other for e in way if e.other]
    return len(set(others)) == len(others) and not any(e.other and called_alike(e.link, e.other) for e in way)


class Families:
    """The modules of both sides by name, repeats taken together."""

    def __init__(self, links: Sequence[Link]) -> None:
        self.repeats = tuple(_repeats(p for link in links for p in (link.left, link.right)[side]) for side in (0, 1))

    def of(self, p: Pattern, side: int) -> Path:
        """The module of a leaf by its names alone, repeats that are numbered within a name as one."""
        return without_indices([s for s in self.numbered(p, side) if s != "#"])

    def place(self, p: Pattern, side: int) -> Path:
        """The same with the numbers below the first one: places within a repeat."""
        found: list[str] = []
        for s in self.numbered(p, side):
            is_index = s in ("#", "{}") or s.isdigit()
            found.append("#" if is_index and "#" not in found else s)
        return tuple(found)

    def numbered(self, p: Pattern, side: int) -> list[str]:
        """The module of a leaf with `#` for the numbers of repeats within names."""
        known = self.repeats[side]
        return [s if s.isdigit() else _without(s, known) for s in module_path(p)]


def group_links(links: Sequence[Link], families: Families) -> list[tuple[Link, ...]]:
    """Links by the modules they connect, numbers of repeats left out as long as they run alike on both sides."""
    found: dict[object, list[Link]] = defaultdict(list)
    for link in links:
        found[tuple(tuple(families.of(p, n) for p in side) for n, side in enumerate((link.left, link.right)))].append(
            link
        )
    groups: list[tuple[Link, ...]] = []
    apart = (some for links_ in found.values() for some in _in_step(links_))
    together = (part for some in apart for part in _of_one_place(some))
    for members in together:
        fine: dict[tuple[Path, Path], list[Link]] = defaultdict(list)
        for link in members:
            fine[families.place(link.left[0], 0), families.place(link.right[0], 1)].append(link)
        one_to_one = len({a for a, _ in fine}) == len({b for _, b in fine}) == len(fine)
        groups += [tuple(members)] if one_to_one else [tuple(group) for group in fine.values()]
    return groups


def _in_step(links: Sequence[Link]) -> Iterator[list[Link]]:
    """The links, apart by where a repeat goes: one that most leaves have in one place may have others elsewhere."""
    flat = [_spells_a_repeat(links, side) for side in (0, 1)]
    ends = [tuple(_numbers(side[0], whole=flat[n]) for n, side in enumerate((x.left, x.right))) for x in links]
    left = [(link, here, there) for link, (here, there) in zip(links, ends, strict=True)]
    while left:
        places: dict[object, Counter[object]] = defaultdict(Counter)
        for _, here, there in left:
            places[here][there] += 1
        most = {here: counts.most_common(1)[0][0] for here, counts in places.items()}
        yield [link for link, here, there in left if there == most[here]]
        left = [end for end in left if end[2] != most[end[1]]]


def _numbers(p: Pattern, *, whole: bool) -> tuple[str, ...]:
    return tuple(_NUMBER.findall(".".join(module_path(p)[: None if whole else -1])))


def _of_one_place(links: Sequence[Link]) -> Iterable[list[Link]]:
    """The links, apart by the modules' own numbers on one side if these are the same for all on the other.

    `unit1.norm` to `branch.1` and `unit2.norm` to `branch.6` are two decisions, and one of them may be wrong.
    """
    ends = [tuple(_own(side[0]) for side in (x.left, x.right)) for x in links]
    vary = [len({own[n] for own in ends}) > 1 for n in (0, 1)]
    if vary[0] == vary[1] or _spells_a_repeat(links, vary.index(True)):
        return [list(links)]
    found: dict[object, list[Link]] = defaultdict(list)
    for link, own in zip(links, ends, strict=True):
        found[own[vary.index(True)]].append(link)
    return found.values()


def _own(p: Pattern) -> tuple[str, ...]:
    return tuple(_NUMBER.findall(module_path(p)[-1]))


def _spells_a_repeat(links: Sequence[Link], side: int) -> bool:
    """Whether the numbers of modules on one side run in step with an index of the other: `l1_norm`, `layers.0`."""
    mine, theirs = zip(*((_own(ends[side]), _indices(ends[1 - side])) for ends in _firsts(links)), strict=True)
    if len({*map(len, mine)}) > 1 or len({*map(len, theirs)}) > 1:
        return False
    varying = [[int(n) for n in column] for column in zip(*mine, strict=True) if len(set(column)) > 1]
    levels = list(zip(*theirs, strict=True))
    return bool(varying) and all(any(_keep_apart(numbers, level) for level in levels) for numbers in varying)


def _firsts(links: Sequence[Link]) -> Iterator[tuple[Pattern, Pattern]]:
    return ((link.left[0], link.right[0]) for link in links)


def _indices(p: Pattern) -> tuple[int, ...]:
    return tuple(int(s) for s in module_path(p) if s.isdigit())


def _keep_apart(numbers: Sequence[int], others: Sequence[int]) -> bool:
    """Whether each number is as far from its partner as the first one is."""
    return len({n - m for n, m in zip(numbers, others, strict=True)}) == 1


def chained(units: Sequence[Unit]) -> list[Unit]:
    """The units, those without alternatives of which one's key bears the name of another's place as one.

    `layers.0` to `proj_in` and `layers.1` to `layers.0` is one decision: whether the list is shifted.
    """
    lone = [unit for unit in units if not unit.ways]
    places = {p.template: unit for unit in lone for link in unit.links for p in link.right}
    root = {unit: unit for unit in lone}

    def find(unit: Unit) -> Unit:
        while root[unit] is not unit:
            unit = root[unit]
        return unit

    for unit in lone:
        for link in unit.links:
            for p in link.left:
                if (other := places.get(p.template)) is not None:
                    root[find(unit)] = find(other)
    merged: dict[Unit, list[Link]] = defaultdict(list)
    for unit in lone:
        merged[find(unit)] += unit.links
    return [unit for unit in units if unit.ways] + [Unit(tuple(links), ()) for links in merged.values()]


def _repeats(patterns: Iterable[Pattern]) -> set[str]:
    """Names with one number left out that number at least `MIN_SERIES` repeats: `lateral_1`, `lateral_2`, …."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for p in patterns:
        for segment in p.segments:
            for stem, number in _stems(segment):
                numbers[stem].add(int(number))
    return {
        stem for stem, found in numbers.items() if len(found) >= MIN_SERIES and max(found) - min(found) < len(found)
    }


def _stems(segment: str) -> Iterable[tuple[str, str]]:
    return ((f"{segment[: hit.start()]}#{segment[hit.end() :]}", hit.group()) for hit in _NUMBER.finditer(segment))


def _without(segment: str, known: Set[str]) -> str:
    """A name with `#` for each number that counts repeats."""
    hits = list(_NUMBER.finditer(segment))
    for hit, (stem, _) in reversed(list(zip(hits, _stems(segment), strict=True))):
        if stem in known:
            segment = f"{segment[: hit.start()]}#{segment[hit.end() :]}"
    return segment


def _heads(link: Link) -> tuple[Path, Path] | None:
    """The names of both sides without what they end in in common; nothing where the modules' own names differ."""
    if len(link.left) != 1 or len(link.right) != 1:
        return None
    a, b = (without_indices(module_path(p)) for p in (link.left[0], link.right[0]))
    if not a or not b or a[-1] != b[-1]:
        return None
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return (a, b) if a != b else None


def cut_common(p: Pattern, q: Pattern) -> tuple[Path, Path]:
    """Two paths without indices, and without the names that they begin and end with in common.

    Of one name on either side it is the words in which they differ: `ca_kpos_proj` is to `sa_kpos_proj` what
    `ca_qpos_proj` is to `sa_qpos_proj`, and `norm_added_k` to `norm_k` what `norm_added_q` is to `norm_q`. Numbers
    alone say nothing of that, but for a module's own: `branch.6`.
    """
    a, b = _apart(*((*without_indices(path[:-1]), *path[-1:]) for path in (module_path(p), module_path(q))))
    words = _apart(*_worded(a[0], b[0])) if len(a) == len(b) == 1 else ((), ())
    told = [any(word.isalpha() for word in side) for side in words]
    return words if all(told) or (any(told) and not all(words)) else (a, b)


def _worded(name: str, other: str) -> tuple[Path, Path]:
    """The words of two names; without their numbers where these are the same: those of one repeat."""
    words, others = tuple(_WORD.findall(name)), tuple(_WORD.findall(other))
    if [n for n in words if n.isdigit()] == [n for n in others if n.isdigit()]:
        words, others = (tuple(word for word in side if not word.isdigit()) for side in (words, others))
    return words, others


def _apart(a: Path, b: Path) -> tuple[Path, Path]:
    """Two sequences without what they begin and end with in common."""
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return a, b
