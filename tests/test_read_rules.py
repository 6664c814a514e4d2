"""What transformers has as rules is read back: as key patterns where it is that, otherwise by running it."""

from __future__ import annotations

import pytest
from cases import read_cases
from releases import need_entry, need_rule

from treealign import ConversionMapping, PrefixChange, Rename, TreealignError, emit
from treealign.dialects.reading import read_mapping


def transforms(source, **options):
    return list(read_mapping(source, **options).mapping)


def test_a_registry_entry_is_read_by_its_name():
    need_entry("CLIPVisionModel")
    assert transforms("CLIPVisionModel") == [PrefixChange(remove="vision_model")]


def test_an_unknown_entry_is_an_error():
    with pytest.raises(TreealignError, match="no entry"):
        read_mapping("nothing of the kind")


@pytest.mark.parametrize(
    "transform",
    [
        PrefixChange(remove="model", under="text"),
        PrefixChange(add="model"),
        Rename("language_model.lm_head", "lm_head"),
        Rename("blocks.{i}.attn", "layers.{i}.self_attn"),
        Rename("{part:layers|norm}", "model.{part}"),
    ],
)
def test_what_was_emitted_is_read_back(transform):
    assert transforms(emit([transform], live=True)) == [transform]


def test_a_key_mapping_is_read_as_its_renamings():
    assert transforms({r"^model\.text\.": r"text.", r"\.attn\.": ".self_attn."}, dialect="key_mapping") == [
        Rename("model.text", "text"),
        Rename("**.attn", "**.self_attn"),
    ]


def test_a_swap_is_read_as_one_renaming():
    need_rule("GroupWeightRename")
    from transformers.core_model_loading import GroupWeightRename

    assert transforms([GroupWeightRename([r"\.a\.", r"\.b\."], [r"\.b\.", r"\.a\."])]) == [
        Rename({"**.a": "**.b", "**.b": "**.a"})
    ]


def test_a_pattern_that_matches_inside_segments_is_reported_and_can_be_run():
    reading = read_mapping({"attention.query": "q_proj"}, dialect="key_mapping")
    ((_, reason),) = reading.unread
    assert "inside segments" in reason
    assert reading.run(["h.cross_attention.query.w"]) == {"h.cross_attention.query.w": "h.cross_q_proj.w"}


def test_with_keys_it_is_read_where_that_makes_no_difference():
    rules = {"attention.query": "q_proj"}
    assert transforms(rules, keys=["h.attention.query.w"]) == [Rename("**.attention.query", "**.q_proj")]
    assert transforms(rules, keys=["h.cross_attention.query.w"]) == []


def test_a_converter_is_reported_for_it_has_no_sizes():
    reading = read_mapping("qwen2_moe")
    assert "takes its sizes from the tensors" in next(reason for _, reason in reading.unread)


def test_running_back_undoes_running():
    reading = read_mapping("llava")
    keys = ["language_model.lm_head.weight", "vision_tower.vision_model.x.weight"]
    made = reading.run(keys)
    assert reading.run(made.values(), reverse=True) == {new: old for old, new in made.items()}


@pytest.mark.parametrize("name", ["LlavaForConditionalGeneration", "ViTModel", "Kolibri1Model"])
def test_an_entry_read_with_keys_does_what_its_rules_do(name):
    case = next(c for c in read_cases("transformers", name) if c.name == f"tf/{name}")
    keys = [leaf[0] for leaf in case.checkpoint]
    entry = {"LlavaForConditionalGeneration": "llava", "ViTModel": "ViTModel", "Kolibri1Model": "kolibri1"}[name]
    need_entry(entry)
    reading = read_mapping(entry, keys=keys)
    read = {id(rule) for rule, _ in reading.unread}
    own = read_mapping([rule for rule in reading.rules if id(rule) not in read], keys=keys)
    assert own.unread == ()
    assert {key: to[0] for key, to in ConversionMapping(own.mapping).map_keys(keys).items()} == own.run(keys)
