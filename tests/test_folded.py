"""The folded tree as it is shown: every key is counted once, and what is said about repeats is exact."""

from __future__ import annotations

from hypothesis import given
from strategies import key_lists

from treealign import KeyTree
from treealign.cli.folded import rows
from treealign.cli.listing import key_lines


def shown(*leaves):
    return [(row.depth, row.name, row.leaves) for row in rows(KeyTree.from_leaves(leaves), "float32")]


@given(key_lists())
def test_the_top_rows_count_every_key_once(listed):
    keys = list(dict.fromkeys(listed))
    table = rows(KeyTree.from_leaves([(key, (2,), "float32") for key in keys]), "float32")
    assert sum(row.keys for row in table if row.depth == 0) == len(keys)


@given(key_lists())
def test_every_parameter_is_counted_once(listed):
    keys = list(dict.fromkeys(listed))
    table = rows(KeyTree.from_leaves([(key, (3, 2), "float32") for key in keys]), "float32")
    assert sum(row.parameters for row in table if row.depth == 0) == 6 * len(keys)


def test_items_of_a_sequential_that_differ_stand_apart():
    leaves = [("net.0.weight", (4, 3), "float32"), ("net.0.bias", (4,), "float32"), ("net.1.gain", (4,), "float32")]
    assert shown(*leaves)[1:] == [(1, "0", ("bias [4]", "weight [4, 3]")), (1, "1", ("gain [4]",))]


def test_a_number_among_the_leaves_of_a_sequential_is_no_item():
    leaves = [("net.0.weight", (4,), "float32"), ("net.1.0", (3,), "float32"), ("net.{}.weight", (2,), "float32")]
    assert sum(row.keys for row in rows(KeyTree.from_leaves(leaves), "float32") if row.depth == 0) == 3


def test_the_same_layer_at_several_sizes_is_still_a_repeat():
    leaves = [(f"stages.{i}.weight", (2 + i, 3), "float32") for i in range(2)]
    assert shown(*leaves) == [(0, "stages.{0..1}", ("weight [2, 3] in 0", "[3, 3] in 1"))]


def test_uneven_repeats_are_named_as_products_of_ranges():
    leaves = [(f"up.{i}.{j}.w", (2 if i + j else 1,), "float32") for i in range(2) for j in range(3)]
    assert shown(*leaves) == [(0, "up.{0..1}.{0..2}", ("w [1] in 0.0", "[2] in 0.{1..2} and 1.{0..2}"))]


def test_a_module_of_which_every_key_is_listed_stands_for_its_keys():
    tree = KeyTree.from_leaves([(key, (1,), None) for key in ("text.a.w", "text.a.b", "text.c", "image.w", "image.b")])
    listed = ["text.a.w", "text.a.b", "text.c", "image.w"]
    assert [line.split() for line in key_lines(tree, listed)] == [["text.*", "3", "keys"], ["image.w", "1", "key"]]


@given(key_lists())
def test_a_whole_tree_is_listed_without_loss(listed):
    keys = list(dict.fromkeys(listed))
    tree = KeyTree.from_leaves([(key, (1,), None) for key in keys])
    counts = [line.split()[-2] for line in key_lines(tree, tree.keys, limit=1000) if line.endswith((" key", " keys"))]
    assert sum(map(int, counts)) == len(keys)
