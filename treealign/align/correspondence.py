"""The correspondence of two trees as a graph: what became of every level and every leaf, read off the matched leaves.

Two levels correspond when their leaves do: of all pairs of which matches join leaves below, those with the largest
share (Dice's coefficient, as in GumTree's bottom-up matcher; Falleri et al. 2014) are taken first, of equals those of
more alike names, and a pair is taken only if it stands below the pairs taken above it. So a level that stands around
everything on one side only is left without a partner: it was inserted or removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import networkx as nx
from rapidfuzz.distance import Indel

from treealign.align.knowledge.weights import SHARE
from treealign.align.links import Link
from treealign.align.patterns import Pattern

Path = tuple[str, ...]
Node = tuple[str, Path]
SIDES = ("checkpoint", "model")
ALONE = {"checkpoint": ("unexpected", "removed"), "model": ("missing", "inserted")}


def correspondence(links: Iterable[Link], left: Iterable[Pattern], right: Iterable[Pattern]) -> nx.Graph:
    """The bipartite graph of two trees' levels and leaves.

    Parameters
    ----------
    links : iterable of Link
        All matches.
    left, right : iterable of Pattern
        What is left over of the checkpoint and of the model.

    Returns
    -------
    networkx.Graph
        Nodes are ``("checkpoint", path)`` and ``("model", path)``, folded; they carry ``side``, ``path``, ``keys`` and,
        without a partner, ``kind``: "unexpected" or "missing" where nothing below them is matched, else "removed" or
        "inserted". Edges carry ``kind`` (same, renamed, moved, fused, split), ``certain``, ``evidence`` and, between
        leaves, ``operations``.

    Notes
    -----
    Linear in the matched patterns, times the square of their depth.
    """
    graph, matched = nx.Graph(), list(links)
    sides = [p for link in matched for p in link.left], [p for link in matched for p in link.right]
    for side, members in zip(SIDES, ([*sides[0], *left], [*sides[1], *right]), strict=True):
        for p in members:
            _add(graph, side, p)
    _join_leaves(graph, matched)
    _join_levels(graph, matched)
    for _, data in graph.nodes(data=True):
        data.setdefault("kind", "")
    for node in (n for n in graph if not graph[n]):
        graph.nodes[node]["kind"] = ALONE[node[0]][graph.nodes[node]["matched"] > 0]
    return graph


def _add(graph: nx.Graph, side: str, p: Pattern) -> None:
    """A leaf and the levels above it."""
    for depth in range(1, len(p.segments) + 1):
        path = p.segments[:depth]
        if (side, path) not in graph:
            graph.add_node((side, path), side=side, path=path, keys=0, matched=0, leaf=False)
        graph.nodes[side, path]["keys"] += len(p)
    graph.nodes[side, p.segments]["leaf"] = True


def _join_leaves(graph: nx.Graph, links: Sequence[Link]) -> None:
    for link in links:
        for side, members in zip(SIDES, (link.left, link.right), strict=True):
            for p in members:
                for depth in range(1, len(p.segments) + 1):
                    graph.nodes[side, p.segments[:depth]]["matched"] += len(p)
        for a, b in product(link.left, link.right):
            edge = {"certain": link.certain, "evidence": link.evidence, "operations": link.operations}
            graph.add_edge((SIDES[0], a.segments), (SIDES[1], b.segments), **edge)


def _join_levels(graph: nx.Graph, links: Sequence[Link]) -> None:
    """Edges between levels, and the kinds of all edges."""
    common, certain = _votes(links)
    partners: dict[Node, Path] = {}
    for a, b in _by_share(graph, common):
        here, there = (SIDES[0], a), (SIDES[1], b)
        if here not in partners and there not in partners and _is_nested(partners, a, b):
            partners[here], partners[there] = b, a
            graph.add_edge(here, there, certain=certain[a, b] == common[a, b], evidence=(f"{common[a, b]} keys",))
    for here, there, data in graph.edges(data=True):
        a, b = (node[1] for node in sorted((here, there)))
        data["kind"] = _kind(graph, partners, a, b)


def _votes(links: Iterable[Link]) -> tuple[Counter[tuple[Path, Path]], Counter[tuple[Path, Path]]]:
    """How many keys below each pair of levels correspond, and how many of these certainly."""
    common: Counter[tuple[Path, Path]] = Counter()
    certain: Counter[tuple[Path, Path]] = Counter()
    for link in links:
        for a, b in product(link.left, link.right):
            count = min(len(a), len(b))
            for depths in product(range(1, len(a.segments)), range(1, len(b.segments))):
                pair = a.segments[: depths[0]], b.segments[: depths[1]]
                common[pair] += count
                certain[pair] += count * link.certain
    return common, certain


def _by_share(graph: nx.Graph, common: Counter[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Pairs of levels, those that belong together most first; those of little in common only under one name."""
    ranked = []
    for (a, b), count in common.items():
        size = graph.nodes[SIDES[0], a]["matched"] + graph.nodes[SIDES[1], b]["matched"]
        share, alike = min(2 * count / size, 1.0), Indel.normalized_similarity(a[-1], b[-1])
        if share >= SHARE or a[-1] == b[-1]:
            ranked.append((-round(share, 6), -round(alike, 6), abs(len(a) - len(b)), len(a), a, b))
    return [(a, b) for *_, a, b in sorted(ranked)]


def _is_nested(partners: dict[Node, Path], a: Path, b: Path) -> bool:
    """Whether the partner of every level above either is above the other, or beside it: none is below."""
    for side, path, other in ((SIDES[0], a, b), (SIDES[1], b, a)):
        above = (partners.get((side, path[:depth])) for depth in range(1, len(path)))
        if any(p is not None and (p[: len(other)] == other) for p in above):
            return False
    return True


def _kind(graph: nx.Graph, partners: dict[Node, Path], a: Path, b: Path) -> str:
    fans = graph.degree[SIDES[0], a], graph.degree[SIDES[1], b]
    if max(fans) > 1:
        return "fused" if fans[1] > 1 else "split"
    over = _nearest(partners, SIDES[0], a), _nearest(partners, SIDES[1], b)
    if over[0] is not None and over[1] is not None and (over[0] != b[: len(over[0])] or over[1] != a[: len(over[1])]):
        return "moved"
    return "same" if a[-1] == b[-1] else "renamed"


def _nearest(partners: dict[Node, Path], side: str, path: Path) -> Path | None:
    """The partner of the nearest level above that has one."""
    above = (partners.get((side, path[:depth])) for depth in range(len(path) - 1, 0, -1))
    return next((p for p in above if p is not None), None)


def levels(graph: nx.Graph, kind: str) -> Iterator[Path]:
    """The paths of the levels of a kind, outermost first: `levels(graph, "inserted")`."""
    return iter(sorted((data["path"] for _, data in graph.nodes(data=True) if data["kind"] == kind), key=_depth))


def _depth(path: Path) -> tuple[int, Path]:
    return len(path), path
