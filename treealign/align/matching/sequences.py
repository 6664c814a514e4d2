"""Two trees walked side by side: what holds the same corresponds, and a list is gone through in its order.

Libraries cut one network into very different lists: `features.3.conv.0.1` here, `blocks.1.0.bn1` there, `layer.3` in a
third. What does not change is what the layers hold and in which order they come. So both sides are gone through
together, from the root down. Parts that hold tensors of the same kinds as one part only of the other side correspond.
The rest is cut wherever as much of every kind has passed on both sides. Of equal parts in a row, the first corresponds
to the first. Whatever cannot be told so is opened, the largest part first, until leaves are reached.

Order counts where it means something: between members of a list, between what is `in` and what is `out`, and between
parts in order of definition if those of the other side are a list (`bn1, bn2` against two norms with names). Parts of
one content with names on both sides are never told apart by the order in which these happen to stand: without a name in
common, they are left out.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from treealign.align.words import split_words, vocabulary
from treealign.tree.keytree import KeyTree

Kind = Hashable
Content = frozenset[tuple[Kind, int]]
Pair = tuple[int, int]
_NUMBER = re.compile(r"[0-9]+|(?:(?<=_)|^)[a-f]$", re.ASCII)  # `a, b, c` count too
BUDGET = 4_000_000  # entries of contents to be looked at; what takes more is left as it is


def align_sequences(
    checkpoint: KeyTree, model: KeyTree, kinds: tuple[Mapping[int, Kind], Mapping[int, Kind]]
) -> list[Pair]:
    """Positions of leaves that correspond, as far as what they are and the order of the layers tells.

    Parameters
    ----------
    checkpoint, model : KeyTree
        The two sides.
    kinds : tuple of two mappings
        Position of a leaf to what it is: its shape, or the match it is known to belong to. Leaves that are absent take
        no part.

    Notes
    -----
    Linear in the number of leaves times the depth of the trees where lists run alike. Where they do not, part after
    part has to be opened, and `BUDGET` bounds the work: what is found by then is returned.
    """
    steps = _Walk((checkpoint.ordered, model.ordered))
    steps.correspond([_grown(checkpoint, kinds[0])], [_grown(model, kinds[1])])
    return steps.pairs


@dataclass(eq=False)
class _Node:
    """A module or a leaf: its path, what is below it, and how much of every kind."""

    path: tuple[str, ...]
    children: dict[str, _Node] = field(default_factory=dict)
    leaf: int | None = None
    content: Counter[Kind] = field(default_factory=Counter)

    @property
    def template(self) -> tuple[str, ...]:
        """The path without its numbers: members of a list have one and the same."""
        return tuple(map(_without_place, self.path))


@lru_cache(maxsize=65536)
def _without_place(segment: str) -> str:
    """A segment without what says which of several it is.

    >>> _without_place("layer_3"), _without_place("out_layers"), _without_place("bn_a")
    ('layer_#', '#_layers', 'bn_#')
    """
    return "_".join("#" if word in vocabulary().sequence else word for word in _NUMBER.sub("#", segment).split("_"))


class _Held(NamedTuple):
    """A node and what it holds of the kinds that count."""

    node: _Node
    content: Content


def _grown(tree: KeyTree, kinds: Mapping[int, Kind]) -> _Node:
    """The tree of the leaves that take part, children in order."""
    root = _Node(())
    for at, kind in sorted(kinds.items()):
        node = root
        node.content[kind] += 1
        segments = tree.keys[at].split(".")
        for depth, segment in enumerate(segments, 1):
            if segment not in node.children:
                node.children[segment] = _Node(tuple(segments[:depth]))
            node = node.children[segment]
            node.content[kind] += 1
        node.leaf = at
    return root


class _Walk:
    """The pairs found, and what may still be spent on finding more."""

    def __init__(self, ordered: tuple[bool, bool]) -> None:
        self.pairs: list[Pair] = []
        self._ordered = ordered
        self._left = BUDGET

    def correspond(self, left: Sequence[_Node], right: Sequence[_Node]) -> None:
        """Find what corresponds in two sequences of parts that correspond as wholes."""
        while True:
            a, b = self._even(left, right)
            if not a or not b:
                return
            if len(a) == len(b) == 1:
                self._step_into(a[0].node, b[0].node)
                return
            crossed = _crossed(a, b)
            a, b = self._take_unique(a, b, crossed)
            cuts = _cuts(a, b, self._unordered(a, b))
            if len(cuts) > 1:
                for x, y in cuts:
                    self.correspond([h.node for h in x], [h.node for h in y])
                return
            a, b = self._take_equal(a, b, crossed)
            largest = max((_size(h) for h in (*a, *b) if h.node.leaf is None), default=0)
            if not largest:
                return
            left, right = _opened(a, largest), _opened(b, largest)

    def _even(self, left: Sequence[_Node], right: Sequence[_Node]) -> tuple[list[_Held], list[_Held]]:
        """Both sequences by the kinds of which they hold equally many; nothing where the budget is spent."""
        mine, theirs = _sum(left), _sum(right)
        self._left -= len(mine) + len(theirs) + sum(len(n.content) for n in (*left, *right))
        if self._left < 0:
            return [], []
        even = {kind for kind, count in mine.items() if theirs.get(kind) == count}
        return _holding(left, even), _holding(right, even)

    def _step_into(self, a: _Node, b: _Node) -> None:
        if a.leaf is not None and b.leaf is not None:
            self.pairs.append((a.leaf, b.leaf))
            return
        self.correspond(*([n] if n.leaf is not None else list(n.children.values()) for n in (a, b)))

    def _take_unique(self, a: list[_Held], b: list[_Held], crossed: set[Content]) -> tuple[list[_Held], list[_Held]]:
        """Pair what has a single counterpart; the rest."""
        mine, theirs = _by_content(a), _by_content(b)
        unique = {c for c, members in mine.items() if len(members) == 1 == len(theirs.get(c, ()))} - crossed
        for content in (c for c in mine if c in unique):
            self._step_into(mine[content][0], theirs[content][0])
        return [h for h in a if h.content not in unique], [h for h in b if h.content not in unique]

    def _take_equal(self, a: list[_Held], b: list[_Held], crossed: set[Content]) -> tuple[list[_Held], list[_Held]]:
        """Pair equally many of one content, by their order in a list or by their names; the rest."""
        mine, theirs = _by_content(a), _by_content(b)
        settled = {c for c, members in mine.items() if len(members) == len(theirs.get(c, ()))} - crossed
        for content in (c for c in mine if c in settled):
            x, y = mine[content], theirs[content]
            for pair in zip(x, y, strict=True) if self._in_order(x, y) else _by_name(x, y):
                self._step_into(*pair)
        return [h for h in a if h.content not in settled], [h for h in b if h.content not in settled]

    def _unordered(self, a: Sequence[_Held], b: Sequence[_Held]) -> set[Content]:
        """Contents of which no order says which is which."""
        mine, theirs = _by_content(a), _by_content(b)
        return {c for c in mine.keys() | theirs.keys() if not self._in_order(mine.get(c, ()), theirs.get(c, ()))}

    def _in_order(self, a: Sequence[_Node], b: Sequence[_Node]) -> bool:
        """Whether parts of one content are members of lists, or of a list on one side and as defined on the other."""
        lists = [len({n.template for n in side}) <= 1 for side in (a, b)]
        return all(lists) or (len(a) == len(b) and any(lists) and self._ordered[lists.index(False)])


def _sum(nodes: Iterable[_Node]) -> Counter[Kind]:
    total: Counter[Kind] = Counter()
    for node in nodes:
        total.update(node.content)
    return total


def _holding(nodes: Iterable[_Node], kinds: set[Kind]) -> list[_Held]:
    """The nodes that hold anything of these kinds."""
    held = (_Held(n, frozenset((k, c) for k, c in n.content.items() if k in kinds)) for n in nodes)
    return [h for h in held if h.content]


def _size(held: _Held) -> int:
    return sum(count for _, count in held.content)


def _by_content(held: Iterable[_Held]) -> dict[Content, list[_Node]]:
    found: dict[Content, list[_Node]] = defaultdict(list)
    for node, content in held:
        found[content].append(node)
    return found


def _opened(held: Sequence[_Held], size: int) -> list[_Node]:
    """The nodes, those of this size replaced by what is below them."""
    return [n for h in held for n in (h.node.children.values() if _size(h) == size and h.node.children else (h.node,))]


def _crossed(a: Sequence[_Held], b: Sequence[_Held]) -> set[Content]:
    """Contents of members of lists that would change places: the lists are cut otherwise, and by chance hold alike."""
    mine, theirs = _places(a), _places(b)
    lists: dict[tuple[Any, Any], list[tuple[int, int, Content]]] = defaultdict(list)
    for content in mine.keys() & theirs.keys():
        x, y = mine[content], theirs[content]
        lists[a[x].node.template, b[y].node.template].append((x, y, content))
    crossed = (hits for hits in lists.values() if not _runs_up([y for _, y, _ in sorted(hits, key=itemgetter(0))]))
    return {content for hits in crossed for _, _, content in hits}


def _places(held: Sequence[_Held]) -> dict[Content, int]:
    """Where each content stands that stands once."""
    counts = Counter(h.content for h in held)
    return {h.content: at for at, h in enumerate(held) if counts[h.content] == 1}


def _runs_up(places: Sequence[int]) -> bool:
    return all(x < y for x, y in pairwise(places))


def _by_name(a: Sequence[_Node], b: Sequence[_Node]) -> list[tuple[_Node, _Node]]:
    """Those of one name, where the two sides have the same names."""
    mine, theirs = ({split_words(n.path[-1]): n for n in side} for side in (a, b))
    if not len(mine) == len(theirs) == len(a) or mine.keys() != theirs.keys():
        return []
    return [(node, theirs[name]) for name, node in mine.items()]


def _cuts(
    a: Sequence[_Held], b: Sequence[_Held], together: set[Content]
) -> list[tuple[Sequence[_Held], Sequence[_Held]]]:
    """Both sequences cut wherever as much of every kind has passed, but not between two of a content in `together`."""
    cuts = []
    last = _last(a), _last(b)
    ahead: Counter[Kind] = Counter()  # how much more of each kind has passed on the left; never a zero
    begun = [0, 0]  # where the last of what has to stay together stands
    start = at = (0, 0)
    passed = [0, 0]
    while at != (len(a), len(b)):
        side = int(at[1] < len(b) and (at[0] == len(a) or passed[0] > passed[1]))
        held = (a, b)[side][at[side]]
        for kind, count in held.content:
            ahead[kind] += -count if side else count
            if not ahead[kind]:
                del ahead[kind]
        passed[side] += _size(held)
        at = (at[0] + 1, at[1]) if not side else (at[0], at[1] + 1)
        if held.content in together:
            begun[side] = max(begun[side], last[side][held.content])
        if not ahead and begun[0] < at[0] and begun[1] < at[1]:
            cuts.append((a[start[0] : at[0]], b[start[1] : at[1]]))
            start = at
    return cuts if start == at else [*cuts, (a[start[0] :], b[start[1] :])]


def _last(held: Sequence[_Held]) -> dict[Content, int]:
    """Where the last of each content stands."""
    return {h.content: at for at, h in enumerate(held)}
