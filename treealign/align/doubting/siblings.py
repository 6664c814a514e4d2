"""What the leaves beside a match say of it: those of one module go together, and of a pair neither is surer.

A gate and its up-projection have one shape, and which of them a name such as `fc` means is a habit of its library:
some call the gate `fc` and the up-projection `gate`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product

from treealign.align.converting.part_order import own_name
from treealign.align.doubting.nearby_names import near_roles, near_words
from treealign.align.links import Link
from treealign.align.parameters import STATISTICS
from treealign.align.patterns import Digest, Pattern, Shape
from treealign.align.reasons import Reason
from treealign.align.state import State
from treealign.align.verdict import Alternative, Alternatives, rivals_of
from treealign.align.words import PARAMETER_ROLES, split_words, vocabulary

TORN = Reason("names", "the weight and the bias of one module went to different modules")
PAIRED = Reason("names", "they have one shape, and not both names say which is which")
DIGITS = re.compile(r"\d+")
Path = tuple[str, ...]
Place = tuple[Path, Path, str]  # a module of either side, and which leaves of the modules in it


def judge_siblings(state: State) -> Alternatives:
    """Matches that the leaves beside them speak against."""
    torn, paired = _torn(state.known), _by_chance(state.known) | _paired(state.known) | _beside_left_over(state)
    return {
        link: Alternative(TORN if link in torn else PAIRED, rivals_of(others))
        for link, others in {**paired, **torn}.items()
    }


def _torn(links: Sequence[Link]) -> dict[Link, list[Link]]:
    """Links of the leaves of one module of the checkpoint, of either one linear layer or norm, to several modules."""
    modules: dict[tuple[Path, Digest], list[Link]] = defaultdict(list)
    for link in links:
        if len(link.left) == len(link.right) == 1 and _leaf(link.right[0]):
            modules[link.left[0].segments[:-1], link.left[0].indices].append(link)
    torn = (group for group in modules.values() if len({o.right[0].segments[:-1] for o in group}) > 1)
    return {link: group for group in torn for link in group if _are_of_one_layer(group)}


def _are_of_one_layer(group: Sequence[Link]) -> bool:
    names = Counter(_leaf(o.right[0]) for o in group)
    return max(names.values()) == 1 and (len(names) == len(PARAMETER_ROLES) or not STATISTICS.isdisjoint(names))


def _paired(links: Sequence[Link]) -> dict[Link, list[Link]]:
    """Links to gate and up of one module whose names in the checkpoint do not both say which they are."""
    pairs: dict[tuple[Path, str], dict[str, Link]] = defaultdict(dict)
    for link in links:
        if len(link.left) == len(link.right) == 1 and not link.operations and (part := _part(link.right[0])):
            pairs[link.right[0].holder, link.right[0].segments[-1]][part] = link
    found: dict[Link, list[Link]] = {}
    for both in pairs.values():
        group = [both[part] for part in ("gate", "up") if part in both]
        if len(group) == 2 and _one_shape(group) and not all(_says(o.left[0], part) for part, o in both.items()):
            found.update(dict.fromkeys(group, group))
    return found


def _by_chance(links: Sequence[Link]) -> dict[Link, list[Link]]:
    """Links of two leaves of one shape, from one module to one, that nothing tells apart but a name taken by chance."""
    beside: dict[Place, list[Link]] = defaultdict(list)
    module: dict[Path, list[Link]] = defaultdict(list)
    for link in links:
        if len(link.left) == len(link.right) == 1:
            p, q = link.left[0], link.right[0]
            module[_module(p)].append(link)
            if q.parameter != "bias":  # which is where its weight is
                beside[p.holder, q.holder, q.parameter].append(link)
    found: dict[Link, list[Link]] = {}
    for group, repeats in _with_repeats(beside):
        for one, other in _exchangeable(group, repeats):
            if _leaves(module, one) != _leaves(module, other):
                continue  # a norm that counts batches is no other norm, nor a bias of other size another bias
            if _told_by_chance(one, other) or _told_by_chance(other, one):
                both = [o for link in (one, other) for o in module[_module(link.left[0])]]
                found.update(dict.fromkeys(both, both))
    return found


def _with_repeats(beside: Mapping[Place, Sequence[Link]]) -> Iterator[tuple[Sequence[Link], Sequence[Link]]]:
    """The links between each two modules, and those that are folded over these and others, where they are not."""
    repeats: dict[Place, list[Place]] = defaultdict(list)
    for place in beside:
        repeats[_folded(place[0]), _folded(place[1]), place[2]].append(place)
    for places in repeats.values():
        wide = [place for place in places if any("{}" in segment for segment in place[0])] if len(places) > 1 else []
        for place in places:
            over = (other for other in wide if other != place and _covers(other, place))
            yield beside[place], [link for other in over for link in beside[other]]


def _covers(wide: Place, place: Place) -> bool:
    """Whether what is folded stands in this module, too."""
    return all(
        len(a) == len(b) and all(x == y or "{}" in x for x, y in zip(a, b, strict=True))
        for a, b in zip(wide[:2], place[:2], strict=True)
    )


def _folded(path: Path) -> Path:
    return tuple(DIGITS.sub("{}", segment) for segment in path)


def _beside_left_over(state: State) -> dict[Link, list[Link]]:
    """Links that a name may mean or not, where a leaf of one's own size beside it has no partner and may be meant."""
    used = {p for link in (*state.known, *state.resized) for p in (*link.left, *link.right)}
    left_over: dict[tuple[int, Path, str], list[Pattern]] = defaultdict(list)
    for side, some in enumerate(state.patterns):
        for p in some:
            if p not in used:
                left_over[side, p.holder, p.parameter].append(p)
    found: dict[Link, list[Link]] = {}
    for link in state.known if left_over else ():
        if link.certain and len(link.left) == len(link.right) == 1 and not link.operations:
            ends = link.left[0], link.right[0]
            if own_name(ends[0]) != own_name(ends[1]) and any(
                _may_be_meant(p, end, ends[1 - side])
                for side, end in enumerate(ends)
                for p in left_over.get((side, end.holder, end.parameter), ())
            ):
                found[link] = [link]
    return found


def _may_be_meant(p: Pattern, mine: Pattern, other: Pattern) -> bool:
    """Whether what is left over beside one end may as well be meant by the other: it bears its name, or its role.

    A role speaks for it only where that of the two ends is one of several.
    """
    roles = near_roles(mine.segments), near_roles(other.segments)
    several = roles[0] & roles[1] and len(roles[0] | roles[1]) > 1
    own = near_roles(p.segments)
    meant = not own or (own | {f"@{_part(p)}"}) & roles[1]
    named = own_name(p) == own_name(other) or (several and meant)
    return bool(named) and _could_stand_for(p, mine)


def _could_stand_for(p: Pattern, other: Pattern) -> bool:
    """Whether it has the other's sizes, or those of its transpose."""
    mine, theirs = frozenset(p.shapes.values()), frozenset(other.shapes.values())
    return mine == theirs or {_turned(shape) for shape in mine} == theirs


def _turned(shape: Shape) -> Shape:
    """The shape with its last two dimensions the other way round: those of a matrix, or of all matrices of experts."""
    return shape if shape is None or len(shape) < 2 else (*shape[:-2], shape[-1], shape[-2])


def _leaf(p: Pattern) -> str:
    """What a leaf is of its module, a linear layer or a norm; nothing where it is one by itself."""
    return p.segments[-1] if p.segments[-1] in STATISTICS else p.parameter


def _leaves(module: Mapping[Path, Sequence[Link]], link: Link) -> frozenset[tuple[str, frozenset[Shape]]]:
    """The names of the leaves that its module has in the checkpoint, and the sizes of its vectors."""
    leaves = (other.left[0] for other in module[_module(link.left[0])])
    return frozenset((p.segments[-1], frozenset(s for s in p.shapes.values() if len(s or ()) == 1)) for p in leaves)


def _module(p: Pattern) -> Path:
    return p.segments[:-1] if _leaf(p) else p.segments


def _exchangeable(links: Sequence[Link], others: Sequence[Link]) -> Iterator[tuple[Link, Link]]:
    """The links of one module to one module that have one shape, two by two, one of them of two names at least."""
    renamed = [link for link in links if own_name(link.left[0]) != own_name(link.right[0])]
    every = (*links, *others)
    by_chance = set(filter(_may_be_by_chance, every))  # of the others nothing is to be seen: most names mean something
    sizes = {link: _sizes(link) for link in every}
    turned = {link: frozenset() if link.operations else frozenset(map(_turned, sizes[link])) for link in every}
    pairs = chain(
        product([link for link in renamed if link in by_chance], every),
        product([link for link in renamed if link not in by_chance], [link for link in every if link in by_chance]),
    )
    return (
        (a, b)
        for a, b in pairs
        if a is not b and (sizes[a] == sizes[b] or (turned[a] == sizes[b] and not b.operations))
    )


def _sizes(link: Link) -> frozenset[Shape]:
    return frozenset(link.left[0].shapes.values())


def _told_by_chance(one: Link, other: Link) -> bool:
    """Whether two leaves of one module are told apart by no more than one name that may be so by chance.

    A role that a name of the one may mean, or may not: `linear1` is the gate in one library and what it multiplies in
    another, `norm1` stands before an attention or behind it. Or a name without any meaning that both sides use, where
    each side has one beside it that the other has not.
    """
    mine, theirs = near_roles(one.left[0].segments), near_roles(one.right[0].segments)
    others = near_roles(other.left[0].segments), near_roles(other.right[0].segments)
    if others[0] & others[1] or _share_names(other, one):
        return False
    if not mine & theirs:
        return _may_be_by_chance(one) and not near_roles(other.left[0].segments) & near_roles(other.right[0].segments)
    if _share_names(one, other):
        return False
    return mine != theirs or (len(mine) > 1 and bool(others[1] & mine or others[0] & theirs))


def _may_be_by_chance(link: Link) -> bool:
    """Whether it bears one role on both sides, or one name that means nothing."""
    mine, theirs = near_roles(link.left[0].segments), near_roles(link.right[0].segments)
    named = own_name(link.left[0]) == own_name(link.right[0]) and not mine | theirs
    return bool(mine & theirs) or (named and _is_meaningless(link.left[0]))


def _is_meaningless(p: Pattern) -> bool:
    """Whether no word of its name is one of the field's; a number in a list is a place, and judged as that."""
    known = {word for words in vocabulary().words.values() for word in words}
    return not own_name(p).isdecimal() and "{}" not in own_name(p) and known.isdisjoint(split_words(own_name(p)))


def _share_names(link: Link, other: Link) -> bool:
    """Whether its names are one, or have a word that those of the other have not."""
    mine, theirs = ([near_words(p.segments) for p in (k.left[0], k.right[0])] for k in (link, other))
    words = (mine[0] & mine[1]) - theirs[0] - theirs[1]
    return own_name(link.left[0]) == own_name(link.right[0]) or bool(words)


def _part(p: Pattern) -> str:
    """Which of the two a name spells, or nothing."""
    return next((part for part in ("gate", "up") if part in split_words(own_name(p))), "")


def _says(p: Pattern, part: str) -> bool:
    """Whether a name of the checkpoint says it: in words, or as one of w1, w2, w3."""
    name = own_name(p)
    return part in split_words(name) or split_words(name)[:2] in {("w", "1"), ("w", "3")}


def _one_shape(group: Sequence[Link]) -> bool:
    return len({o.left[0].signature for o in group}) == 1
