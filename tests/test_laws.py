"""Each law of a conversion mapping has a finding that names the keys and the transform where it does not hold."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from treealign import ConversionMapping, Convert, KeyTree, PrefixChange, Rename, operations
from treealign.mapping.laws import check_laws, faults


class Match(NamedTuple):
    checkpoint: tuple[str, ...]
    model: tuple[str, ...]
    certain: bool = True


def tree(*keys, shape=(2, 2), dtype="float32", tied=None):
    leaves = [(key, shape, dtype) if isinstance(key, str) else key for key in keys]
    return KeyTree.from_leaves(leaves, tied=tied)


def check(rules, checkpoint, model, **options):
    return check_laws(ConversionMapping(rules), checkpoint, model, **options)


def only(findings, law):
    """The one finding there is."""
    assert [finding.law for finding in findings] == [law]
    return findings[0]


LAYERS = [f"layers.{i}.{name}" for i in range(3) for name in ("attn.w", "norm.w")]
ADD = PrefixChange(add="model", before="layers", after="model")


def test_a_good_mapping_has_no_findings():
    assert check([ADD], tree(*LAYERS), tree(*(f"model.{k}" for k in LAYERS))) == ()


def test_keys_that_nothing_fills_are_missing():
    found = only(check([], tree(*LAYERS[1:]), tree(*LAYERS)), "complete")
    assert (found.keys, found.transform) == ((LAYERS[0],), None)


def test_keys_without_a_place_are_unexpected_and_their_transform_is_named():
    rename = Rename("old", "new")
    found = only(check([rename], tree(*LAYERS, "old.w"), tree(*LAYERS)), "complete")
    assert (found.keys, found.transform) == (("old.w",), rename)


def test_keys_that_are_known_to_be_left_over_are_no_findings():
    assert check([], tree("a", "x"), tree("a", "y"), listed={"x", "y"}) == ()


def test_what_is_left_over_need_not_come_back():
    remove = PrefixChange(remove="vision")
    checkpoint, model = tree("vision.a", "vision.b", "text.a"), tree("a", "b")
    assert check([remove], checkpoint, model, listed={"text.a"}) == ()


def test_a_tied_weight_is_filled_under_either_name():
    model = tree("embed", "head", tied={"head": "embed"})
    assert check([], tree("embed"), model) == check([], tree("head"), model) == ()


def test_keys_that_meet_are_named_with_their_transform():
    rename = Rename("old", "new")
    found = only(check([rename], tree("old.w", "new.w"), tree("new.w")), "injective")
    assert (set(found.keys), found.transform) == ({"old.w", "new.w"}, rename)


def test_shapes_that_differ_are_named():
    found = only(check([], tree(("a", (2, 3), "float32")), tree(("a", (3, 2), "float32"))), "exact")
    assert found.keys == ("a",)
    assert "(3, 2) in the model, and would be given (2, 3)" in found.text


def test_parts_that_do_not_fit_an_operation_are_named():
    convert = Convert(["q", "k"], "qk", [operations.Concat(0, (2, 2))], before="q", after="qk")
    found = only(check([convert], tree(("q", (2, 2), None), ("k", (3, 2), None)), tree(("qk", (5, 2), None))), "exact")
    assert (found.keys, found.transform) == (("q", "k"), convert)


def test_a_conversion_without_all_its_keys_is_named():
    convert = Convert(["q", "k"], "qk", [operations.Concat(0, (2, 2))], before="q", after="qk")
    found = check([convert], tree("q"), tree(("qk", (4, 2), "float32")))
    assert [(f.law, f.keys) for f in found] == [("complete", ("q",)), ("complete", ("qk",))]


def test_dtypes_that_differ_are_reported_and_no_fault():
    found = check([], tree("a", dtype="bfloat16"), tree("a"))
    assert (only(found, "exact").text, faults(found)) == ("bfloat16 in the checkpoint, float32 in the model", ())


def test_unknown_shapes_are_no_findings():
    assert check([], tree(("a", None, None)), tree("a")) == ()


def test_a_level_that_not_every_key_had_is_not_reversible():
    remove = PrefixChange(remove="model")
    found = only(check([remove], tree("model.a", "b"), tree("a", "b")), "reversible")
    assert (found.keys, found.transform) == (("b",), None)
    assert "b would go back as model.b" in found.text


def test_an_operation_that_loses_something_is_not_reversible():
    fold = Convert(["g", "v"], "w", [operations.FoldWeightNorm(0)], before="g", after="w")
    checkpoint = tree(("g", (2, 1), None), ("v", (2, 3), None))
    assert "lose" in only(check([fold], checkpoint, tree(("w", (2, 3), None))), "reversible").text


def test_a_mapping_that_moves_the_names_of_the_model_is_not_idempotent():
    add = PrefixChange(add="model")
    found = only(check([add], tree("a", "b"), tree("model.a", "model.b")), "idempotent")
    assert (found.keys, found.transform) == (("model.a", "model.b"), add)


def test_a_swap_is_exempt_from_idempotence():
    assert check([Rename({"a": "b", "b": "a"})], tree("a.w", "b.w"), tree("a.w", "b.w")) == ()


def test_a_dead_transform_is_named():
    dead = Rename("nothing", "something")
    found = only(check([dead], tree(*LAYERS), tree(*LAYERS)), "minimal")
    assert (found.transform, found.keys) == (dead, ())
    assert "dead" in found.text


def test_a_shadowed_transform_is_named_with_the_keys_it_does_not_get():
    first, second = Rename("old", "new"), Rename("old.norm", "other.norm")
    found = only(check([first, second], tree("old.norm"), tree("new.norm")), "minimal")
    assert (found.transform, found.keys) == (second, ("old.norm",))
    assert "shadowed" in found.text


def test_a_transform_that_others_make_good_is_named():
    detour, back, needed = Rename("a", "b"), Rename("b", "a"), Rename("c", "d")
    found = check([detour, back, needed], tree("a.w", "c.w"), tree("a.w", "d.w"))
    assert [(f.transform, f.keys) for f in found if f.law == "minimal"] == [(detour, ("a.w",))]


@pytest.mark.parametrize("extra", [0, 5])
def test_a_transform_that_one_key_needs_is_kept(extra):
    keys = [f"old.{i}.w" for i in range(extra)] + ["old.norm"]
    renamed = [key.replace("old", "new") for key in keys]
    assert check([Rename("old", "new")], tree(*keys), tree(*renamed)) == ()


def test_a_pattern_that_fits_twice_is_reported_and_no_fault():
    found = check([Rename("**.a", "**.b")], tree("a.a.w"), tree("b.a.w"))
    assert "two positions" in next(f for f in found if f.law == "unambiguous").text


def test_matches_that_the_mapping_does_not_realise_are_named():
    found = check([], tree("a", "b"), tree("a", "b"), matches=[Match(("a",), ("b",)), Match(("b",), ("b",))])
    assert only(found, "complete").keys == ("a",)


def test_matches_that_are_not_certain_are_reported_and_no_fault():
    found = check([], tree("a"), tree("a"), matches=[Match(("a",), ("a",), certain=False)])
    assert (only(found, "unambiguous").keys, faults(found)) == (("a",), ())


def test_guards_that_cannot_tell_are_a_finding():
    add = PrefixChange(add="model", before="nowhere", after="elsewhere")
    assert only(check([add], tree("a"), tree("model.a")), "idempotent").transform == add


def test_a_finding_reads_as_one_sentence_with_its_keys_folded():
    remove = PrefixChange(remove="model")
    found = check([remove], tree(*(f"model.{k}" for k in LAYERS)), tree())
    assert str(found[0]) == (
        "complete: keys of the checkpoint are unexpected: the model has no layers.0.attn.w"
        " (PrefixChange(remove='model'))\n  model.layers.{0..2}.attn.w\n  model.layers.{0..2}.norm.w"
    )
