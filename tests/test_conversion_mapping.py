"""Conversion mappings: fast on folded keys, equal to the textbook, reversible, idempotent under guards."""

from __future__ import annotations

import random

import pytest
import slow_mapping
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import mappings_and_keys

from treealign import ConversionMapping, Convert, KeyTree, PrefixChange, Rename
from treealign.errors import MappingError, PatternError
from treealign.mapping.guards import GuardDecision, Verdict
from treealign.mapping.operations import Concat, Permute, Select, SizeTable, Split, Stack


def mapped(mapping, keys, **options):
    """{key: target} of a mapping that gives one name for each key."""
    return {key: target for key, (target,) in mapping.map_keys(keys, **options).items()}


def textbook(transforms, keys, converted=None):
    try:
        return slow_mapping.trace(transforms, keys, converted)
    except (slow_mapping.Unknown, slow_mapping.Meeting) as error:
        return type(error).__name__


def folded(mapping, keys, converted=None):
    try:
        return {key: tuple(found) for key, found in mapping.trace(keys, converted).items()}
    except MappingError as error:
        return "Meeting" if error.what == "two keys reach one name" else "Unknown"


# -- against the textbook ----------------------------------------------------------------------------------------------

ADD_TO_DIGITS = ([Rename("h_{i}", "h.{i}"), Rename("h.0", "x")], ["h_0.w", "h_1.w", "h.2.w"])
MIXED = Rename({"**.a": "**.b", "**.b": "**.c"}, before="**.a", after="**.c")


@given(mappings_and_keys(), st.sampled_from([None, None, True, False]))
@example(ADD_TO_DIGITS, None)
@example(([MIXED], ["0.a", "0.b", "1.b", "1.c"]), None)
@example(([PrefixChange(remove="a")], ["a.{}", "a.0", "a.{0}.b"]), None)
def test_folded_transforms_do_what_the_textbook_does(drawn, converted):
    chosen, keys = drawn
    assert folded(ConversionMapping(chosen), keys, converted) == textbook(chosen, keys, converted)


@given(mappings_and_keys())
def test_the_three_ways_to_give_keys_agree(drawn):
    mapping, keys = ConversionMapping(drawn[0]), list(dict.fromkeys(drawn[1]))
    tree = KeyTree.from_leaves([(key, None, None) for key in keys])
    shuffled = random.Random(0).sample(keys, len(keys))
    assert folded(mapping, keys) == folded(mapping, shuffled) == folded(mapping, tree)


@given(mappings_and_keys())
def test_what_touches_nothing_can_be_left_out(drawn):
    mapping, keys = ConversionMapping(drawn[0]), drawn[1]
    decision = mapping.decide(keys)
    try:
        used = mapping.used(keys, decision)
    except MappingError:
        return
    touched = {at for found in mapping.trace(keys, decision).values() for at in found.transforms}
    assert used.transforms == tuple(transform for at, transform in enumerate(mapping) if at in touched)
    assert used.map_keys(keys) == mapping.map_keys(keys)


@given(mappings_and_keys(), st.integers(1, 3))
def test_shards_follow_the_decision_made_for_the_whole(drawn, count):
    mapping, keys = ConversionMapping(drawn[0]), list(dict.fromkeys(drawn[1]))
    decision = mapping.decide(keys)
    try:
        whole = mapping.map_keys(keys)
    except MappingError:
        return
    shards = [mapping.map_keys(keys[at::count], decision) for at in range(count)]
    assert {key: targets for shard in shards for key, targets in shard.items()} == whole


@given(mappings_and_keys())
def test_a_plan_does_what_the_names_say(drawn):
    mapping, keys = ConversionMapping(drawn[0]), list(dict.fromkeys(drawn[1]))
    try:
        names = mapping.map_keys(keys)
    except MappingError:
        return
    steps = mapping.plan(keys)
    assert sorted(key for step in steps for key in step.sources) == sorted(keys)
    assert {key: step.targets for step in steps for key in step.sources} == names


@given(mappings_and_keys(), st.data())
def test_the_models_names_keep_what_is_theirs(drawn, data):
    mapping, keys = ConversionMapping(drawn[0]), list(dict.fromkeys(drawn[1]))
    try:
        plain = mapping.trace(keys, converted=False)
        known = set(data.draw(st.lists(st.sampled_from([*keys, *(t for f in plain.values() for t in f.targets), ""]))))
        found = mapping.trace(keys, converted=False, model_keys=known)
    except MappingError:
        return
    stays = {key for key in keys if key in known and known.isdisjoint(plain[key].targets)}
    assert found == {key: ((key,), ()) if key in stays else trace for key, trace in plain.items()}


# -- the list of transforms --------------------------------------------------------------------------------------------


def test_the_length_counts_pairs_and_iteration_gives_transforms():
    mapping = ConversionMapping([PrefixChange(add="m"), Rename({"a": "b", "b": "a"})])
    assert (len(mapping), len(list(mapping)), bool(mapping)) == (3, 2, True)


def test_an_empty_mapping_changes_nothing():
    assert not ConversionMapping()
    assert ConversionMapping().map_keys(["a.b", ""]) == {"a.b": ("a.b",), "": ("",)}


def test_mappings_are_equal_by_content():
    assert ConversionMapping([Rename("a", "b")]) == ConversionMapping((Rename("a", "b"),))
    assert ConversionMapping([Rename("a", "b")]) != ConversionMapping([Rename("b", "a")])


def test_only_transforms_make_a_mapping():
    with pytest.raises(PatternError, match="consists of transforms"):
        ConversionMapping([("a", "b")])


def test_one_string_is_no_list_of_keys():
    with pytest.raises(MappingError, match="several strings"):
        ConversionMapping().map_keys("a.b")


def test_transforms_work_each_on_the_result_of_the_one_before():
    mapping = ConversionMapping([Rename("a", "b"), Rename("b", "c"), PrefixChange(add="m")])
    assert mapped(mapping, ["a.w"]) == {"a.w": "m.c.w"}


def test_the_result_stands_in_the_order_of_the_keys():
    keys = ["b.1", "a", "b.0", "c.1.d", "b.2"]
    assert list(ConversionMapping([Rename("b", "x")]).map_keys(keys)) == keys


def test_the_trace_names_the_transforms_that_touched_a_key():
    mapping = ConversionMapping([PrefixChange(remove="m"), Rename("a", "b")])
    assert mapping.trace(["m.a", "m.c", "d"]) == {"m.a": (("b",), (0, 1)), "m.c": (("c",), (0,)), "d": (("d",), ())}


def test_two_hundred_renamings_at_once_touch_each_its_own():
    mapping = ConversionMapping(Rename(f"**.block{n}", f"**.layers.{n}") for n in range(200))
    assert mapped(mapping, [f"m.block{n}.w" for n in range(200)]) == {
        f"m.block{n}.w": f"m.layers.{n}.w" for n in range(200)
    }


def test_several_positions_are_found():
    mapping = ConversionMapping([Rename("a", "b"), Rename("**.b", "**.c")])
    assert mapping.several_positions(["a.b.w", "a.w", "x.b"]) == {1: ["a.b.w"]}


# -- injective ---------------------------------------------------------------------------------------------------------


def test_two_keys_that_reach_one_name_are_both_named_with_their_transforms():
    with pytest.raises(MappingError) as raised:
        ConversionMapping([Rename("old", "model")]).map_keys(["model.a", "old.a", "x.b"])
    assert raised.value.facts == (
        "model.a and old.a reach model.a",
        "  model.a: untouched",
        "  old.a: Rename('old', 'model')",
    )


def test_keys_meet_across_different_templates():
    mapping = ConversionMapping([Rename("layer_{i}", "layers.{i}")])
    with pytest.raises(MappingError, match=r"layer_1\.w and layers\.1\.w reach layers\.1\.w"):
        mapping.map_keys(["layer_0.w", "layer_1.w", "layers.1.w", "layers.2.w"])


def test_keys_meet_at_one_source_of_a_conversion():
    mapping = ConversionMapping([Rename("old", "new"), Convert(["new.q", "new.k"], "qk", [Concat(0, (1, 1))])])
    with pytest.raises(MappingError, match=r"new\.q and old\.q reach new\.q"):
        mapping.map_keys(["new.q", "old.q", "new.k"])


def test_a_key_may_not_reach_what_a_conversion_makes():
    mapping = ConversionMapping([Convert(["q", "k"], "qk", [Concat(0, (1, 1))])])
    with pytest.raises(MappingError, match="reach qk"):
        mapping.map_keys(["q", "k", "qk"])


def test_groups_of_one_conversion_may_not_meet_either():
    mapping = ConversionMapping([Convert(["**.q", "**.k"], "**.qk", [Concat(0, (1, 1))]), Rename("y", "x")])
    with pytest.raises(MappingError, match=r"reach x\.qk"):
        mapping.map_keys(["x.q", "x.k", "y.q", "y.k"])


def test_a_key_given_twice_meets_nobody():
    assert ConversionMapping([Rename("a", "b")]).map_keys(["a", "a"]) == {"a": ("b",)}


def test_of_many_meetings_twenty_are_shown():
    with pytest.raises(MappingError) as raised:
        ConversionMapping([Rename("a", "b")]).map_keys(f"{side}.{n}" for side in "ab" for n in range(50))
    assert raised.value.facts[-1] == "… and 30 more"


# -- guards ------------------------------------------------------------------------------------------------------------

CHAIN = Rename(
    {"**.norm0": "**.norm1", "**.norm1": "**.norm2"}, before="**.layers.{i}.norm0", after="**.layers.{i}.norm2"
)


def layer(i, *norms):
    return [f"layers.{i}.norm{n}.weight" for n in norms]


def test_a_chain_is_done_where_only_the_old_names_are():
    mapping = ConversionMapping([CHAIN])
    assert [*mapped(mapping, layer(0, 0, 1)).values()] == layer(0, 1, 2)


def test_a_chain_is_skipped_where_only_the_new_names_are():
    mapping = ConversionMapping([CHAIN])
    assert [*mapped(mapping, layer(0, 1, 2)).values()] == layer(0, 1, 2)


def test_a_half_converted_checkpoint_is_converted_where_it_needs_it():
    mapping = ConversionMapping([CHAIN])
    keys = [*layer(0, 0, 1), *layer(1, 1, 2)]
    assert [*mapped(mapping, keys).values()] == [*layer(0, 1, 2), *layer(1, 1, 2)]


def test_a_half_converted_pair_of_towers_is_told_apart_by_its_modules():
    mapping = ConversionMapping([CHAIN])
    keys = [f"text.{key}" for key in layer(0, 0, 1)] + [f"vision.{key}" for key in layer(0, 1, 2)]
    assert [*mapped(mapping, keys).values()] == [f"text.{key}" for key in layer(0, 1, 2)] + keys[2:]


def test_keys_that_hold_neither_side_of_a_guard_are_an_error_that_says_so():
    with pytest.raises(MappingError, match="converted already") as raised:
        ConversionMapping([CHAIN]).map_keys(layer(0, 1))
    assert "  touches layers.0.norm1.weight" in raised.value.facts


def test_a_group_with_both_sides_is_an_error():
    with pytest.raises(MappingError, match="converted already"):
        ConversionMapping([CHAIN]).map_keys(layer(0, 0, 1, 2))


def test_keys_that_a_guarded_transform_does_not_touch_need_no_evidence():
    assert mapped(ConversionMapping([CHAIN]), ["head.w"]) == {"head.w": "head.w"}


@pytest.mark.parametrize(("converted", "expected"), [(False, layer(0, 2)), (True, layer(0, 1))])
def test_converted_overrides_the_guard(converted, expected):
    assert [*mapped(ConversionMapping([CHAIN]), layer(0, 1), converted=converted).values()] == expected


def test_the_reverse_reads_the_guard_the_other_way_round():
    mapping = ConversionMapping([CHAIN])
    assert [*mapped(mapping.reverse, layer(0, 1, 2)).values()] == layer(0, 0, 1)
    assert [*mapped(mapping.reverse, layer(0, 0, 1)).values()] == layer(0, 0, 1)


def test_a_guard_of_one_side_decides_by_its_absence_too():
    before = ConversionMapping([PrefixChange(add="model", before="layers")])
    after = ConversionMapping([PrefixChange(add="model", after="model.layers")])
    for mapping in (before, after):
        assert mapped(mapping, ["layers.w", "head"]) == {"layers.w": "model.layers.w", "head": "model.head"}
        assert mapped(mapping, ["model.layers.w", "model.head"]) == {
            "model.layers.w": "model.layers.w",
            "model.head": "model.head",
        }


def test_a_decision_is_data_that_fits_its_mapping_only():
    mapping = ConversionMapping([CHAIN, PrefixChange(add="m")])
    assert mapping.decide(layer(0, 0)) == GuardDecision((Verdict.APPLY, Verdict.APPLY))
    with pytest.raises(MappingError, match="made for 2 transforms"):
        ConversionMapping([CHAIN]).map_keys(layer(0, 0), mapping.decide(layer(0, 0)))


def test_an_unguarded_prefix_is_added_to_names_that_begin_with_it_unless_told_that_they_are_converted():
    mapping = ConversionMapping([PrefixChange(add="model")])
    assert mapped(mapping, ["model.a"]) == {"model.a": "model.model.a"}
    assert mapped(mapping, ["model.a", "b"], converted=True) == {"model.a": "model.a", "b": "model.b"}


# -- with the model's names at hand ------------------------------------------------------------------------------------


def test_a_key_whose_own_name_the_model_has_and_whose_new_name_it_has_not_stays():
    mapping = ConversionMapping([PrefixChange(add="model")])
    found = mapping.trace(["model.a", "b", "c"], model_keys=["model.a", "model.b"])
    assert found == {"model.a": (("model.a",), ()), "b": (("model.b",), (0,)), "c": (("model.c",), (0,))}


def test_what_stays_may_not_meet_what_moves():
    mapping = ConversionMapping([PrefixChange(add="model")])
    with pytest.raises(MappingError, match=r"a and model\.a reach model\.a"):
        mapping.map_keys(["a", "model.a"], model_keys=["model.a"])


def test_the_models_names_settle_what_a_guard_could_not():
    mapping = ConversionMapping([CHAIN])
    assert mapped(mapping, layer(0, 1), model_keys=layer(0, 2)) == dict(zip(layer(0, 1), layer(0, 2), strict=True))
    assert mapped(mapping, layer(0, 1), model_keys=layer(0, 1)) == dict(zip(layer(0, 1), layer(0, 1), strict=True))
    with pytest.raises(MappingError, match="converted already"):
        mapping.map_keys(layer(0, 1), model_keys=layer(0, 1, 2))


# -- the cases that others get wrong -----------------------------------------------------------------------------------


def test_a_mixed_checkpoint_loses_the_bad_prefix_where_it_has_it():
    mapping = ConversionMapping([PrefixChange(remove="bad")])
    assert mapped(mapping, ["bad.model.a", "model.b"]) == {"bad.model.a": "model.a", "model.b": "model.b"}


def test_reversing_twice_adds_no_level_twice():
    reverse = ConversionMapping([Rename("encoder.layers", "layers")]).reverse
    once = mapped(reverse, ["layers.0.w"])["layers.0.w"]
    assert mapped(reverse, [once]) == {once: "encoder.layers.0.w"}


def test_a_rule_of_two_sources_writes_back_both():
    mapping = ConversionMapping([Rename("{old:gamma|beta}.w", "ln.{old}.w")])
    names = mapped(mapping, ["gamma.w", "beta.w"])
    assert mapped(mapping.reverse, names.values()) == {new: old for old, new in names.items()}


def test_a_transform_that_touches_nothing_is_dropped():
    mapping = ConversionMapping([Rename("**.gamma", "**.weight"), PrefixChange(remove="model")])
    assert mapping.used(["model.a"]).transforms == (PrefixChange(remove="model"),)


def test_a_rule_below_one_tower_touches_neither_its_sibling_nor_the_root():
    mapping = ConversionMapping([Rename("**.attn", "**.self_attn", under="**.vision_model")])
    keys = ["vision_model.attn.w", "text_model.attn.w", "attn.w", "model.vision_model.h.0.attn.w"]
    assert [*mapped(mapping, keys).values()] == [
        "vision_model.self_attn.w",
        "text_model.attn.w",
        "attn.w",
        "model.vision_model.h.0.self_attn.w",
    ]


@pytest.mark.parametrize("under", ["", "model", "model.vision"])
@pytest.mark.parametrize("change", [PrefixChange(add="base"), PrefixChange(remove="base")])
def test_a_prefix_change_round_trips_at_the_root_and_below_a_module(under, change):
    scope = f"{under}." if under else ""
    level = "" if change.add else "base."
    keys = [f"{scope}{level}h.{i}.w" for i in range(3)] + ["head.w"] * bool(under)
    mapping = ConversionMapping([PrefixChange(change.add, change.remove, under)])
    names = mapped(mapping, keys)
    assert names[keys[0]] == f"{scope}{'base.' if change.add else ''}h.0.w"
    assert mapped(mapping.reverse, names.values()) == {new: old for old, new in names.items()}


def test_a_renaming_and_a_conversion_below_it_round_trip():
    split = Split(0, (8, 2, 2))
    convert = Convert("attn.qkv", ["attn.q", "attn.k", "attn.v"], [split], under="encoder.{i}")
    mapping = ConversionMapping([Rename("decoder", "encoder"), convert])
    names = mapping.map_keys(["decoder.0.attn.qkv.weight", "decoder.1.attn.qkv.weight"])
    assert names["decoder.1.attn.qkv.weight"] == tuple(f"encoder.1.attn.{part}.weight" for part in "qkv")
    back = mapping.reverse.map_keys([target for targets in names.values() for target in targets])
    assert back["encoder.1.attn.k.weight"] == ("decoder.1.attn.qkv.weight",)


def experts_of(layers, experts):
    return [f"l.{i}.experts.{j}.{w}.weight" for i in range(layers) for j in range(experts) for w in ("w1", "w2", "w3")]


MOE = ConversionMapping(
    [
        Convert(
            ["**.experts.{j:0..3}.w1.weight", "**.experts.{j:0..3}.w3.weight"],
            "**.experts.gate_up",
            [Stack(0, 4), Concat(1, (2, 2))],
        ),
        Convert("**.experts.{j:0..3}.w2.weight", "**.experts.down", [Stack(0, 4)]),
        Convert("l.0.qkv", ["l.0.q", "l.0.k"], [Split(0, (4, 2))]),
    ]
)


def test_experts_are_stacked_and_one_layers_projection_is_split():
    names = MOE.map_keys([*experts_of(2, 4), "l.0.qkv", "l.1.qkv"])
    assert names["l.1.experts.2.w3.weight"] == ("l.1.experts.gate_up",)
    assert names["l.1.experts.2.w2.weight"] == ("l.1.experts.down",)
    assert (names["l.0.qkv"], names["l.1.qkv"]) == (("l.0.q", "l.0.k"), ("l.1.qkv",))


def test_experts_come_back_exactly():
    keys = [*experts_of(2, 4), "l.0.qkv", "l.1.qkv"]
    names = MOE.map_keys(keys)
    back = MOE.reverse.map_keys(sorted({target for targets in names.values() for target in targets}))
    forward_pairs = {(key, target) for key, targets in names.items() for target in targets}
    assert {(key, target) for target, found in back.items() for key in found} == forward_pairs


def test_experts_split_over_two_towers_come_back():
    towers = ["l.{i}.text.experts.gate", "l.{i}.vision.experts.gate"]
    deal = [Stack(0, 4), Select(0, ((0, 2), (1, 3)))]
    mapping = ConversionMapping([Convert("l.{i}.experts.{j:0..3}.gate", towers, deal)])
    keys = [f"l.{i}.experts.{j}.gate" for i in range(2) for j in range(4)]
    names = mapping.map_keys(keys)
    assert names["l.1.experts.3.gate"] == ("l.1.text.experts.gate", "l.1.vision.experts.gate")
    assert mapping.reverse.map_keys(["l.1.vision.experts.gate"]) == {"l.1.vision.experts.gate": tuple(keys[4:])}


# -- plans and tensors -------------------------------------------------------------------------------------------------


def test_a_plan_groups_keys_in_the_order_of_the_operations_whatever_the_order_given():
    keys = experts_of(1, 4)[::-1]
    step = MOE.plan(keys)[0]
    assert step.sources[:2] == ("l.0.experts.0.w1.weight", "l.0.experts.1.w1.weight")
    assert (step.targets, step.operations) == (("l.0.experts.gate_up",), (Stack(0, 4), Concat(1, (2, 2))))
    assert (step.transforms, step.absent) == ((0,), ())


def test_a_plan_resolves_sizes_that_depend_on_captures():
    sizes = SizeTable.by("i", {0: 1, 1: 3})
    mapping = ConversionMapping([Convert("h.{i}.qk", ["h.{i}.q", "h.{i}.k"], [Split(0, (sizes, sizes))])])
    assert [step.operations for step in mapping.plan(["h.0.qk", "h.1.qk"])] == [
        (Split(0, (1, 1)),),
        (Split(0, (3, 3)),),
    ]


def test_a_plan_lists_what_a_conversion_lacks():
    assert MOE.plan(experts_of(1, 4)[:-2])[0].absent == ("l.0.experts.3.w3.weight",)


def test_each_key_takes_part_in_one_conversion_at_most():
    turn = [Permute((1, 0))]
    mapping = ConversionMapping([Convert("a", "b", turn), Convert("b", "c", turn)])
    assert mapping.map_keys(["a.w"]) == {"a.w": ("b.w",)}


def test_apply_takes_each_tensor_when_its_turn_comes():
    class Tensors(dict):
        taken = ()

        def __getitem__(self, key):
            self.taken += (key,)
            return super().__getitem__(key)

    tensors = Tensors({"a.x": 1, "a.y": 2})
    given = ConversionMapping([Rename("a", "b")]).apply(tensors)
    assert tensors.taken == ()
    assert next(given) == ("b.x", 1)
    assert tensors.taken == ("a.x",)


def test_apply_there_and_back_gives_the_same_tensors():
    import torch

    tensors = {key: torch.rand(2, 3) for key in experts_of(2, 4)} | {"l.0.qkv": torch.rand(6, 3)}
    converted = dict(MOE.apply(tensors))
    assert converted["l.1.experts.gate_up"].shape == (4, 4, 3)
    assert converted["l.0.k"].equal(tensors["l.0.qkv"][4:])
    back = dict(MOE.reverse.apply(converted))
    assert back.keys() == tensors.keys()
    assert all(back[key].equal(tensors[key]) for key in tensors)


def test_apply_refuses_half_a_group_before_the_first_tensor():
    with pytest.raises(MappingError, match="lacks 1 of 8 keys") as raised:
        MOE.apply(dict.fromkeys(experts_of(1, 4)[:-1]))
    assert "absent: l.0.experts.3.w3.weight" in raised.value.facts
