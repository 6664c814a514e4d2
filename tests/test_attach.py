"""Attached, a model speaks the names of its checkpoint through torch's own state dicts."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from weights import Block, TiedHead, Tower, TwoTowers, keys, same_values, saved_keys, state, unchanged, values, write

from treealign import ConversionMapping, Convert, PrefixChange, Rename, TreealignError, attach, load, operations, save

UNPREFIXED = ConversionMapping([PrefixChange(remove="model")])


def prefixed(key):
    return f"model.{key}"


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_fresh_model_gives_the_names_from_which_the_mapping_loads():
    model = Tower()
    own = state(model)
    attach(model, UNPREFIXED)
    assert same(model.state_dict(), {prefixed(k): v for k, v in own.items()})


def test_a_state_dict_under_the_names_of_the_checkpoint_is_taken_strictly():
    model, old = Tower(), state(Tower(), prefixed)
    attach(model, UNPREFIXED)
    assert str(model.load_state_dict(old)) == "<All keys matched successfully>"
    assert same(model.state_dict(), old)


def test_the_own_names_of_the_model_are_taken_too():
    model, own = Tower(), state(Tower())
    attach(model, UNPREFIXED)
    model.load_state_dict(own)
    assert same(model.state_dict(), own)


def test_a_mixture_is_given_back_as_it_came():
    old = {prefixed(k) if "final" in k else k: v for k, v in state(Tower()).items()}
    model = Tower()
    attach(model, UNPREFIXED)
    model.load_state_dict(old)
    assert same(model.state_dict(), old)


def test_a_given_state_dict_is_not_changed():
    model, old = Tower(), state(Tower(), prefixed)
    attach(model, UNPREFIXED)
    given = dict(old)
    model.load_state_dict(given)
    assert same(given, old)


def test_torch_reports_what_is_missing_and_unexpected():
    model, old = Tower(), state(Tower(), prefixed)
    attach(model, UNPREFIXED)
    del old["model.final.bias"]
    old["model.other"] = torch.ones(1)
    with pytest.raises(RuntimeError, match=r"(?s)final\.bias.*other"):
        model.load_state_dict(old)
    assert model.load_state_dict(old, strict=False).missing_keys == ["final.bias"]


def test_two_keys_that_reach_one_are_refused_with_the_model_untouched():
    model, old = Tower(), state(Tower(), prefixed)
    attach(model, UNPREFIXED)
    before = values(model)
    old["final.bias"] = torch.ones(4)
    with pytest.raises(TreealignError, match=r"final\.bias"):
        model.load_state_dict(old)
    assert unchanged(model, before)


def test_a_key_with_its_wrappers_and_without_them_is_refused():
    model = torch.compile(Tower())
    attach(model, UNPREFIXED)
    with pytest.raises(TreealignError, match="wrappers"):
        model.load_state_dict({"_orig_mod.final.bias": torch.ones(4), "final.bias": torch.ones(4)}, strict=False)


def test_conversions_go_both_ways():
    old = state(Block())
    weight = old.pop("attn.weight")
    old |= {"q.weight": weight[:3], "k.weight": weight[3:]}
    model = Block()
    attach(model, [Convert(["q.weight", "k.weight"], "attn.weight", [operations.Concat(0, (3, 1))])])
    model.load_state_dict(old)
    assert torch.equal(model.attn.weight, weight)
    assert same(model.state_dict(), old)


def test_parts_that_are_absent_are_reported_by_torch():
    model = Block()
    attach(model, [Convert(["q.weight", "k.weight"], "attn.weight", [operations.Concat(0, (3, 1))])])
    old = state(Block())
    old["q.weight"] = old.pop("attn.weight")[:3]
    found = model.load_state_dict(old, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["attn.weight"], ["q.weight"])


def test_a_tied_weight_is_taken_under_one_name():
    model = TiedHead()
    old = {prefixed(k): v for k, v in state(TiedHead()).items() if k != "head.weight"}
    attach(model, UNPREFIXED)
    model.load_state_dict(old)
    assert model.head.weight is model.embed.weight
    assert same(model.state_dict(), old)


def test_a_part_of_a_model_speaks_its_names_within_the_whole():
    model = TwoTowers()
    attach(model.vision, UNPREFIXED)
    old = state(TwoTowers(), lambda k: k.replace("vision.", "vision.model."))
    assert model.state_dict().keys() == old.keys()
    model.load_state_dict(old)
    assert same(model.state_dict(), old)


def test_a_wrapper_around_the_model_is_looked_through():
    model = Tower()
    attach(model, UNPREFIXED)
    wrapped = nn.DataParallel(model)
    assert wrapped.state_dict().keys() == {f"module.model.{k}" for k in dict(model.named_parameters())}
    wrapped.load_state_dict({f"module.{k}": v for k, v in state(Tower(), prefixed).items()})


def test_a_wrapped_model_speaks_the_names_of_the_checkpoint():
    model = torch.compile(Tower())
    old = state(Tower(), prefixed)
    attach(model, UNPREFIXED)
    model.load_state_dict(old)
    assert same(model.state_dict(), old)
    assert same_values(model._orig_mod, old, prefixed)


def test_what_was_loaded_through_torch_is_saved_as_it_came(tmp_path):
    old = {prefixed(k) if "final" in k else k: v for k, v in state(Tower()).items()}
    model = Tower()
    attach(model, UNPREFIXED)
    model.load_state_dict(old)
    save(model, tmp_path)
    assert saved_keys(tmp_path) == old.keys()


def test_what_was_loaded_from_a_file_is_given_as_it_came(tmp_path):
    old = {prefixed(k) if "final" in k else k: v for k, v in state(Tower()).items()}
    model = Tower()
    load(model, write(tmp_path / "in.safetensors", old), UNPREFIXED)
    attach(model, UNPREFIXED)
    assert model.state_dict().keys() == keys(tmp_path / "in.safetensors")


def test_another_mapping_than_the_one_that_was_loaded_by_decides_the_names():
    model = Tower()
    load(model, state(Tower(), prefixed), UNPREFIXED)
    attach(model, [Rename("old.layers", "layers")])
    assert "old.layers.0.attn.weight" in model.state_dict()


def test_a_buffer_that_the_model_computes_goes_in_and_out():
    model = nn.Linear(2, 2)
    model.register_buffer("inv_freq", torch.ones(2), persistent=False)
    old = {**state(model, prefixed), "model.inv_freq": torch.zeros(2)}
    attach(model, UNPREFIXED)
    model.load_state_dict(old)
    assert model.inv_freq.tolist() == [1.0, 1.0]
    assert same(model.state_dict(), old)


def test_removed_hooks_give_the_names_of_the_model_again():
    model = Tower()
    own = state(model)
    with attach(model, UNPREFIXED):
        assert model.state_dict().keys() != own.keys()
    assert same(model.state_dict(), own)
    model.load_state_dict(own)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_speaks_the_names_too(duplicate):
    model = Tower()
    attach(model, UNPREFIXED)
    old = state(Tower(), prefixed)
    other = duplicate(model)
    other.load_state_dict(old)
    assert same(other.state_dict(), old)


def test_the_metadata_of_a_state_dict_stays():
    model = nn.BatchNorm1d(2)
    attach(model, UNPREFIXED)
    assert model.state_dict()._metadata[""]["version"] == 2
