"""Questions about what no shape shows: the order of parts and of lists, how rows stand, which axis is which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import replace
from itertools import islice, permutations, product, zip_longest

from treealign.align.alignment import Alignment
from treealign.align.asking.arranging import arranged, arranged_apart, link_orders, turned_alike
from treealign.align.asking.folded import fold_ways
from treealign.align.asking.question import Option, Question
from treealign.align.asking.row_groups import by_code, module_of, other_orders, row_kinds
from treealign.align.asking.rows import ROTARY, HeadLayout, in_order, is_join, is_list
from treealign.align.asking.series import families, reversed_members
from treealign.align.converting.part_order import ATTENTION, parted_neighbours
from treealign.align.doubting.folded_space import folds
from treealign.align.doubting.habits import Habits
from treealign.align.doubting.rotary import roles
from treealign.align.hints import Said
from treealign.align.knowledge.saying import rotary_way, stands_by_part
from treealign.align.links import Link, joining
from treealign.align.paths import list_text, module_path, rooted_text, short_text, without_indices
from treealign.align.patterns import Pattern
from treealign.align.reasons import About
from treealign.mapping.operations import Deinterleave, Interleave, Permute, RotaryPermute, RotaryUnpermute

MOST = 6
SIZES = 2  # head sizes that are offered
Sizes = Callable[[Link], Sequence[HeadLayout]]  # how the rows of a link may be arranged in heads, the likeliest first
_Pass = tuple[About, Callable[[], Iterator[list[Link]]], Callable[[Sequence[Link]], list[Option]]]
SETTLERS = ("a statement about them", "equal values on both sides", "a probe")


def hidden_questions(alignment: Alignment, sizes: Sizes | None = None) -> Iterator[Question]:
    """All questions about order, rows and axes that the open links of an alignment ask.

    Parameters
    ----------
    alignment : Alignment
        With open links.
    sizes : callable, optional
        How rows may be arranged in heads, where more is known than names and shapes tell. A question then has an option
        for each of them, and for every order; without it, six at most.

    """
    case = _Case(alignment, sizes)
    passes: tuple[_Pass, ...] = (
        ("order", case.listed, case.list_options),
        ("order", case.joined, case.part_options),
        ("rows", case.rowed, case.row_options),
        ("axes", case.turned, case.axis_options),
    )
    for aspect, group, options in passes:
        for links in group():
            made = options(links)
            if len(made) < 2:  # the only way that shapes allow, or none
                made = [*(made or [case.as_guessed(aspect, links)]), case.nothing(links)]
            yield case.question(aspect, links, made)


class _Case:
    """An alignment as the questions see it."""

    def __init__(self, alignment: Alignment, sizes: Sizes | None) -> None:
        self.trees = alignment.checkpoint, alignment.model
        self.links = alignment.links
        self.left = [p for link in alignment.links for p in link.left] + list(alignment.left)
        self.right = [p for link in alignment.links for p in link.right] + list(alignment.right)
        self.habits = Habits(self.left, self.right)
        self.folds = folds(alignment.model)
        self.sizes = sizes or (lambda link: [HeadLayout(n) for n in self.habits.head_sizes(link)])
        self.most: int | None = MOST if sizes is None else None
        self.layouts: int | None = SIZES if sizes is None else None

    def question(self, about: About, links: Sequence[Link], options: Sequence[Option]) -> Question:
        """A question about these links."""
        why = "; ".join(dict.fromkeys(link.open[about] for link in links))
        both = tuple(links), tuple(links)
        return Question(about, tuple(options[: self.most]), why, SETTLERS, tuple(links), both, self.trees)

    def said(self, links: Sequence[Link], ways: Iterable[Said]) -> list[Option]:
        """The options that statements make of links, those alike once, what is guessed in front."""
        about: About = next(iter(ways := list(ways))).about
        paths = ",".join(short_text([p for link in links for p in _own(link)], self._others(about)))
        found: list[Option] = []
        seen: list[list[object]] = []
        for way in ways:
            made = [arranged_apart(link, way, self.folds) for link in links]
            result = [[(one.operations, tuple(one.expand())) for one in ones] for ones in made]
            if all(made) and result not in seen:
                seen.append(list(result))
                whole = [one for ones in made for one in ones]
                found.append(self.option(f"{paths}: {way.text}", way.text, whole, links, about))
        now = [[(link.operations, tuple(link.expand()))] for link in links]
        order = sorted(range(len(found)), key=lambda n: -sum(a == b for a, b in zip(seen[n], now, strict=True)))
        return [found[n] for n in order]

    def _others(self, about: About) -> list[Pattern]:
        return [p for link in self.links if about in link.open or about in link.answered for p in _own(link)]

    def option(self, hint: str, text: str, made: Sequence[Link], links: Sequence[Link], about: About) -> Option:
        """What an answer asserts: links of which it settles one aspect."""
        settled = tuple(replace(link, answered=(*link.answered, about)) for link in made)
        return Option(hint, text, settled, tuple(links), (), self.trees)

    def as_guessed(self, about: About, links: Sequence[Link]) -> Option:
        """What is guessed at present."""
        paths = ",".join(short_text([p for link in links for p in _own(link)], self._others(about)))
        return self.option(
            f"{paths}: {'order as numbered' if about == 'order' else f'{about} as stored'}",
            "as guessed",
            links,
            links,
            about,
        )

    def nothing(self, links: Sequence[Link]) -> Option:
        """That the keys do not belong together after all."""
        paths = ",".join(rooted_text([p for link in links for p in link.left], self.left))
        return Option(f"{paths}: not in the model", "neither belongs to the other", (), tuple(links), (), self.trees)

    # lists

    def listed(self) -> Iterator[list[Link]]:
        """Plain links that rest on the order of a list."""
        return families(
            [link for link in self.links if "order" in link.open and len(link.left) == len(link.right) == 1]
        )

    def list_options(self, links: Sequence[Link]) -> list[Option]:
        """As numbered, or from the other end; two indices exchanged."""
        paths = ",".join(list_text([link.left[0] for link in links], self.left))
        found = [self.option(f"{paths}: order as numbered", "order as numbered", links, links, "order")]
        if made := reversed_members(links):
            found.append(self.option(f"{paths}: order reversed", "order reversed", made, links, "order"))
        exchanged = [arranged(link, Said("order", "exchanged")) for link in links]
        whole = [link for link in exchanged if link is not None]
        if len(whole) == len(links):
            found.append(self.option(f"{paths}: indices exchanged", "indices exchanged", whole, links, "order"))
        return found

    # parts

    def joined(self) -> Iterator[list[Link]]:
        """Links that join or cut, grouped by the names of the parts and the whole."""
        groups: dict[object, list[Link]] = defaultdict(list)
        for link in self.links:
            if "order" in link.open and is_list(joining(link)):
                whole, parts = _whole_and_parts(link)
                roles_of = tuple(tuple(sorted(roles(p))) or module_of(p)[-1:] for p in parts)
                groups[module_of(whole)[-1:], roles_of, len(link.left)].append(link)
        yield from groups.values()

    def part_options(self, links: Sequence[Link]) -> list[Option]:
        """The orders in which the parts can stand: those first that part fewest, and no q, k and v among themselves."""
        parts = joining(links[0]).left
        inner = {n for n, p in enumerate(parts) if roles(p) & ATTENTION}
        orders = sorted(permutations(range(len(parts))), key=lambda order: (*parted_neighbours(order, inner), order))
        found = []
        for order in orders[: self.most]:
            made = [in_order(link, order) for link in links]
            names = [without_indices(module_path(parts[n]))[-1] for n in order]
            found.append(self.option(self._whole_and_parts(made[0]), ", ".join(names), made, links, "order"))
        return found

    def _whole_and_parts(self, link: Link) -> str:
        """The hint that names the parts of a whole in their order."""
        ends = (rooted_text([p], side)[0] for p, side in zip((link.left[0], link.right[0]), self._sides, strict=True))
        whole_left, whole_right = ends
        if len(link.left) > 1:
            return f"{','.join(rooted_text([p], self.left)[0] for p in link.left)}={whole_right}"
        return f"{whole_left}={','.join(rooted_text([p], self.right)[0] for p in link.right)}"

    @property
    def _sides(self) -> tuple[list[Pattern], list[Pattern]]:
        return self.left, self.right

    # rows

    def rowed(self) -> Iterator[list[Link]]:
        """Links whose rows may stand otherwise; q and k of an attention together, and all that one code serves."""
        return by_code([link for link in self.links if "rows" in link.open], self.trees[1], self._layouts)

    def row_options(self, links: Sequence[Link]) -> list[Option]:
        """How rows can stand, as stored first, for the sizes that heads are likely to have."""
        kinds = {kind for link in links for kind in row_kinds(link)}
        if kinds == {"folds"}:
            dims = ((link, dim) for link in links if (dim := self.folds.dim(link)) is not None)
            rows = [shape[dim] for link, dim in dims for shape in link.left[0].shapes.values() if shape]
            return self.said(links, [Said("rows", "as stored"), *fold_ways(rows)])
        stored = "by part" if all(is_join(joining(link)) for link in links) else "as stored"
        ends = sorted(("checkpoint", "model"), key=lambda end: end != _turns_in(links))
        columns = [self._fitting(links, "by head", end) for end in ends if "heads" in kinds]
        several = {way.size for column in columns for way in column}  # more than one head of each part
        if all(map(stands_by_part, links)):
            kinds, columns = kinds - {"heads"}, []
        rotary = [self._fitting(links, kind, first=several) for kind in ROTARY if "rotary" in kinds]
        ways = [self._now(links), *(columns.pop(0) if _turns_in(links) and columns else ()), Said("rows", stored)]
        ways += [way for column in columns for way in column[:1]]
        ways += self._turned_as_known(links, rotary) if self.most else []
        ways += [way for column in rotary for way in column[:1]]
        ways += other_orders(links) if "heads" in kinds else ()
        for row in zip_longest(*(column[1:] for column in (*rotary, *columns))):
            ways += row
        if {"heads", "rotary"} <= kinds:
            besides = product((size for size, rotated in self._layouts(links) if not rotated), ROTARY, ends)
            ways += [Said("rows", "by head", size, end, rotary=kind) for size, kind, end in besides]
        if "turns" in kinds:
            ways += [Said("rows", "in turns", 0, end) for end in ends]
        if "halves" in kinds:
            ways.append(Said("rows", "swapped"))
        return self.said(links, [way for way in ways if way is not None])

    def _now(self, links: Sequence[Link]) -> Said | None:
        """What is guessed at present, as a statement."""
        for link in links:
            for o in link.operations:
                for one in getattr(o, "operations", (o,)):
                    if isinstance(one, RotaryPermute | RotaryUnpermute) and isinstance(one.head_dim, int):
                        forward = isinstance(one, RotaryPermute)
                        return Said("rows", "to half split" if forward else "to interleaved", one.head_dim)
        return None

    def _turned_as_known(self, links: Sequence[Link], rotary: Sequence[Sequence[Said]]) -> list[Said]:
        """Where a library is known for one order of rows: the way that leads there, for more sizes of heads, and parts.

        Rows that are turned the other way are what such libraries never have; how many are a head is what is open.
        """
        way = {self.habits.rotary_way(link) or rotary_way(link) for link in links}
        known = [one for column in rotary for one in column[:1] if way == {one.kind}]
        sizes = [layout.head_dim for layout in self._layouts(links) if not layout.rotary_dim]
        more = [replace(one, size=size) for one in known for size in [one.size, *sizes]]
        return [
            way for one in more for way in (one, *([replace(one, rotated=one.size // 2)] if not one.size % 4 else []))
        ]

    def _fitting(self, links: Sequence[Link], kind: str, end: str = "", first: Set[int] = frozenset()) -> list[Said]:
        """How rows can stand in one of these ways, for the likeliest heads with which they can; some sizes first."""
        layouts = sorted(self._layouts(links), key=lambda one: bool(first) and one.head_dim not in first)
        # where heads begin has nothing to do with how many of their rows rotate
        ways = dict.fromkeys(Said("rows", kind, size, end, rotated=0 if end else rotated) for size, rotated in layouts)
        fitting = (way for way in ways if all(arranged(link, way) is not None for link in links))
        return list(islice(fitting, self.layouts))

    def _layouts(self, links: Sequence[Link]) -> list[HeadLayout]:
        """The heads that the rows of all of these may be arranged in, first what is likeliest of one of them."""
        found = [list(self.sizes(link)) for link in links]
        common = [one for one in found[0] if all(one in layouts for layouts in found[1:])] if found else []
        return sorted(common, key=lambda one: min(layouts.index(one) for layouts in found))

    # axes

    def turned(self) -> Iterator[list[Link]]:
        """Links whose axes may stand otherwise, by the reason and by how they are guessed."""
        groups: dict[object, list[Link]] = defaultdict(list)
        for link in self.links:
            if "axes" in link.open:
                groups[link.open["axes"].kind, turned_alike(link)].append(link)
        yield from groups.values()

    def axis_options(self, links: Sequence[Link]) -> list[Option]:
        """As stored or transposed; or all orders that the shapes allow."""
        found = self.said(links, [Said("axes", kind) for kind in ("as stored", "transposed")])
        if len(found) < 2:
            orders = link_orders(links[0])
            now = next(
                (o.dims for o in links[0].operations if isinstance(o, Permute)),
                tuple(range(len(orders[0]))) if orders else (),
            )
            orders.sort(key=lambda dims: (dims != now, list(dims) != sorted(dims)))
            ways = [Said("axes", "permuted", 0, "", dims) for dims in orders[: self.most]]
            found = self.said(links, ways) if ways else []
        return found


def _turns_in(links: Sequence[Link]) -> str:
    """On which side rows are guessed to stand by head; empty if on none."""
    for link in links:
        for o in link.operations:
            if isinstance(o, Interleave | Deinterleave) and "gate up" not in {r for p in _own(link) for r in roles(p)}:
                return "model" if isinstance(o, Interleave) else "checkpoint"
    return ""


def _whole_and_parts(link: Link) -> tuple[Pattern, tuple[Pattern, ...]]:
    return (link.right[0], link.left) if len(link.left) > 1 else (link.left[0], link.right)


def _own(link: Link) -> tuple[Pattern, ...]:
    """The patterns by which a statement speaks of a link: the model's, or the whole that is cut."""
    return link.left if len(link.right) > 1 else link.right
