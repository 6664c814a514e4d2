"""Trees read under other keys, position by position: what an alignment finds in them holds for the trees given."""

from __future__ import annotations

from collections.abc import Sequence

from treealign.tree.keytree import KeyTree


def with_dots(tree: KeyTree) -> KeyTree:
    """The tree with dots where TensorFlow, Flax and T5X write slashes: `decoder/layers_0/mlp` is three segments."""
    if not any("/" in key for key in tree.keys):
        return tree
    return respelled(tree, [".".join(filter(None, key.replace("/", ".").split("."))) for key in tree.keys])


def respelled(tree: KeyTree, keys: Sequence[str]) -> KeyTree:
    """The tree with other keys at the same positions; the tree itself where two of them are equal."""
    if len(set(keys)) < len(keys) or not all(keys):
        return tree
    names = dict(zip(tree.keys, keys, strict=True))
    tied = {names[a]: names[b] for a, b in tree.tied.items() if a in names and b in names}
    leaves = tuple(leaf._replace(key=key) for leaf, key in zip(tree.leaves, keys, strict=True))
    return KeyTree(leaves, tree.modules, tied, tree.ordered, tree.source, tree.trace)
