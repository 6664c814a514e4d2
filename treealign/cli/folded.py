"""A `KeyTree` as a person reads it: repeats folded, chains of single levels joined, the leaves of a module on its line.

Built from the folds alone, so that `treealign show` needs neither networkx nor torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod

from treealign.tree.fold import Fold, ranges
from treealign.tree.keytree import KeyTree, Leaf

Indices = tuple[str, ...]
Signature = frozenset[tuple[str, tuple[int, ...] | None]]


@dataclass
class Node:
    """A module, or a leaf when it has a fold; `indices` are those of the repeats it stands in."""

    children: dict[tuple[str, int], Node] = field(default_factory=dict)
    fold: Fold | None = None
    indices: set[Indices] = field(default_factory=set)
    parameters: int = 0
    keys: int = 0
    first: int = sys.maxsize

    @property
    def is_leaf(self) -> bool:
        """Whether it is a parameter or buffer and no module besides."""
        return self.fold is not None and not self.children

    @property
    def holds_leaves_only(self) -> bool:
        """Whether all below it is its own leaves, under names and not numbers."""
        named_leaves = (child.is_leaf and not key[1] for key, child in self.children.items())
        return self.fold is None and bool(self.children) and all(named_leaves)


@dataclass(frozen=True)
class Row:
    """One line: a module or a lone leaf, how deep it stands, and its leaves as short texts."""

    depth: int
    name: str
    leaves: tuple[str, ...] = ()
    module: str = ""
    keys: int = 0
    parameters: int = 0


def build(tree: KeyTree) -> Node:
    """The folded tree of nodes; an index is a node of its own, with a number above 0 as second part of its key."""
    root = Node(indices={()})
    for f, group in _folds(tree):
        parameters = sum(prod(tree.leaves[at].shape or ()) for at in f.positions if tree.leaves[at].shape is not None)
        has_captures = bool(f.indices[0])
        node, depth = root, 0
        for at, segment in enumerate(f.segments):
            node.keys += len(f.positions)
            node.parameters += parameters
            is_index = has_captures and segment == "{}"
            depth += is_index
            in_group = group if at == len(f.segments) - 2 else 1
            node = node.children.setdefault((segment, in_group if is_index else 0), Node())
            node.indices |= {i[:depth] for i in f.indices}
            node.first = min(node.first, f.positions[0])
        node.fold = f
        node.keys += len(f.positions)
        node.parameters += parameters
    return root


def _folds(tree: KeyTree) -> Iterator[tuple[Fold, int]]:
    """The folds, those of a Sequential split by what its numbered items are; with the number of the group."""
    above = {f.segments[:depth] for f in tree.folds for depth in range(len(f.segments) - 1)}
    items: dict[tuple[str, ...], list[Fold]] = {}
    for f in tree.folds:
        parent = f.segments[:-1]
        if _is_item(f) and parent not in above:
            items.setdefault(parent, []).append(f)
    groups = {parent: _groups(tree, folds) for parent, folds in items.items()}
    for f in tree.folds:
        yield from _split(f, groups[f.segments[:-1]]) if _is_item(f) and f.segments[:-1] in groups else [(f, 1)]


def _is_item(f: Fold) -> bool:
    """Whether its leaves are named and stand right below a number."""
    return bool(f.indices[0]) and f.segments[-2:-1] == ("{}",) and f.segments[-1] != "{}"


def _groups(tree: KeyTree, folds: list[Fold]) -> dict[str, int]:
    """The number of its group for each index: same leaves, same shapes, same group."""
    found: dict[str, set[tuple[str, tuple[int, ...] | None]]] = {}
    for f in folds:
        for at, indices in zip(f.positions, f.indices, strict=True):
            found.setdefault(indices[-1], set()).add((f.segments[-1], tree.leaves[at].shape))
    names = {index: frozenset(name for name, _ in leaves) for index, leaves in found.items()}
    if len(set(names.values())) == 1:  # the same layer at several sizes is still a repeat
        return dict.fromkeys(found, 1)
    numbers: dict[Signature, int] = {}
    return {i: numbers.setdefault(frozenset(found[i]), len(numbers) + 1) for i in sorted(found, key=int)}


def _split(f: Fold, groups: dict[str, int]) -> Iterator[tuple[Fold, int]]:
    for group in sorted({groups[i[-1]] for i in f.indices}):
        here = [at for at, indices in enumerate(f.indices) if groups[indices[-1]] == group]
        yield Fold(f.template, f.segments, [f.positions[at] for at in here], [f.indices[at] for at in here]), group


def rows(tree: KeyTree, common_dtype: str | None) -> list[Row]:
    """The lines of the folded tree, top down."""
    return list(_rows(tree, build(tree), 0, common_dtype))


def _rows(tree: KeyTree, node: Node, depth: int, dtype: str | None) -> Iterator[Row]:
    for key, first in sorted(node.children.items(), key=lambda item: item[1].first):
        name, child = _joined(key, first)
        name += _only_in(node, child)
        texts: list[str] = []
        if child.is_leaf and child.fold is not None:
            texts = leaf_texts(tree, child.fold, dtype)
        elif child.holds_leaves_only:
            texts = [text for k, leaf in child.children.items() for text in _named_leaf(tree, child, k[0], leaf, dtype)]
        yield Row(depth, name, tuple(texts), _module_class(tree, child), child.keys, child.parameters)
        if texts:
            continue
        if child.fold is not None:
            yield Row(depth + 1, "(itself)", tuple(leaf_texts(tree, child.fold, dtype)))
        yield from _rows(tree, child, depth + 1, dtype)


def _joined(key: tuple[str, int], node: Node) -> tuple[str, Node]:
    """A chain of only children as one name, and the node it ends in; a module keeps its only leaf apart."""
    names = [_name(key, node)]
    while node.fold is None and len(node.children) == 1 and not node.holds_leaves_only:
        key, node = next(iter(node.children.items()))
        names.append(_name(key, node))
    return ".".join(names), node


def _name(key: tuple[str, int], node: Node) -> str:
    segment, index = key
    return ranges(sorted({int(i[-1]) for i in node.indices})) if index else segment or "(empty)"


def _only_in(parent: Node, node: Node) -> str:
    """Says in which repeats of its parent a child stands, where not in all."""
    depth = len(next(iter(parent.indices)))
    present = {i[:depth] for i in node.indices}
    return "" if present == parent.indices else f" in {_columns(present)}"


def _columns(indices: Iterable[Indices]) -> str:
    """Tuples of indices as products of ranges: ``0.0 and 1.{0..2}``."""
    products = list(_products(sorted(tuple(map(int, i)) for i in indices)))
    return " and ".join(products[:3]) + (" and …" if len(products) > 3 else "")


def _products(indices: list[tuple[int, ...]]) -> Iterator[str]:
    tails: dict[int, list[tuple[int, ...]]] = {}
    for head, *tail in indices:
        tails.setdefault(head, []).append(tuple(tail))
    heads: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for number, below in tails.items():
        heads.setdefault(tuple(below), []).append(number)
    for rest, numbers in heads.items():
        texts = _products([*rest]) if rest[0] else iter([""])
        yield from (".".join(filter(None, (ranges(numbers), text))) for text in texts)


def _named_leaf(tree: KeyTree, parent: Node, name: str, node: Node, dtype: str | None) -> list[str]:
    first, *rest = leaf_texts(tree, node.fold, dtype) if node.fold is not None else [""]
    return [f"{name}{_only_in(parent, node)} {first}", *rest]


def leaf_texts(tree: KeyTree, f: Fold, common_dtype: str | None) -> list[str]:
    """Shape, and what is out of the ordinary: ``[1024]``, ``[56, 16] float32``; a text a shape where they differ."""
    groups: dict[str, list[Indices]] = {}
    for at, indices in zip(f.positions, f.indices, strict=True):
        leaf = tree.leaves[at]
        groups.setdefault(_leaf(leaf, tree.tied.get(leaf.key), common_dtype), []).append(indices)
    texts = list(groups)
    if len(texts) == 1:
        return texts
    if len(texts) > 4:
        return [f"{texts[0]} … {texts[-1]}", f"({len(texts)} kinds)"]
    return [f"{text} in {_columns(indices)}" for text, indices in groups.items()]


def _leaf(leaf: Leaf, tied: str | None, common_dtype: str | None) -> str:
    parts = ["[?]" if leaf.shape is None else str(list(leaf.shape))]
    if leaf.dtype != common_dtype and leaf.dtype is not None:
        parts.append(leaf.dtype)
    if leaf.kind != "parameter":
        parts.append(leaf.kind)
    if tied is not None:
        parts.append(f"= {tied}")
    return " ".join(parts)


def _module_class(tree: KeyTree, node: Node) -> str:
    """The class of the modules folded into a node, where the tree knows it and they agree."""
    if not tree.modules:
        return ""
    f, depth = _first_fold(node)
    paths = {tree.leaves[at].key.rsplit(".", depth)[0] for at in f.positions}
    classes = {tree.modules.get(path, "") for path in paths}
    return classes.pop() if len(classes) == 1 else ""


def _first_fold(node: Node) -> tuple[Fold, int]:
    """Some fold below a node, and how many levels below."""
    depth = 0
    while node.fold is None:
        node, depth = next(iter(node.children.values())), depth + 1
    return node.fold, depth
