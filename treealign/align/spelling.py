"""Trees read under other keys, position by position: what an alignment finds in them holds for the trees given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from treealign.align.words import unwrapped
from treealign.tree.keytree import KeyTree

Path = tuple[str, ...]


def with_dots(tree: KeyTree) -> KeyTree:
    """The tree with dots where TensorFlow, Flax and T5X write slashes: `decoder/layers_0/mlp` is three segments."""
    if not any("/" in key for key in tree.keys):
        return tree
    return respelled(tree, [".".join(filter(None, key.replace("/", ".").split("."))) for key in tree.keys])


def without_wrappers(tree: KeyTree) -> KeyTree:
    """The tree without the levels that compiling, sharding and checkpointing add, where they hold one module only."""
    paths = [tuple(key.split(".")) for key in tree.keys]
    wrapped = {path[:at]: path[at] for path in paths for at in _levels(path)}
    if not wrapped:
        return tree
    mixed = {path[:at] for path in paths for at in range(len(path)) if wrapped.get(path[:at], path[at]) != path[at]}
    modules = {".".join(_bare(tuple(path.split(".")), mixed)): tree.modules[path] for path in sorted(tree.modules)}
    return respelled(tree, [".".join(_bare(path, mixed)) for path in paths], modules)


def _levels(path: Path) -> Iterable[int]:
    """Where wrappers stand in a path."""
    return () if unwrapped(path) is path else (at for at, one in enumerate(path) if not unwrapped((one,)))


def _bare(path: Path, mixed: set[Path]) -> Iterable[str]:
    levels = {at for at in _levels(path) if path[:at] not in mixed}
    return (one for at, one in enumerate(path) if at not in levels)


def respelled(tree: KeyTree, keys: Sequence[str], modules: Mapping[str, str] | None = None) -> KeyTree:
    """The tree with other keys at the same positions; the tree itself where two of them are equal."""
    if len(set(keys)) < len(keys) or not all(keys):
        return tree
    names = dict(zip(tree.keys, keys, strict=True))
    tied = {names[a]: names[b] for a, b in tree.tied.items() if a in names and b in names}
    leaves = tuple(leaf._replace(key=key) for leaf, key in zip(tree.leaves, keys, strict=True))
    classes = tree.modules if modules is None else modules
    return KeyTree(leaves, classes, tied, tree.ordered, tree.source, tree.trace, tree.architecture)
