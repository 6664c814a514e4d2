"""Folding for alignment, and unfolding where the two sides disagree."""

from __future__ import annotations

from aligning import tree

from treealign.align.matching.refinement import refine
from treealign.align.patterns import build_patterns


def templates(patterns):
    return sorted(p.template for p in patterns)


def folded(shapes):
    return build_patterns(tree(shapes))


def test_repeats_fold_with_the_shape_of_each_cell():
    (pattern,) = folded({"stages.0.w": (4,), "stages.1.w": (8,)})
    assert pattern.shapes == {("0",): (4,), ("1",): (8,)}


def test_an_index_with_one_value_is_a_name():
    assert templates(folded({"neck.0.w": (4,), "head.w": (4,)})) == ["head.w", "neck.0.w"]


def test_numbers_inside_container_names_fold():
    keys = {f"layers_{i}.norm.weight": (4,) for i in range(3)}
    assert templates(folded(keys)) == ["layers_{}.norm.weight"]


def test_numbers_of_modules_that_hold_parameters_tell_siblings_apart():
    keys = {f"mlp.w{i}.weight": (4,) for i in (1, 2, 3)}
    assert len(folded(keys)) == 3


def test_containers_numbered_with_a_gap_in_one_leaf_fold_all_the_same():
    keys = {f"layers_{i}.norm.weight": (4,) for i in range(4)} | {"layers_1.gate.weight": (2,)}
    assert "layers_1.gate.weight" in templates(folded(keys))
    assert "layers_{}.norm.weight" in templates(folded(keys))


def test_a_sequential_unfolds_against_named_children():
    left = folded({"proj.0.weight": (8, 4), "proj.2.weight": (4, 8)})
    right = folded({"proj.linear_1.weight": (8, 4), "proj.linear_2.weight": (4, 8)})
    assert templates(refine(left, right)[0]) == ["proj.0.weight", "proj.2.weight"]


def test_a_bias_unfolds_with_the_weight_of_its_module():
    left = folded(
        {"p.0.weight": (8, 4), "p.2.weight": (4, 8), "p.0.bias": (4,), "p.2.bias": (4,), "q.0.b": (4,), "q.1.b": (4,)}
    )
    right = folded(
        {"a.weight": (8, 4), "b.weight": (4, 8), "a.bias": (4,), "b.bias": (4,), "q.0.b": (4,), "q.1.b": (4,)}
    )
    assert "p.0.bias" in templates(refine(left, right)[0])


def test_extra_layers_are_split_off_and_the_rest_stays_folded():
    left = folded({f"layers.{i}.w": (4,) for i in range(5)})
    right = folded({f"layers.{i}.w": (4,) for i in range(4)})
    sizes = sorted((p.template, len(p)) for p in refine(left, right)[0])
    assert sizes == [("layers.4.w", 1), ("layers.{}.w", 4)]


def test_what_has_a_whole_partner_is_not_split_for_shorter_repeats_of_its_shape():
    left = folded({f"head.{i}.w": (4,) for i in range(4)} | {f"layers.{i}.qk": (8,) for i in range(2)})
    parts = {f"layers.{i}.{name}": (4,) for i in range(2) for name in "qk"}
    right = folded({f"neck.{i}.x.w": (4,) for i in range(4)} | parts)
    assert templates(refine(left, right)[0]) == ["head.{}.w", "layers.{}.qk"]


def test_experts_of_extra_layers_are_split_off_from_those_that_are_stacked():
    left = folded({f"layers.{i}.experts.{j}.w": (4, 2) for i in range(3) for j in range(4)})
    right = folded({f"layers.{i}.experts.w": (4, 4, 2) for i in range(2)})
    assert sorted(len(p) for p in refine(left, right)[0]) == [4, 8]
