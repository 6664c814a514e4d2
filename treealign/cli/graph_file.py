"""Graphs as files that other programs draw: GraphML for yEd, Gephi and Cytoscape, DOT for Graphviz."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx as nx

from treealign.cli.console import plural, say
from treealign.errors import TreealignError
from treealign.formats.legible import printable
from treealign.tree.fold import ranges

SUFFIXES = (".graphml", ".dot", ".gv")
LEFT_OUT = ("fold", "path", "segment")  # objects, and what the node's own name says
ALONE = ("removed", "inserted", "missing", "unexpected")
COLOURS = {"renamed": "darkorange", "moved": "purple", "fused": "blue", "split": "blue"}
COLOURS |= dict.fromkeys(ALONE, "firebrick")


def write_graph(graph: nx.Graph, path: Path) -> None:
    """Write a graph of `KeyTree.graph` or `Suggestion.graph` in the format that the name of the file says.

    Raises
    ------
    TreealignError
        The name ends in none of the suffixes.
    """
    if path.suffix not in SUFFIXES:
        hint = "write --graph tree.graphml, or tree.dot"
        raise TreealignError("no such format of graphs", where=str(path), facts=[", ".join(SUFFIXES)], hint=hint)
    plain = _plain(graph)
    if path.suffix == ".graphml":
        nx.write_graphml(plain, path)
    else:
        path.write_text(_dot(plain), encoding="utf-8")


def put_graph(graph: nx.Graph, path: Path) -> None:
    """Write a graph and say so."""
    write_graph(graph, path)
    nodes, edges = graph.number_of_nodes(), graph.number_of_edges()
    say(f"wrote {printable(str(path))}: {plural(nodes, 'node')}, {plural(edges, 'edge')}")


def _plain(graph: nx.Graph) -> nx.Graph:
    """The graph with names for nodes and texts for attributes."""
    plain = graph.__class__()
    plain.add_nodes_from((_name(node), _texts(data)) for node, data in graph.nodes(data=True))
    plain.add_edges_from((_name(a), _name(b), _texts(data)) for a, b, data in graph.edges(data=True))
    return plain


def _name(node: Any) -> str:
    """``layers.{}.norm`` of a tree, ``model: layers.{}.norm`` of a correspondence."""
    if len(node) == 2 and isinstance(node[1], tuple):
        return f"{node[0]}: {'.'.join(node[1])}"
    return ".".join(node)


def _texts(data: Mapping[str, Any]) -> dict[str, str | int | bool]:
    return {key: _text(value) for key, value in data.items() if key not in LEFT_OUT}


def _text(value: Any) -> str | int | bool:
    if isinstance(value, str | int):
        return value
    if isinstance(value, set):
        return ranges(sorted(value))
    return "; ".join(str(list(one) if isinstance(one, tuple) else one) for one in value)


def _dot(graph: nx.Graph) -> str:
    """By hand: networkx writes DOT only through pydot or pygraphviz, and this is all that is needed of it."""
    kind, arrow = ("digraph", "->") if graph.is_directed() else ("graph", "--")
    lines = [f"{kind} {{", "  rankdir=LR; node [shape=box, fontname=monospace];"]
    lines += [f"  {_quoted(node)}{_coloured(data)};" for node, data in graph.nodes(data=True)]
    lines += [f"  {_quoted(a)} {arrow} {_quoted(b)}{_coloured(data)};" for a, b, data in graph.edges(data=True)]
    return "\n".join([*lines, "}", ""])


def _coloured(data: Mapping[str, Any]) -> str:
    kind = data.get("kind", "")
    style = "" if data.get("certain", True) else ", style=dashed"
    return f" [color={COLOURS[kind]}, tooltip={_quoted(kind)}{style}]" if kind in COLOURS else ""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
