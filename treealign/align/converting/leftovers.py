"""Conversions of what is left over in the end, folded anew.

While patterns are matched, those without a partner are taken apart, in the hope that their pieces find one. Where the
pieces did not, and nothing else did, the repeats belong together again: three projections of twelve layers, and twelve
fused ones. What all other matches say of the modules around them is known by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from itertools import product

from treealign.align.converting.conversions import conversion_scores, conversion_votes, find_conversions
from treealign.align.converting.rearrangements import rearrangements
from treealign.align.hinted import Hint
from treealign.align.knowledge.recognising import still_recognised
from treealign.align.links import Link, part_of, parted
from treealign.align.matching.agreement import Agreement
from treealign.align.matching.certainty import gather
from treealign.align.matching.scoring import Side
from treealign.align.matching.similarity import name_scores
from treealign.align.patterns import Pattern, build_patterns
from treealign.align.reasons import Reason
from treealign.align.verdict import doubted
from treealign.tree.keytree import KeyTree

LEFT_OVER = Reason("belongs", "found among what was left over, after all else was matched")
MOST = 4_000_000  # pairs of patterns
MOST_ALONE = 40_000  # pairs of leaves, none folded


def converted_leftovers(
    links: Sequence[Link],
    resized: Sequence[Link],
    trees: tuple[KeyTree, KeyTree],
    patterns: tuple[Sequence[Pattern], Sequence[Pattern]],
    hints: Sequence[Hint],
) -> tuple[list[Link], list[Pattern], list[Pattern]]:
    """The links, and the conversions between what none of them has, none of them certain.

    Parameters
    ----------
    links, resized : sequence of Link
        What was matched, and what was matched although a size differs.
    trees : tuple of KeyTree
        Checkpoint and model; all shapes known.
    patterns : tuple of sequence of Pattern
        All that is to be matched on either side.
    hints : sequence of Hint
        What the user said.

    Returns
    -------
    tuple of list
        The links, and the patterns of either side, those that are left over folded as the conversions need them.
    """
    left, right = map(list, patterns)
    free = [_free(side, [*links, *resized], at) for at, side in enumerate((left, right))]
    if not all(free):
        return list(links), left, right
    open_sides = [_folded(tree, at, side) for tree, at, side in zip(trees, free, (left, right), strict=True)]
    voters = [
        _folded(tree, {n for p in side for n in p.cells.values()} - at, side)
        for tree, side, at in zip(trees, (left, right), free, strict=True)
    ]
    sides = [Side.of([*mine, *rest], tree.ordered) for mine, rest, tree in zip(open_sides, voters, trees, strict=True)]
    if len(sides[0].patterns) * len(sides[1].patterns) > MOST:
        return list(links), left, right
    votes = conversion_votes(sides[0], sides[1], _agreed(links, sides))
    names = name_scores(sides[0], sides[1])
    found = find_conversions(
        sides[0],
        sides[1],
        (range(len(open_sides[0])), range(len(open_sides[1]))),
        conversion_scores(names, votes),
        gather(sides[0], sides[1]).total,
        Agreement(sides[0], sides[1], votes),
        hints,
    )
    found = [*found, *_one_by_one(open_sides, voters, trees, links, found)]
    if not found:
        return list(links), left, right
    blocks = _blocks(links, trees)
    everything = [*links, *(link if _in_one_block(link, blocks, trees) else _left_over(link) for link in found)]
    return everything, parted(left, [x.left for x in everything]), parted(right, [x.right for x in everything])


def _one_by_one(
    open_sides: Sequence[Sequence[Pattern]],
    voters: Sequence[Sequence[Pattern]],
    trees: tuple[KeyTree, KeyTree],
    links: Sequence[Link],
    found: Sequence[Link],
) -> list[Link]:
    """Leaf to leaf, turned or reshaped, each by itself: lists that one side numbers otherwise fold otherwise."""
    used = [{at for x in found for p in (x.left, x.right)[n] for at in p.cells.values()} for n in (0, 1)]
    alone = [
        [part_of(p, {at}) for p in side for at in p.cells.values() if at not in taken]
        for side, taken in zip(open_sides, used, strict=True)
    ]
    if not all(alone) or len(alone[0]) * len(alone[1]) > MOST_ALONE:
        return []
    near = [_near_apart(rest, mine, tree) for rest, mine, tree in zip(voters, alone, trees, strict=True)]
    if (len(alone[0]) + len(near[0])) * (len(alone[1]) + len(near[1])) <= MOST:
        voters = near
    sides = [Side.of([*mine, *rest], tree.ordered) for mine, rest, tree in zip(alone, voters, trees, strict=True)]
    votes = conversion_votes(sides[0], sides[1], _agreed(links, sides))
    return rearrangements(
        sides[0],
        sides[1],
        (range(len(alone[0])), range(len(alone[1]))),
        (set(), set()),
        conversion_scores(name_scores(sides[0], sides[1]), votes),
        gather(sides[0], sides[1]).total,
        Agreement(sides[0], sides[1], votes),
    )


def _near_apart(voters: Sequence[Pattern], alone: Sequence[Pattern], tree: KeyTree) -> list[Pattern]:
    """The voters, those unfolded that stand in a numbered module with a lone leaf: they tell which one it is."""
    around = {path for p in alone for at in p.cells.values() for path in _numbered(tree.keys[at])}
    apart: list[Pattern] = []
    for p in voters:
        near = {at for at in p.cells.values() if not around.isdisjoint(_numbered(tree.keys[at]))}
        apart += [part_of(p, {at}) for at in sorted(near)]
        if len(near) < len(p.cells):
            apart.append(part_of(p, set(p.cells.values()) - near) if near else p)
    return apart


def _numbered(key: str) -> list[str]:
    """The paths of a key that end in a number, from the root on.

    >>> _numbered("blocks.1.experts.0.up.weight")
    ['blocks.1', 'blocks.1.experts.0']
    """
    segments = key.split(".")
    return [".".join(segments[: n + 1]) for n, s in enumerate(segments[:-1]) if s.isdecimal()]


def _blocks(links: Sequence[Link], trees: tuple[KeyTree, KeyTree]) -> dict[str, str]:
    """The numbered module of the model that certainly is one of the checkpoint: what is certain of one is of both."""
    goals: tuple[dict[str, set[str]], ...] = ({}, {})  # of each module, those that hold all that is certain of it
    for link in links:
        for group in link.expand() if link.certain else ():
            for i, j in product(group.left, group.right):
                around = _numbered(trees[0].keys[i]), _numbered(trees[1].keys[j])
                for n, mine in enumerate(around):
                    for path in mine:
                        goals[n][path] = goals[n].get(path, set(around[1 - n])).intersection(around[1 - n])
    inner = {mine: max(theirs, key=len) for mine, theirs in goals[0].items() if theirs}
    return {mine: theirs for mine, theirs in inner.items() if mine in goals[1][theirs]}


def _block(key: str) -> str:
    return next(reversed(_numbered(key)), "")


def _in_one_block(link: Link, blocks: Mapping[str, str], trees: tuple[KeyTree, KeyTree]) -> bool:
    """Whether parts and whole stand in modules that are known to be one: it is not chance that they are left over."""
    return all(
        blocks.get(_block(trees[0].keys[i])) == _block(trees[1].keys[j])
        for group in link.expand()
        for i, j in product(group.left, group.right)
    )


def _left_over(link: Link) -> Link:
    """That it was found late is open about it whatever else is."""
    if link.reason:
        return doubted(link, link.reason, beneath=(*link.beneath, LEFT_OVER))
    return doubted(link, LEFT_OVER)


def _free(patterns: Sequence[Pattern], links: Sequence[Link], side: int) -> set[int]:
    used = {p for link in links for p in (link.left, link.right)[side]}
    return {at for p in patterns if p not in used for at in p.cells.values()}


def _folded(tree: KeyTree, leaves: Set[int], before: Sequence[Pattern]) -> list[Pattern]:
    rest = frozenset(key for at, key in enumerate(tree.keys) if at not in leaves)
    return still_recognised(build_patterns(tree, rest), before)


def _agreed(links: Sequence[Link], sides: Sequence[Side]) -> dict[int, int]:
    """Where the matches send most of the leaves of each pattern."""
    owners = [{at: n for n, p in enumerate(side.patterns) for at in p.cells.values()} for side in sides]
    counts: Counter[tuple[int, int]] = Counter()
    for link in links:
        if len(link.left) == len(link.right) == 1:
            counts.update((owners[0][g.left[0]], owners[1][g.right[0]]) for g in link.expand())
    agreed: dict[int, int] = {}
    for (i, j), _ in counts.most_common():
        agreed.setdefault(i, j)
    return agreed
