"""Transforms: what they touch, their exact inverses, and what is refused."""

from __future__ import annotations

import copy
import pickle

import pytest
import slow_mapping
from hypothesis import given
from hypothesis import strategies as st
from strategies import conversions, mappings_and_keys, renames, transforms

from treealign import Convert, PrefixChange, Rename
from treealign.errors import PatternError
from treealign.mapping.operations import Concat, Permute, SizeTable, Split, Stack


@pytest.mark.parametrize(
    ("transform", "key", "expected"),
    [
        (PrefixChange(add="model"), "a.w", "model.a.w"),
        (PrefixChange(add="model"), "model.a", "model.model.a"),
        (PrefixChange(add="a.b", under="x"), "x.w", "x.a.b.w"),
        (PrefixChange(add="a", under="x"), "x", None),
        (PrefixChange(add="a", under="x"), "y.x.w", None),
        (PrefixChange(add="a", under="**.layers.{i}"), "m.layers.3.w", "m.layers.3.a.w"),
        (PrefixChange(remove="model"), "model.a.w", "a.w"),
        (PrefixChange(remove="model"), "model", None),
        (PrefixChange(remove="model"), "models.a", None),
        (PrefixChange(remove="a.b", under="x"), "x.a.b.w", "x.w"),
        (PrefixChange(remove="a.b", under="x"), "x.a.c.w", None),
        (PrefixChange(remove="0"), "0.w", "w"),
        (Rename("attn", "self_attn"), "attn.q", "self_attn.q"),
        (Rename("attn", "self_attn"), "m.attn.q", None),
        (Rename("**.attn", "**.self_attn"), "m.attn.attn", "m.self_attn.attn"),
        (Rename("encoder.layers", "layers"), "encoder.layers.0", "layers.0"),
        (Rename("encoder.layers", "layers"), "encoder.encoder.layers.0", None),
        (Rename("**.a.b", "**.c"), "x.a.b.y", "x.c.y"),
        (Rename("emb$", "emb.weight$"), "emb", "emb.weight"),
        (Rename("emb$", "emb.weight$"), "emb.weight", None),
        (Rename("h.{i}", "layers.{i}"), "h.11.w", "layers.11.w"),
        (Rename("h_{i}", "layers.{i}"), "h_11.w", "layers.11.w"),
        (Rename("h.{i}", "h.{i+1}"), "h.9.w", "h.10.w"),
        (Rename("h.{i}", "h.{i-1}"), "h.0.w", None),
        (Rename("h.{i+1}", "x.{i}"), "h.0.w", None),
        (Rename("h.{i:1..2}", "x.{i}"), "h.3", None),
        (Rename("h.{i}", "x.{i:1..2}"), "h.3", None),
        (Rename("a.{i}.b.{j}", "b.{j}.a.{i}"), "a.1.b.2.w", "b.2.a.1.w"),
        (Rename("{p:layers|norm}", "model.{p}"), "norm.w", "model.norm.w"),
        (Rename("{p:layers|norm}", "model.{p}"), "head.w", None),
        (Rename("b", "c", under="**.x"), "y.x.b", "y.x.c"),
        (Rename("b", "c", under="**.x"), "y.x.a.b", None),
        (Rename("**.b", "**.c", under="x"), "x.a.b", "x.a.c"),
        (Rename("**.b", "**.c", under="x"), "b.x.b", None),
        (Rename("b", "c", under="l.{u:0..1}"), "l.2.b", None),
        (Rename({"**.n0": "**.n1", "**.n1": "**.n2"}), "x.n0", "x.n1"),
        (Rename({"**.n0": "**.n1", "**.n1": "**.n2"}), "x.n1", "x.n2"),
        (Rename({"**.a": "**.b", "**.b": "**.a"}), "b.a", "a.a"),
        (Rename({"a": "a.b", "a.b": "a.c"}), "a.b.w", "a.c.w"),
    ],
)
def test_a_transform_touches_what_its_pattern_says(transform, key, expected):
    assert transform.map_key(key) == (None if expected is None else (expected,))


def test_a_layer_renaming_never_touches_a_layernorm():
    assert Rename("**.layer", "**.layers").map_key("encoder.layernorm.weight") is None


def test_the_match_is_replaced_and_not_the_first_equal_text():
    assert Rename("**.attn$", "**.x$").map_key("my_attn.attn.attn") == ("my_attn.attn.x",)


def test_the_inverse_of_a_renaming_that_drops_a_level_adds_it_once():
    assert Rename("encoder.layers", "layers").inverse.map_key("encoder.layers.0") is None


@given(transforms())
def test_the_inverse_of_the_inverse_is_the_transform(transform):
    assert transform.inverse.inverse == transform


@given(transforms())
def test_a_transform_survives_pickling_copying_and_its_own_repr(transform):
    names = {"Concat": Concat, "Split": Split, "Rename": Rename, "PrefixChange": PrefixChange, "Convert": Convert}
    assert pickle.loads(pickle.dumps(transform)) == transform
    assert copy.deepcopy(transform) == transform
    assert eval(repr(transform), names) == transform


@given(transforms())
def test_the_inverse_swaps_the_guard(transform):
    assert (transform.inverse.before, transform.inverse.after) == (transform.after, transform.before)


@given(mappings_and_keys())
def test_one_key_is_rewritten_as_the_textbook_does_it(drawn):
    for transform in drawn[0]:
        for key in drawn[1]:
            expected = slow_mapping.rewrite(transform, key)
            assert transform.map_key(key) == (expected and tuple(expected[0]))


@given(renames().filter(lambda r: not (r.source.startswith("**.") or r.under.startswith("**."))), st.data())
def test_an_anchored_renaming_is_undone_by_its_inverse(rename, data):
    from strategies import instances, patterns_of

    if len(rename.pairs) > 1:
        return
    key = data.draw(instances(patterns_of(rename)[0]))
    renamed = rename.map_key(key)
    if renamed:
        assert rename.inverse.map_key(*renamed) == (key,)


@given(conversions(), st.data())
def test_each_target_of_a_group_leads_back_to_its_sources(convert, data):
    from strategies import instances, patterns_of

    key = data.draw(st.sampled_from(patterns_of(convert)).flatmap(instances))
    group = convert.group(key)
    if group and not any(text.startswith("**.") for text in (*convert.sources, convert.under)):
        assert all(convert.inverse.group(target).targets == group.sources for target in group.targets)


# -- Convert -----------------------------------------------------------------------------------------------------------


def experts(count=2):
    sources = [f"**.experts.{{j:0..{count - 1}}}.{name}" for name in ("w1", "w3")]
    return Convert(sources, "**.experts.gate_up", [Stack(0, count), Concat(1, (4, 4))])


def test_a_group_lists_its_keys_pattern_by_pattern_and_capture_by_capture():
    assert experts().group("l.0.experts.1.w3.weight").sources == (
        "l.0.experts.0.w1.weight",
        "l.0.experts.1.w1.weight",
        "l.0.experts.0.w3.weight",
        "l.0.experts.1.w3.weight",
    )


def test_the_last_of_two_stacked_captures_runs_fastest():
    convert = Convert("h.{i:0..1}.{j:0..1}.w", "h.w", [Stack(0, 2), Stack(0, 2)])
    assert convert.group("h.0.0.w").sources == ("h.0.0.w", "h.0.1.w", "h.1.0.w", "h.1.1.w")


def test_a_key_outside_the_range_belongs_to_no_group():
    assert experts().map_key("l.0.experts.2.w1.weight") is None


def test_groups_are_told_apart_by_what_both_sides_capture_and_by_what_surrounds_the_match():
    convert = Convert(["h.{i}.q", "h.{i}.k"], "h.{i}.qk", [Concat(0, (1, 1))])
    assert convert.map_key("h.3.k.bias") == ("h.3.qk.bias",)
    assert convert.group("h.3.k.bias").captures == {"i": "3"}


def test_a_choice_on_one_side_is_stacked_over_in_the_order_it_is_written():
    convert = Convert("attn.{p:q|k|v}", "attn.qkv", [Concat(0, (8, 2, 2))])
    assert convert.inverse.map_key("attn.qkv.weight") == ("attn.q.weight", "attn.k.weight", "attn.v.weight")


def test_many_to_many_gives_each_source_all_targets():
    convert = Convert(["a", "b"], ["c", "d"], [Concat(0, (2, 2)), Split(0, (1, 3))])
    assert convert.map_key("b.w") == ("c.w", "d.w")


def test_the_number_of_experts_may_differ_by_layer():
    sizes = SizeTable.by("i", {0: 4, 1: 64})
    convert = Convert("l.{i}.e.{j:0..63}.w", "l.{i}.e.w", [Stack(0, sizes)], counts={"j": sizes})
    assert convert.map_key("l.0.e.4.w") is None
    assert convert.map_key("l.1.e.4.w") == ("l.1.e.w",)
    assert [len(convert.inverse.map_key(f"l.{i}.e.w")) for i in (0, 1)] == [4, 64]


def test_the_longest_of_two_sources_at_one_position_takes_the_key():
    convert = Convert(["a", "a.b"], ["x"], [Concat(0, (1, 1))])
    assert convert.map_key("a.b.w") == ("x.w",)


# -- what is refused ---------------------------------------------------------------------------------------------------

ONE = [Permute((1, 0))]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (PrefixChange, "either `add` or `remove`"),
        (lambda: PrefixChange(add="a", remove="b"), "either `add` or `remove`"),
        (lambda: PrefixChange(add=""), "is no literal"),
        (lambda: PrefixChange(add="a..b"), "is no literal"),
        (lambda: PrefixChange(add="{i}"), "is no literal"),
        (lambda: PrefixChange(remove="**.a"), "is no literal"),
        (lambda: PrefixChange(add=3), "text"),
        (lambda: PrefixChange(add="a", under="x$"), "cannot end with `$`"),
        (lambda: PrefixChange(add="a", under="{i+1}"), "a shift of {i} in it means nothing"),
        (lambda: PrefixChange(add="a", under="a..b"), "empty segment"),
        (lambda: PrefixChange(add="a", before="a..b"), "empty segment"),
        (lambda: Rename("a", "a"), "nothing changes"),
        (lambda: Rename("a", ""), "empty segment"),
        (lambda: Rename("**.a", "b"), "`**.` stands on one side only"),
        (lambda: Rename("a$", "b"), "`$` stands on one side only"),
        (lambda: Rename("a.{i}", "b"), "{i} stands on one side only"),
        (lambda: Rename("a.{i}", "b.{j}"), "{j} stands on one side only"),
        (lambda: Rename("a.{i:0..1}", "b.{i:0..2}"), "two different ranges"),
        (lambda: Rename("a.{p:x|y}", "b.{p:x|z}"), "two different ranges or choices"),
        (lambda: Rename("a.{p:x|y}", "b.{p+1}"), "a choice of literals on one side and shifted"),
        (lambda: Rename("a.{i}", "b.{i}", under="l.{i}"), "{i} stands in `under` too"),
        (lambda: Rename({}), "no pair"),
        (lambda: Rename({"a": "b", "c": "d"}), "one swap or chain"),
        (lambda: Rename({"a": "b", "b": "a", "c": "d", "d": "c"}), "one swap or chain"),
        (lambda: Rename({"a": "c", "b": "c"}), "same target"),
        (lambda: Rename({"**.a": "**.b", "b": "c"}), "some pairs have `**.` or `$`"),
        (lambda: Rename("a"), "two sides"),
        (lambda: Rename({"a": "b"}, "c"), "two sides"),
        (lambda: Rename(None, "c"), "text"),
        (lambda: Convert([], "a", ONE), "a source, a target and an operation"),
        (lambda: Convert("a", "b", []), "a source, a target and an operation"),
        (lambda: Convert("a.{j}", "b", [Stack(0, 2)]), "{j} stands on one side only and has no range"),
        (lambda: Convert(["a.{i}", "c"], "b.{i}", [Concat(0, (1, 1))]), "but not in `c`"),
        (lambda: Convert(["**.a", "b"], "**.c", [Concat(0, (1, 1))]), "some have not"),
        (lambda: Convert(["a", "a"], "c", [Concat(0, (1, 1))]), "`a` stands on one side twice"),
        (lambda: Convert(["a", "b"], "c", [Concat(0, (1, 1, 1))]), "takes 3 tensors"),
        (lambda: Convert("a", ["b", "c"], [Split(0, (1, 1, 1))]), "make 3 tensors of 1, for 2 targets"),
        (lambda: Convert("a", "b", ONE, counts={"j": SizeTable.by("i", {0: 1})}), "`counts` holds {j}"),
        (lambda: Convert("a", "b", ["permute"]), "is no operation"),
    ],
)
def test_what_makes_no_transform_is_refused_with_the_reason(make, reason):
    with pytest.raises(PatternError) as raised:
        make()
    assert reason in str(raised.value)


def test_a_refusal_lists_everything_that_is_wrong():
    with pytest.raises(PatternError) as raised:
        Rename("**.a.{i}$", "b.{j}", under="x$")
    assert len(raised.value.facts) == 5
