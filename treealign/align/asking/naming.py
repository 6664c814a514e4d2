"""Questions about names: which goes to which, and whether two belong together at all.

The leaves of a module, its repeats, and modules that recur under one name are decided together (a unit). Two units that
could only trade places make one question; a unit with several alternatives is asked for by itself: where it goes, or,
where keys of the checkpoint are left over, what fills its place. Units whose alternatives differ from them by the same
names (all that stands under `ema` instead of `model`) share one question.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rapidfuzz.fuzz import ratio

from treealign.align.alignment import Alignment
from treealign.align.asking.exchanging import (
    alike,
    exchangeable,
    moved,
    names_in_common,
    numbers_in,
    reach,
    same_parameter,
)
from treealign.align.asking.question import Option, Question
from treealign.align.asking.units import Exchange, Families, Unit, chained, group_links, is_open
from treealign.align.links import Link
from treealign.align.paths import rooted_text
from treealign.align.patterns import Pattern
from treealign.align.reasons import WHOSE, About, about

MOST = 6  # options of a question
LEFTOVERS = 3  # alternatives that nothing but their shape speaks for
Path = tuple[str, ...]
Names = tuple[Path, ...]
SETTLERS = ("a hint", "equal values on both sides", "a probe")


def naming_questions(alignment: Alignment) -> Iterator[Question]:
    """All questions about names that the open links of an alignment ask."""
    opened = [link for link in alignment.links if WHOSE & link.open.keys()]
    case = _Case(alignment, opened)
    units = chained([case.unit(links) for links in group_links(opened, case.families)])
    owner = {link: unit for unit in units for link in unit.links}
    paired: dict[Unit, Unit] = {}
    for unit in units:
        other = _only_partner(unit, owner)
        if other is not None and other is not unit and _only_partner(other, owner) is unit:
            paired[unit] = other
    groups: dict[object, list[Unit]] = defaultdict(list)
    for unit in units:
        key: object = (unit.signature, unit.by_source) if unit.ways else unit.container or unit
        if unit in paired:
            key = frozenset((_ends(unit), _ends(paired[unit])))
        groups[key].append(unit)
    for members in groups.values():
        asked = case.swap(members) if members[0] in paired else case.choice(members)
        yield from asked


def _copies_by_owner(alignment: Alignment) -> dict[Pattern, list[Pattern]]:
    """Patterns of the model that hold tied weights, each with those of the checkpoint that bear their second names."""
    keys, tied = alignment.model.keys, alignment.model.tied
    owner = {keys[at]: p for link in alignment.links for p in link.right for at in p.cells.values()}
    found: dict[Pattern, list[Pattern]] = defaultdict(list)
    for link in alignment.copies:
        for p in {owner.get(tied.get(keys[at], "")) for q in link.right for at in q.cells.values()} - {None}:
            if p is not None:
                found[p] += link.left
    return found


def _only_partner(unit: Unit, owner: dict[Link, Unit]) -> Unit | None:
    """The one unit that it can trade places with, if it can do nothing else and that with all its links."""
    others = {owner.get(e.other) if e.other else None for way in unit.ways for e in way}
    return others.pop() if len(others) == 1 else None


def _ends(unit: Unit) -> tuple[object, ...]:
    return tuple(way[0].differing for way in unit.ways[:1])


class _Case:
    """An alignment as the questions see it."""

    def __init__(self, alignment: Alignment, opened: Sequence[Link]) -> None:
        self.alignment = alignment
        self.trees = alignment.checkpoint, alignment.model
        single = [link for link in opened if len(link.left) == len(link.right) == 1]
        self.by_left = {link.left[0]: link for link in single}
        self.by_right = {link.right[0]: link for link in single}
        turnable = [link for link in alignment.links if "axes" in link.open and len(link.left) == len(link.right) == 1]
        self.of_left = {link.left[0]: link for link in (*turnable, *single)}
        self.of_right = {link.right[0]: link for link in (*turnable, *single)}
        self.rivalled: dict[Pattern, list[Link]] = defaultdict(list)
        for link in single:
            for p in {p for side in (0, 1) for p in link.near[side] or link.rivals[side]}:
                self.rivalled[p].append(link)
        self.families = Families(opened)
        second = [p for link in alignment.copies for p in link.left]  # names of tied weights
        self.copies = _copies_by_owner(alignment)
        left_over = (*alignment.left, *second), alignment.right
        self.spare = tuple(
            frozenset(p for p in some if not nothing.issuperset(p.cells.values()))
            for some, nothing in zip(left_over, alignment.nothing, strict=True)
        )
        self.patterns = (
            [p for link in alignment.links for p in link.left] + [*alignment.left, *second],
            [p for link in alignment.links for p in link.right] + list(alignment.right),
        )

    def unit(self, links: tuple[Link, ...]) -> Unit:
        """A unit with the ways that are open to all of its links."""
        ways: dict[tuple[object, ...], dict[Link, Exchange]] = defaultdict(dict)
        inside = set(links)
        for link in links:
            for e in self.exchanges(link):
                if e.other in inside:
                    continue
                side = 1 if e.target else 0
                # of one link two that are called alike but for a number are two alternatives
                ways[side, self.families.place(e.pattern, side) if len(links) > 1 else e.pattern].setdefault(link, e)
        whole = [tuple(way[link] for link in links) for way in ways.values() if len(way) == len(links)]
        whole = [way for way in whole if is_open(way)]
        ranked = sorted(whole, key=lambda way: -max(_likeness(e) for e in way))
        return Unit(links, tuple(ranked[: MOST - 1]))

    def exchanges(self, link: Link) -> Iterator[Exchange]:
        """What one link could be instead."""
        if len(link.left) != 1 or len(link.right) != 1:
            return
        a, b = link.left[0], link.right[0]
        own = self.families.place(a, 0), self.families.place(b, 1)
        for half in (*self.rivalled[a], *self.rivalled[b]):  # an exchange is one for both halves of it
            apart = half is not link and self.families.place(half.left[0], 0) != own[0]
            if apart and same_parameter(half.left[0], a) and exchangeable(link, half):
                yield Exchange(link, half)
        for side, mine, at in ((0, a, own[0]), (1, b, own[1])):
            rivals = link.near[side] or link.rivals[side]
            alone = all(p is mine for p in rivals)
            same = self.copies.get(b, ()) if side == 0 else ()
            near = self._beside(link, side, at) if alone else [*rivals, *self._of_another_layout(link, side)]
            for p in dict.fromkeys((*near, *same)):
                if p is mine or not same_parameter(p, mine) or self.families.place(p, side) == at:
                    continue
                other = (self.of_left, self.of_right)[side].get(p)
                if other is not None:
                    if exchangeable(link, other):
                        yield Exchange(link, other)
                elif p in self.spare[side] and (alike(p, mine) or (reach(p, b) if side == 0 else reach(a, p))):
                    yield Exchange(link, source=p) if side == 0 else Exchange(link, target=p)

    def _beside(self, link: Link, side: int, place: Path) -> list[Pattern]:
        """What could stand in for a leaf that nothing rivals, left over or open itself, the most similar name first."""
        mine, other = _ends_of(link, side)
        found = [
            p
            for p in (*self.spare[side], *(self.by_left, self.by_right)[side])
            if same_parameter(p, mine)
            and (alike(p, mine) or (reach(p, other) if side == 0 else reach(other, p)))
            and self.families.place(p, side) != place
        ]
        return sorted(found, key=lambda p: (-ratio(p.template, mine.template), p.template))[:LEFTOVERS]

    def _of_another_layout(self, link: Link, side: int) -> list[Pattern]:
        """What is left over, or open itself, and could stand in if its dimensions were in another order or number.

        No evidence was heard of it, because leaves of one layout come first.
        """
        mine, other = _ends_of(link, side)
        spare = [p for p in self.spare[side] if link.operations or not alike(p, mine)]
        spare += [p for p in (self.of_left, self.of_right)[side] if not alike(p, mine)]
        found = [p for p in spare if (reach(p, other) if side == 0 else reach(other, p))]
        numbers = numbers_in(mine)
        ranked = sorted(
            found, key=lambda p: (numbers_in(p) != numbers, *(-n for n in names_in_common(p, other)), p.template)
        )
        return ranked[:LEFTOVERS]

    def swap(self, units: Sequence[Unit]) -> Iterator[Question]:
        """Units that trade places in pairs: as guessed, or the other way round; alike in all, where guesses are not."""
        exchanges = [e for unit in units for e in unit.ways[0]]
        links = [e.link for e in exchanges]
        guessed = tuple(e.rises for e in exchanges)
        every = [(True,) * len(guessed), (False,) * len(guessed)]
        ways = [guessed, *([tuple(not rises for rises in guessed)] if guessed in every else every)]
        shown = [guessed.index(rises) for rises in dict.fromkeys(guessed)]
        options = []
        for way in ways:
            alike = zip(exchanges, (now == then for now, then in zip(guessed, way, strict=True)), strict=True)
            made = [e.link if same or not e.other else _swapped(e.link, e.other)[0] for e, same in alike]
            hint = " and ".join(self.naming(_of_place(links[at], made)) for at in shown)
            options.append(self.option(hint, made, links, ()))
        yield self.question(tuple(options), links, (links, links))

    def choice(self, units: Sequence[Unit]) -> Iterator[Question]:
        """Units that have the same alternatives, by name: what fills their places, or where they go."""
        links = [link for unit in units for link in unit.links]
        by_source = units[0].by_source
        options = [self.option(self.naming(links[0]), links, links, ())]
        spare = _spare(units)
        for at in range(len(units[0].ways)):
            options.append(self._alternative([e for unit in units for e in unit.ways[at]], by_source, spare))
        if any("belongs" in link.open for link in links) and len(options) < MOST:
            options.append(self.nothing(links))
        distinct = {option.hint: option for option in options}
        if len(distinct) < 2:
            distinct[""] = self.nothing(links)
        sides: tuple[list[Link], list[Link]] = ([], links) if by_source else (links, [])
        if not units[0].ways or not any(e.other for unit in units for way in unit.ways for e in way):
            sides = (links, links) if not by_source and not units[0].ways else sides
        yield self.question(tuple(distinct.values()), links, sides)

    def _alternative(self, exchanges: Sequence[Exchange], by_source: bool, spare: Mapping[Link, Exchange]) -> Option:
        asserted, implied, replaced = [], [], []
        for e in exchanges:
            replaced.append(e.link)
            if e.other is not None:
                to_place, from_key = _swapped(e.link, e.other)
                asserted.append(to_place if by_source else from_key)
                implied.append(from_key if by_source else to_place)
                replaced.append(e.other)
            elif e.source is not None:
                asserted.append(moved(e.link, source=e.source))
                if e.link in spare:  # what is displaced goes where there is room
                    implied.append(moved(e.link, target=spare[e.link].target))
            elif e.target is not None:
                asserted.append(moved(e.link, target=e.target))
        return self.option(self.naming(asserted[0]), asserted, replaced, implied)

    def nothing(self, links: Sequence[Link]) -> Option:
        """That the keys of the checkpoint belong to nothing, and those of the model stay without weights."""
        paths = rooted_text([p for link in links for p in link.left], self.patterns[0])
        return Option(
            f"{','.join(paths)}: not in the model", "neither belongs to the other", (), tuple(links), (), self.trees
        )

    def option(self, hint: str, links: Sequence[Link], replaced: Sequence[Link], implied: Sequence[Link]) -> Option:
        """What an answer asserts: links whose names it settles."""
        settled = tuple(replace(link, answered=(*link.answered, *WHOSE - set(link.answered))) for link in links)
        text, replaces = hint.replace("^", "").replace("=", " -> "), tuple(dict.fromkeys(replaced))
        return Option(hint, text, settled, replaces, tuple(implied), self.trees)

    def naming(self, link: Link) -> str:
        """The hint that names a link."""
        # of parts one is enough: all of them would say in which order they stand
        ends = [
            rooted_text(side[:1], patterns)[0]
            for side, patterns in zip((link.left, link.right), self.patterns, strict=True)
        ]
        return "=".join(ends)

    def question(
        self, options: tuple[Option, ...], links: Sequence[Link], sides: tuple[Sequence[Link], Sequence[Link]]
    ) -> Question:
        """A question about these links."""
        reasons = dict.fromkeys(reason for link in links for at, reason in link.open.items() if at in WHOSE)
        aspect: About = "names" if any(about(r) == "names" for r in reasons) else "belongs"
        both = tuple(sides[0]), tuple(sides[1])
        return Question(aspect, options, "; ".join(reasons), SETTLERS, tuple(links), both, self.trees)


def _of_place(link: Link, made: Sequence[Link]) -> Link:
    """What stands in the place of a link."""
    return next(other for other in made if other.right[0] is link.right[0])


def _spare(units: Sequence[Unit]) -> dict[Link, Exchange]:
    """The first place that is left over for the key of each link."""
    found: dict[Link, Exchange] = {}
    for unit in units:
        for way in unit.ways:
            for e in way:
                if e.target is not None:
                    found.setdefault(e.link, e)
    return found


def _ends_of(link: Link, side: int) -> tuple[Pattern, Pattern]:
    """The leaf of one side, and the one of the other."""
    return (link.left[0], link.right[0]) if side == 0 else (link.right[0], link.left[0])


def _likeness(e: Exchange) -> float:
    left = e.other.left[0] if e.other else e.source
    right = e.other.right[0] if e.other else e.target
    return max(
        ratio(left.template, e.link.left[0].template) if left else 0.0,
        ratio(right.template, e.link.right[0].template) if right else 0.0,
    )


def _swapped(a: Link, b: Link) -> tuple[Link, Link]:
    """Two links with their sources exchanged: what then fills the place of the first, and where its key then goes."""
    return moved(a, source=b.left[0]), moved(b, source=a.left[0])
