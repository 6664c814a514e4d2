"""Trees of names as networkx graphs: nodes are paths, edges go from a level to what it holds, digests bottom up.

Two nodes of equal digest hold the same: the same names with the same leaves at every depth below them, whatever the two
are called themselves (Merkle 1979; subtrees are found by their hash as GumTree does, Falleri et al. 2014).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import networkx as nx

from treealign.tree.fold import Fold
from treealign.tree.tracing import INPUT, Trace

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


def folded_graph(leaves: Sequence[Any], folds: Sequence[Fold], modules: Mapping[str, str]) -> nx.DiGraph:
    """The tree of folded keys with what is known of each level; see `KeyTree.graph`."""
    tree = grow(fold.segments for fold in folds)
    for node, data in tree.nodes(data=True):
        data.update(segment=node[-1] if node else "", keys=0)
    held = {fold.segments: _held(leaves, fold) for fold in folds}
    set_digests(tree, lambda node: held.get(node, ()))
    for fold in folds:
        tree.nodes[fold.segments].update(_leaf_data(leaves, fold))
        _count(tree, leaves, fold, modules)
    for node, data in tree.nodes(data=True):
        data["signature"] = tuple(c[-1] for c in sorted(tree.successors(node)) if "shapes" in tree.nodes[c])
    return tree


def _held(leaves: Sequence[Any], fold: Fold) -> tuple[tuple[tuple[str, ...], Any], ...]:
    """The indices of a leaf with their shapes: what a digest is of."""
    return tuple(sorted((row, leaves[at].shape) for at, row in zip(fold.positions, fold.indices, strict=True)))


def _leaf_data(leaves: Sequence[Any], fold: Fold) -> dict[str, Any]:
    mine = [leaves[at] for at in fold.positions]
    names = ("shape", "dtype", "kind")
    shapes, dtypes, kinds = (tuple(dict.fromkeys(getattr(leaf, name) for leaf in mine)) for name in names)
    return {"fold": fold, "shapes": shapes, "dtypes": dtypes, "kinds": kinds}


def _count(tree: nx.DiGraph, leaves: Sequence[Any], fold: Fold, modules: Mapping[str, str]) -> None:
    """Add a fold to the counts of all levels above it, with the range of its indices and the class of its modules."""
    first, column = leaves[fold.positions[0]].key.split("."), 0
    for depth in range(len(fold.segments) + 1):
        data = tree.nodes[fold.segments[:depth]]
        data["keys"] += len(fold.positions)
        if name := modules.get(".".join(first[:depth])):
            data.setdefault("class", name)
        if depth and fold.segments[depth - 1] == "{}" and fold.indices[0]:
            data.setdefault("indices", set()).update(int(row[column]) for row in fold.indices)
            column += 1


def flow_graph(trace: Trace) -> nx.DiGraph:
    """Who feeds whom in a traced run, as a DAG over the modules that hold parameters, in order of use.

    What feeds a module that was used before it (a module that is called again) is left out, so that the rest has an
    order. The model's input is the node ``""``.
    """
    order = {name: at for at, name in enumerate(dict.fromkeys([INPUT, *(k.rpartition(".")[0] for k in trace.order)]))}
    flow = nx.DiGraph()
    flow.add_nodes_from((name, {"order": at}) for name, at in order.items())
    flow.add_edges_from((a, b) for a, b in trace.feeds if order.get(a, -1) < order.get(b, -1) and a in order)
    for attribute, names in (("activated", trace.activated), ("attended", trace.attended)):
        nx.set_node_attributes(flow, {name: name in set(names) for name in flow}, attribute)
    return flow
