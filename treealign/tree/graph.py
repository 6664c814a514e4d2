"""Trees of names as networkx graphs: nodes are paths, edges go from a level to what it holds, digests bottom up.

Two nodes of equal digest hold the same: the same names with the same leaves at every depth below them, whatever the two
are called themselves (Merkle 1979; subtrees are found by their hash as GumTree does, Falleri et al. 2014).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable

import networkx as nx

Path = tuple[str, ...]
ROOT: Path = ()


def grow(paths: Iterable[Path]) -> nx.DiGraph:
    """The tree of all levels above some leaves; children stand in the order in which they first occur.

    Notes
    -----
    Linear in the number of segments.

    >>> list(grow([("layers", "{}", "weight"), ("norm",)]).successors(()))
    [('layers',), ('norm',)]
    """
    tree = nx.DiGraph()
    tree.add_node(ROOT)
    for path in paths:
        depth = len(path)
        while depth and path[:depth] not in tree:
            depth -= 1
        tree.add_edges_from((path[:at], path[: at + 1]) for at in range(depth, len(path)))
    return tree


def set_digests(
    tree: nx.DiGraph, content: Callable[[Path], Hashable], attribute: str = "digest", named: bool = True
) -> None:
    """Give every node a digest of what it holds: `content` of its own, and names and digests of its children.

    The order of children does not matter; without `named` their names do not either. Digests are the same in every
    process in which the contents have the same `repr`.
    """
    found: dict[Path, bytes] = {}
    for node in reversed(list(tree)):  # parents were added before their children
        inside = sorted((child[-1] if named else "", found[child]) for child in tree.successors(node))
        found[node] = hashlib.blake2b(repr((content(node), inside)).encode(), digest_size=12).digest()
    nx.set_node_attributes(tree, {node: digest.hex() for node, digest in found.items()}, attribute)
