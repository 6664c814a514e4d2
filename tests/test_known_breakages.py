"""What breaks the round trip elsewhere, each case as it was reported; here all of them come back as they came."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from weights import Tower, TwoTowers, keys, same_values, saved_keys, state, unchanged, values, write

from treealign import ConversionMapping, Convert, PrefixChange, Rename, TreealignError, load, operations, save


class Letters(nn.Module):
    def __init__(self, *names):
        super().__init__()
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.randn(3)))


def nested(level, inner, *siblings):
    model = Letters(*siblings)
    model.add_module(level, inner)
    return model


def test_p1_a_mixed_checkpoint_goes_back_mixed(tmp_path):
    model = nested("model", Letters("a", "b"))
    path = write(tmp_path / "in.safetensors", {"bad.model.a": torch.ones(3), "model.b": torch.zeros(3)})
    load(model, path, [PrefixChange(remove="bad")])
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == {"bad.model.a", "model.b"}


def test_p2_two_keys_that_reach_one_are_an_error_that_names_both(tmp_path):
    model = nested("model", Letters("a"))
    before = values(model)
    path = write(tmp_path / "in.safetensors", {"model.a": torch.ones(3), "old.a": torch.zeros(3)})
    with pytest.raises(TreealignError) as caught:
        load(model, path, [Rename("old", "model")])
    assert "old.a" in str(caught.value)
    assert "model.a" in str(caught.value)
    assert unchanged(model, before)


def test_p3_a_good_checkpoint_beside_a_rule_that_adds_a_level_comes_back_good(tmp_path):
    model = nested("model", Letters("a"), "head")
    path = write(tmp_path / "in.safetensors", {"model.a": torch.ones(3), "head": torch.zeros(3)})
    load(model, path, [PrefixChange(add="model")])
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == {"model.a", "head"}


def test_p4_an_adapter_that_came_and_went_leaves_the_names_of_its_base(tmp_path):
    model = nested("model", Tower())
    base = write(tmp_path / "base.safetensors", state(model, lambda k: k.removeprefix("model.")))
    load(model, base, [PrefixChange(add="model")])
    block = model.model.layers[0]
    linear = block.attn
    block.attn = nn.ModuleDict({"base_layer": linear, "lora_A": nn.Linear(4, 1, bias=False)})
    adapter = {"base_model.model.model.layers.0.attn.lora_A.weight": torch.ones(1, 4)}
    load(model, adapter, [PrefixChange(remove="base_model.model")], strict=False)
    block.attn = linear
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == keys(base)


def test_p5_a_rule_with_two_sources_writes_both_back(tmp_path):
    model = nested("m", Letters("w"))
    path = write(tmp_path / "in.safetensors", {"m.a": torch.ones(1), "m.b": torch.zeros(2)})
    load(model, path, [Convert(["m.a", "m.b"], "m.w", [operations.Concat(0, (1, 2))])])
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == {"m.a", "m.b"}
    assert path.read_bytes() == (tmp_path / "out" / "model.safetensors").read_bytes()


def test_p6_the_match_is_replaced_and_not_the_first_text_like_it():
    mapping = ConversionMapping([Rename("**.layer.{i}", "**.block.{i}")])
    assert mapping.map_keys(["layernorm.layer.x.layer.0.w"]) == {
        "layernorm.layer.x.layer.0.w": ("layernorm.layer.x.block.0.w",)
    }


def test_p7_reversing_twice_is_the_mapping_again():
    mapping = ConversionMapping([Rename("encoder.layers", "layers")])
    assert mapping.reverse.reverse == mapping
    assert mapping.reverse.map_keys(["layers.0.w"]) == {"layers.0.w": ("encoder.layers.0.w",)}


def test_p7_saving_twice_gives_the_names_once(tmp_path):
    model = Tower()
    path = write(tmp_path / "in.safetensors", state(model, lambda k: f"encoder.{k}"))
    load(model, path, [Rename("encoder.layers", "layers"), Rename("encoder.final", "final")])
    save(model, tmp_path / "out")
    again = Tower()
    load(again, tmp_path / "out")
    save(again, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == keys(path)


def test_p8_a_submodule_is_saved_under_the_names_of_its_part(tmp_path):
    model = TwoTowers()
    old = state(model, lambda k: k.replace("vision.", "vision.vision_model."))
    load(model, old, [PrefixChange(remove="vision_model", under="vision")])
    save(model.vision, tmp_path / "out")
    expected = {k.removeprefix("vision.") for k in old if k.startswith("vision.")}
    assert saved_keys(tmp_path / "out") == expected


def test_p8_a_state_dict_that_was_loaded_by_torch_is_saved_by_a_given_mapping(tmp_path):
    source, fresh = Tower(), Tower()
    old = state(source, lambda k: f"model.{k}")
    mapping = ConversionMapping([PrefixChange(remove="model")])
    fresh.load_state_dict(source.state_dict())
    save(fresh, tmp_path / "out", mapping=mapping)
    assert saved_keys(tmp_path / "out") == old.keys()


def test_p9_a_fresh_model_is_saved_under_its_own_names(tmp_path):
    model = TwoTowers()
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == model.state_dict().keys()
    assert not (tmp_path / "out" / "treealign_record.json").exists()


def test_p10_a_transform_that_touched_nothing_is_neither_kept_nor_written(tmp_path):
    model = Tower()
    old = state(model, lambda k: k.replace("norm.", "ln."))
    rules = [Rename("**.norm.gamma$", "**.norm.weight$"), Rename("**.ln", "**.norm"), PrefixChange(remove="bert")]
    result = load(model, old, rules)
    save(model, tmp_path / "out")
    assert list(result.mapping) == [rules[1]]
    assert "bert" not in (tmp_path / "out" / "treealign_record.json").read_text()
    assert saved_keys(tmp_path / "out") == old.keys()


def test_the_seed_sequence_keeps_the_names_throughout(tmp_path):
    model = Tower()
    names = set(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.layers[0].attn(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    trained = copy.deepcopy(model).state_dict()
    save(model, tmp_path / "first")
    other = Tower()
    load(other, tmp_path / "first", ConversionMapping())
    save(other, tmp_path / "second")
    assert saved_keys(tmp_path / "first") == saved_keys(tmp_path / "second") == names
    assert same_values(other, trained)
    first, second = (tmp_path / name / "model.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
