"""Matches for what names leave open, where the layers of both sides run alike; see `walk`.

Nothing but shapes and the order of layers speaks for them, so none is certain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from treealign.align.hinted import Hint, speaks_of
from treealign.align.links import Group, Link, part_of, parted
from treealign.align.matching.sequences import Kind, align_sequences
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.verdict import doubted
from treealign.align.words import PARAMETER_ROLES, split_words, tokens
from treealign.mapping.operations import Permute, Reshape
from treealign.tree.keytree import KeyTree

IN_STEP = Reason("belongs", "nothing but shapes and the order of the layers speaks for it")
SPELLED = frozenset(
    {("weight",), ("bias",), ("running", "mean"), ("running", "var"), ("num", "batches", "tracked")}
)  # what torch's own modules call their parameters, so that each is known for what it is
_LETTERS = {"w": "weight", "b": "bias"}
EVIDENCE = "the layers in order"
Trees = tuple[KeyTree, KeyTree]
Patterns = tuple[Sequence[Pattern], Sequence[Pattern]]


def placed_in_step(
    links: Sequence[Link], resized: Sequence[Link], trees: Trees, patterns: Patterns, hints: Sequence[Hint] = ()
) -> tuple[list[Link], list[Pattern], list[Pattern]]:
    """The links, and those of leaves that correspond by what the layers hold and by their order.

    A link that is certain, or has operations, or of which a hint speaks, stays and holds its leaves together on the
    walk. An uncertain rename gives way where the walk leads elsewhere, and so does the guess that a linear layer was a
    convolution over one point, or that tensors were joined or cut for which nothing speaks but that their sizes add up.

    Parameters
    ----------
    links : sequence of Link
        What was matched so far.
    resized : sequence of Link
        What was matched by name although a size differs; its leaves take no part.
    trees : tuple of KeyTree
        Checkpoint and model; all shapes known.
    patterns : tuple of sequence of Pattern
        All that is to be matched on either side.
    hints : sequence of Hint
        What the user said, which no order outweighs.

    Returns
    -------
    tuple of list
        The links, and the patterns of either side, those parted of which the walk placed a part.
    """
    left, right = map(list, patterns)
    said = {link for link in links if any(speaks_of(hint, link.left, link.right) for hint in hints)}
    loose = [link for link in links if is_loose(link) and link not in said]
    fixed = [link for link in links if not is_loose(link) or link in said]
    if not loose and (_all_taken(links, 0, left) or _all_taken(links, 1, right)):
        return list(links), left, right
    sized = {p for link in resized for p in (*link.left, *link.right)}
    owners = _owners(left, sized), _owners(right, sized)
    found = dict(align_sequences(*trees, _kinds(fixed, trees, owners)))
    held = {i for link in fixed for group in link.expand() for i in group.left}
    current = {g.left[0]: g.right[0] for link in loose for g in link.expand() if len(g.left) == len(g.right) == 1}
    moved = {i: j for i, j in found.items() if i not in held and current.get(i) != j}
    if not moved:
        return list(links), left, right
    kept = [part for link in loose for part in _without(link, moved)]
    everything = [*fixed, *kept, *_links(moved, owners)]
    return (
        everything,
        parted(left, [link.left for link in everything]),
        parted(right, [link.right for link in everything]),
    )


def is_loose(link: Link) -> bool:
    """A rename that is not certain, or a conversion for which shapes alone speak."""
    if link.certain:
        return False
    if len(link.left) > 1 or len(link.right) > 1 or any(isinstance(o, Permute) for o in link.operations):
        return len(link.evidence) == 1
    return all(isinstance(o, Reshape) and dense(o.before) == dense(o.after) for o in link.operations)


def dense(shape: Sequence[Any]) -> tuple[Any, ...]:
    """The shape without sizes of one."""
    return tuple(size for size in shape if size != 1)


def _all_taken(links: Iterable[Link], side: int, patterns: Iterable[Pattern]) -> bool:
    used = {p for link in links for p in (link.left, link.right)[side]}
    return all(p in used for p in patterns)


def _owners(patterns: Iterable[Pattern], without: set[Pattern]) -> dict[int, Pattern]:
    """The pattern of each leaf, without those that are left out."""
    return {at: p for p in patterns if p not in without for at in p.cells.values()}


def _kinds(
    fixed: Iterable[Link], trees: Trees, owners: tuple[dict[int, Pattern], dict[int, Pattern]]
) -> tuple[dict[int, Kind], dict[int, Kind]]:
    """What each leaf is: of a match that is fixed, or of a shape; with its own name where that is common to both."""
    known: tuple[dict[int, Kind], dict[int, Kind]] = {}, {}
    absent: tuple[set[int], set[int]] = set(), set()
    for link in fixed:
        for group in link.expand():
            for side, members in enumerate(group):
                absent[side].update(members)
                known[side][members[0]] = ("matched", group.left[0])
    names = [
        {at: parameter_name(tree.keys[at].rpartition(".")[2]) for at in mine if at not in gone}
        for tree, mine, gone in zip(trees, owners, absent, strict=True)
    ]
    common = set(names[0].values()) & set(names[1].values())
    for side, tree in enumerate(trees):
        for at, name in names[side].items():
            known[side][at] = tree.leaves[at].shape, owners[side][at].nature, name if name in common else ()
    return known


@lru_cache(maxsize=4096)
def parameter_name(name: str) -> tuple[str, ...]:
    """Weight or bias, where a parameter's name says so at all, or the words of the name.

    >>> parameter_name("gamma"), parameter_name("b_O"), parameter_name("running_mean")
    (('weight',), ('bias',), ('running', 'mean'))
    """
    words = split_words(name)
    said = {_LETTERS.get(w, w) for w in words} & PARAMETER_ROLES.keys()
    return tuple(said) if len(said) == 1 else words


@lru_cache(maxsize=65536)
def words_of(module: tuple[str, ...]) -> frozenset[str]:
    """The words of a module's name, spelled as the field has them.

    >>> sorted(words_of(("layernorm",))), sorted(words_of(("norm",))), sorted(words_of(("0",)))
    (['norm'], ['norm'], [])
    """
    return frozenset(t.text for t in tokens((*module, "weight")) if t.depth == 1 and t.text[0].isalpha())


@lru_cache(maxsize=65536)
def may_be_called(mine: str, theirs: str) -> bool:
    """Whether two names of a parameter do not say that they are different things.

    >>> may_be_called("weight", "bias"), may_be_called("gamma", "weight"), may_be_called("scale", "weight")
    (False, True, True)
    """
    meant = parameter_name(mine), parameter_name(theirs)
    return meant[0] == meant[1] or not all(name in SPELLED for name in meant)


def _without(link: Link, moved: Mapping[int, int]) -> list[Link]:
    """What is left of a link of which leaves were placed otherwise."""
    groups, taken = list(link.expand()), set(moved.values())
    kept = [g for g in groups if moved.keys().isdisjoint(g.left) and taken.isdisjoint(g.right)]
    if len(kept) == len(groups):
        return [link]
    if len(link.left) > 1 or len(link.right) > 1:
        return []
    return [_of(link, kept)] if kept else []


def _of(link: Link, groups: Sequence[Group]) -> Link:
    left = part_of(link.left[0], {g.left[0] for g in groups})
    right = part_of(link.right[0], {g.right[0] for g in groups})
    return replace(link, left=(left,), right=(right,), groups=tuple(groups))


def _links(pairs: dict[int, int], owners: tuple[dict[int, Pattern], dict[int, Pattern]]) -> list[Link]:
    """The pairs as links, one for each two patterns; leaves of one shape are rivals."""
    groups: dict[tuple[Pattern, Pattern], list[Group]] = defaultdict(list)
    for i, j in sorted(pairs.items()):
        groups[owners[0][i], owners[1][j]].append(Group((i,), (j,)))
    made = []
    for members in groups.values():
        left = part_of(owners[0][members[0].left[0]], {g.left[0] for g in members})
        right = part_of(owners[1][members[0].right[0]], {g.right[0] for g in members})
        made.append(Link((left,), (right,), (), tuple(members), evidence=(EVIDENCE,)))
    return [doubted(link, IN_STEP, _rivals(link, made)) for link in made]


def _rivals(link: Link, links: Sequence[Link]) -> tuple[tuple[Pattern, ...], tuple[Pattern, ...]]:
    shapes = set(link.left[0].shapes.values())
    near = [other for other in links if not shapes.isdisjoint(other.left[0].shapes.values())]
    return tuple(n.left[0] for n in near), tuple(n.right[0] for n in near)
