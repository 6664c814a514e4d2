"""Equal names that hold unlike tensors: another shape, which no operation reconciles, or another kind of numbers.

A quantised checkpoint calls its codes as the plain one calls its weights. They are each other's counterparts, and yet
no numbers can go from one to the other: codes of the same shape are a guess that is never certain, the rest is listed
as mismatched, with both sides. Asked last, of what is left over when everything else is matched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from typing import NamedTuple

from treealign.align.converting.quantisation import CODES, UNSCALED
from treealign.align.links import Link, parted, piece_of
from treealign.align.patterns import Pattern, build_patterns
from treealign.align.reasons import Reason
from treealign.align.verdict import doubted
from treealign.align.words import quantised_piece
from treealign.mapping.mismatches import kind_of
from treealign.tree.fold import fold_names
from treealign.tree.keytree import KeyTree, Leaf

KIND = Reason("belongs", "the names are equal, but one side holds whole numbers and the other real ones")
_NARROW = ("float8", "float4", "int8", "uint8", "int4", "uint4")
_PREFIXES = 3  # how many ways in which certain matches change the beginning of a name are tried


class Named(NamedTuple):
    """The links with those of equal names, what is mismatched, and the patterns of either side as these have them."""

    links: list[Link]
    resized: list[Link]
    left: list[Pattern]
    right: list[Pattern]


def same_names(
    links: Sequence[Link],
    resized: Sequence[Link],
    trees: tuple[KeyTree, KeyTree],
    patterns: tuple[Sequence[Pattern], Sequence[Pattern]],
) -> Named:
    """What is left over and has one name on both sides, below what certain matches do to the beginning of names."""
    left, right = map(list, patterns)
    free = [_free(side, [*links, *resized], trees[at], at) for at, side in enumerate((left, right))]
    pairs = _pairs(links, free[0], free[1]) if all(free) else {}
    if not pairs:
        return Named(list(links), list(resized), left, right)
    sides = [_folded(tree, names) for tree, names in zip(trees, (pairs.keys(), set(pairs.values())), strict=True)]
    there = {trees[1].keys[at]: (p, key) for p in sides[1] for key, at in p.cells.items()}
    coded, unlike = list(links), list(resized)
    for p in sides[0]:
        partner = _partner(p, pairs, trees[0], there)
        if partner is not None:
            alike = p.shapes == partner.shapes
            reason = UNSCALED if _quantised(p, trees[0]) or _quantised(partner, trees[1]) else KIND
            link = doubted(Link((p,), (partner,)), reason, ((p,), (partner,)))
            (coded if alike else unlike).append(link)
    everything = [*coded, *unlike]
    return Named(
        coded, unlike, parted(left, [x.left for x in everything]), parted(right, [x.right for x in everything])
    )


def of_one_kind(links: Sequence[Link], trees: tuple[KeyTree, KeyTree]) -> tuple[list[Link], list[Link]]:
    """Links whose numbers are of one kind, and those between a parameter of the model and numbers of another kind.

    A parameter is made of real numbers; whole ones of its shape that no quantisation writes (int64, bool) are no weight
    of any sort. A buffer may change its kind: counters and positions are saved as either. A state dict does not say
    which of its tensors are buffers; only where modules are known, parameters are.
    """
    kinds = [{kind_of(leaf.dtype) for leaf in tree.leaves if leaf.dtype is not None} for tree in trees]
    if len(kinds[0] | kinds[1]) == 1 or not trees[1].modules:
        return list(links), []
    alike, unlike = [], []
    for link in links:
        groups = [] if link.operations else list(link.expand())
        apart = [group for group in groups if _of_two_kinds(*(trees[n].leaves[group[n][0]] for n in (0, 1)))]
        if apart:
            unlike.append(piece_of(link, apart))
            rest = [group for group in groups if group not in set(apart)]
            alike += [piece_of(link, rest)] if rest else []
        else:
            alike.append(link)
    return alike, unlike


def _of_two_kinds(here: Leaf, there: Leaf) -> bool:
    kinds = kind_of(here.dtype), kind_of(there.dtype)
    real = there.kind == "parameter" and kinds[1] in ("floating", "complex")
    return real and kinds[0] not in ("", kinds[1]) and not str(here.dtype).startswith(_NARROW)


def nothing_shared(links: Sequence[Link], left: Sequence[Pattern], right: Sequence[Pattern]) -> bool:
    """Neither a certain match, nor shapes that would place most of the smaller side."""
    if any(link.certain for link in links):
        return False
    placed = sum(len(p) for link in links for p in link.right)
    smaller = min(sum(map(len, left)), sum(map(len, right)))
    return not placed or 2 * placed < smaller


def enough(
    named: Named | None,
    links: Sequence[Link],
    resized: Sequence[Link],
    sides: tuple[Sequence[Pattern], Sequence[Pattern]],
) -> bool:
    """Whether equal names, of unlike tensors, speak for half of the smaller side; the links are those before them."""
    if named is None:
        return False
    added = [*named.links[len(links) :], *named.resized[len(resized) :]]
    return 2 * sum(len(link.left[0]) for link in added) >= min(sum(map(len, side)) for side in sides)


def _free(patterns: Sequence[Pattern], links: Sequence[Link], tree: KeyTree, side: int) -> set[str]:
    used = {p for link in links for p in (link.left, link.right)[side]}
    return {tree.keys[at] for p in patterns if p not in used for at in p.cells.values()}


def _pairs(links: Sequence[Link], here: set[str], there: set[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for before, after in [("", ""), *_prefixes(links)]:
        rest = there - set(pairs.values())
        named = {key: after + key.removeprefix(before) for key in here if key.startswith(before)}
        pairs |= {key: name for key, name in named.items() if name in rest and key not in pairs}
    return pairs


def _prefixes(links: Sequence[Link]) -> list[tuple[str, str]]:
    """How certain matches change the beginning of names, the most usual first."""
    counts: Counter[tuple[str, str]] = Counter()
    for link in links:
        if link.certain and not link.operations:
            ends = [list(link.left[0].segments), list(link.right[0].segments)]
            while all(ends) and ends[0][-1] == ends[1][-1]:
                ends = [ends[0][:-1], ends[1][:-1]]
            if not any("{}" in segment for end in ends for segment in end):
                before, after = ("".join(f"{segment}." for segment in end) for end in ends)
                counts[before, after] += len(link.left[0])
    return [pair for pair, _ in counts.most_common(_PREFIXES)]


def _folded(tree: KeyTree, names: Set[str]) -> list[Pattern]:
    return build_patterns(tree, frozenset(key for key in tree.keys if key not in names))


def _partner(
    p: Pattern, pairs: dict[str, str], tree: KeyTree, there: dict[str, tuple[Pattern, tuple[str, ...]]]
) -> Pattern | None:
    """The pattern of the other side that has just these repeats."""
    found = [there.get(pairs[tree.keys[at]]) for at in p.cells.values()]
    partner = found[0][0] if found[0] is not None else None
    if partner is None or partner.cells.keys() != p.cells.keys():
        return None
    same = all(one is not None and one == (partner, key) for one, key in zip(found, p.cells, strict=True))
    return partner if same else None


def _quantised(p: Pattern, tree: KeyTree) -> bool:
    dtypes = {tree.leaves[at].dtype for at in p.cells.values()}
    return all(dtype is not None and dtype.startswith(CODES) for dtype in dtypes)


def quantised_findings(links: Sequence[Link], trees: tuple[KeyTree, KeyTree]) -> tuple[str, ...]:
    """That one side is quantised and the other is not, in a sentence with the dtypes and the keys."""
    keys: tuple[list[str], list[str]] = [], []
    for link in links:
        coded = [any(_coded(p, tree) for p in end) for end, tree in zip((link.left, link.right), trees, strict=True)]
        if coded[0] != coded[1]:
            side = 0 if coded[0] else 1
            ends = (link.left, link.right)[side]
            keys[side].extend(trees[side].keys[at] for p in ends for at in p.cells.values())
    said = []
    for tree, names, roles in zip(trees, keys, (("checkpoint", "model"), ("model", "checkpoint")), strict=True):
        if names:
            dtypes = sorted({str(tree.leaf(name).dtype) for name in names})
            pieces = sorted({s for key in tree.keys for s in key.split(".")[-2:] if quantised_piece(s)})
            beside = f", read with {', '.join(pieces[:4])} beside them" if pieces else ""
            said.append(
                f"the {roles[0]} is quantised and the {roles[1]} is not: {', '.join(dtypes)} codes in "
                f"{', '.join(fold_names(names, 3))}{beside}; give both the same quantisation, or dequantise first"
            )
    return tuple(said)


def _coded(p: Pattern, tree: KeyTree) -> bool:
    """Whether these are numbers as quantisation writes them, and no counters or indices."""
    leaves = tree.leaves
    return any(str(dtype).startswith(_NARROW) for dtype in {leaves[at].dtype for at in p.cells.values()})
