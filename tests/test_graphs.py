"""The graphs: the folded trees with what is known of their levels, the data flow, and the correspondence."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest
from aligning import aligned, tree

from treealign import TreealignError, read_tree, suggest
from treealign.cli.graph_file import write_graph
from treealign.tree.keytree import KeyTree
from treealign.tree.tracing import Trace

DATA = Path(__file__).parent.parent / "data"
LINEAR, NORM = (8, 8), (8,)


def kinds(graph):
    """The nodes without a partner."""
    return {(side, ".".join(path)): kind for (side, path), kind in graph.nodes(data="kind") if kind}


def edges(graph):
    found = {}
    for ends in graph.edges:
        (_, a), (_, b) = sorted(ends)
        found[".".join(a), ".".join(b)] = graph.edges[ends]["kind"]
    return found


def test_children_stand_in_order_of_definition():
    side = tree({"b.weight": NORM, "a.weight": NORM, "a.bias": NORM}, ordered=True)
    assert list(side.graph.successors(())) == [("b",), ("a",)]


def test_a_level_knows_its_leaves_its_class_and_its_indices():
    side = tree({f"layers.{i}.norm.weight": NORM for i in range(3)}, modules={"layers.0.norm": "RMSNorm"})
    norm = side.graph.nodes["layers", "{}", "norm"]
    assert (norm["signature"], norm["class"], norm["keys"]) == (("weight",), "RMSNorm", 3)
    assert side.graph.nodes["layers", "{}"]["indices"] == {0, 1, 2}


def test_equal_subtrees_have_equal_digests_whatever_they_are_called():
    nodes = tree({"a.q.weight": LINEAR, "b.q.weight": LINEAR, "c.k.weight": LINEAR}).graph.nodes
    assert nodes["a",]["digest"] == nodes["b",]["digest"] != nodes["c",]["digest"]


def test_the_flow_of_a_trace_is_a_dag_in_order_of_use():
    trace = Trace(order=("a.weight", "b.weight"), feeds=(("", "a"), ("a", "b"), ("b", "a")), activated=("a",))
    flow = KeyTree.from_leaves([("a.weight", NORM, None), ("b.weight", NORM, None)], trace=trace).flow
    assert nx.is_directed_acyclic_graph(flow)
    assert list(nx.topological_sort(flow)) == ["", "a", "b"]


def test_a_tree_that_was_not_traced_has_no_flow():
    assert tree({"a.weight": NORM}).flow is None


def test_a_level_around_everything_was_inserted():
    keys = {"enc.q.weight": LINEAR, "enc.norm.weight": NORM}
    graph = aligned(keys, {f"model.{key}": shape for key, shape in keys.items()}).graph
    assert kinds(graph) == {("model", "model"): "inserted"}
    assert set(edges(graph).values()) == {"same"}


def test_a_level_that_is_gone_was_removed():
    keys = {"enc.q.weight": LINEAR, "enc.norm.weight": NORM}
    assert kinds(aligned({f"model.{key}": shape for key, shape in keys.items()}, keys).graph) == {
        ("checkpoint", "model"): "removed"
    }


def test_a_module_called_otherwise_is_renamed_and_what_it_holds_the_same():
    graph = aligned({"h.attn.q.weight": LINEAR}, {"h.attention.q.weight": LINEAR}).graph
    assert edges(graph)["h.attn", "h.attention"] == "renamed"
    assert edges(graph)["h.attn.q", "h.attention.q"] == "same"


def test_parts_of_a_fused_tensor_are_joined_by_edges_that_say_so():
    parts = {f"h.attn.{part}_proj.weight": LINEAR for part in "qkv"}
    assert set(edges(aligned({"h.attn.qkv.weight": (24, 8)}, parts).graph).values()) >= {"split"}
    assert set(edges(aligned(parts, {"h.attn.qkv.weight": (24, 8)}).graph).values()) >= {"fused"}


def test_what_stands_in_another_container_has_moved():
    left = {"enc.a.weight": LINEAR, "enc.norm_a.weight": NORM, "enc.top.weight": (3, 3), "dec.b.weight": (5, 5)}
    right = {"enc.a.weight": LINEAR, "enc.norm_a.weight": NORM, "dec.top.weight": (3, 3), "dec.b.weight": (5, 5)}
    assert edges(aligned(left, right).graph)["enc.top", "dec.top"] == "moved"


def test_leaves_without_a_place_are_unexpected_and_missing():
    graph = aligned({"a.weight": LINEAR, "x.weight": (3, 1)}, {"a.weight": LINEAR, "y.weight": (7, 2, 2)}).graph
    assert kinds(graph)["checkpoint", "x.weight"] == "unexpected"
    assert kinds(graph)["model", "y.weight"] == "missing"


@pytest.fixture(scope="module")
def llava():
    return suggest(*(read_tree(DATA / "llava-1.5-7b" / f"transformers-{version}.json") for version in ("4.52", "5.24")))


def test_the_level_that_clip_lost_is_read_off_the_graph(llava):
    removed = [path for (_, path), kind in llava.graph.nodes(data="kind") if kind == "removed"]
    assert removed == [("model", "vision_tower", "vision_model")]


def test_edges_go_from_one_side_to_the_other(llava):
    assert nx.is_bipartite(llava.graph)
    assert all({a[0], b[0]} == {"checkpoint", "model"} for a, b in llava.graph.edges)


@pytest.mark.parametrize("suffix", [".graphml", ".dot"])
def test_both_graphs_are_written_to_files(suffix, tmp_path):
    keys = {f"layers.{i}.q.weight": LINEAR for i in range(2)}
    found = aligned(keys, {f"model.{key}": shape for key, shape in keys.items()})
    for name, graph in (("tree", found.alignment.model.graph), ("found", found.graph)):
        write_graph(graph, tmp_path / f"{name}{suffix}")
        assert "model" in (tmp_path / f"{name}{suffix}").read_text()


def test_graphml_reads_back_with_the_same_nodes_and_edges(tmp_path):
    graph = aligned({"a.q.weight": LINEAR}, {"model.a.q.weight": LINEAR}).graph
    write_graph(graph, tmp_path / "found.graphml")
    back = nx.read_graphml(tmp_path / "found.graphml")
    assert (len(back), back.size()) == (len(graph), graph.size())
    assert back.nodes["model: model"]["kind"] == "inserted"


def test_a_graph_in_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(TreealignError, match="no such format"):
        write_graph(nx.Graph(), tmp_path / "graph.png")
