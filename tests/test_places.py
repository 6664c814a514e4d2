"""Where the tensors of a model live, and how they are given values."""

from __future__ import annotations

import torch
from torch import nn

from treealign.checkpoint.assigning import room, settle
from treealign.checkpoint.packing import pack_keys, pack_lists, unpack_keys, unpack_lists
from treealign.checkpoint.places import find_places


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.ones(2), persistent=False)


def write(places, value):
    filled = room(places, value.dtype)
    with torch.no_grad():
        filled.copy_(value)
    settle(places, filled)


def same_as_state_dict(model):
    return list(find_places(model, raw=True).places) == list(model.state_dict())


def test_places_are_those_of_the_state_dict():
    assert same_as_state_dict(nn.Sequential(nn.BatchNorm2d(2), nn.ModuleDict({"a": nn.Linear(1, 1)})))


def test_a_shared_module_has_a_place_under_each_name():
    shared = nn.Linear(2, 2)
    model = nn.ModuleDict({"a": shared, "b": shared})
    assert same_as_state_dict(model)
    assert find_places(model).tied == {"b.weight": "a.weight", "b.bias": "a.bias"}


def test_a_shared_parameter_is_tied_and_a_buffer_not_saved_is_recomputed():
    places = find_places(Tied())
    assert places.tied == {"head.weight": "embed.weight"}
    assert list(places.recomputed) == ["mask"]
    assert places.places["steps"].kind == "buffer"


def test_two_parameters_over_one_storage_are_tied():
    model = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
    model[1].weight = nn.Parameter(model[0].weight.data)
    assert find_places(model).tied == {"1.weight": "0.weight"}


def test_ties_are_noticed_on_the_meta_device():
    with torch.device("meta"):
        assert find_places(Tied()).tied == {"head.weight": "embed.weight"}


def test_wrappers_are_no_levels():
    inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    keys = list(find_places(inner).places)
    wrapped = nn.Module()
    wrapped.module = torch.compile(inner)
    assert list(find_places(wrapped).places) == keys
    assert list(find_places(wrapped, raw=True).places) == list(wrapped.state_dict())


def test_a_level_called_module_stays_where_it_is_not_the_whole_model():
    model = nn.ModuleDict({"module": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    assert next(iter(find_places(model).places)) == "module.weight"


def test_the_same_dtype_is_written_in_place():
    model = Tied()
    before = model.embed.weight.data_ptr()
    write(find_places(model).names["embed.weight"], torch.ones(4, 3))
    assert model.embed.weight.data_ptr() == before
    assert torch.equal(model.head.weight, torch.ones(4, 3))


def test_another_dtype_keeps_the_parameter_and_the_tie():
    model = Tied()
    parameter = model.embed.weight
    model.embed(torch.tensor([1])).sum().backward()
    write(find_places(model).names["embed.weight"], torch.ones(4, 3, dtype=torch.bfloat16))
    assert model.embed.weight is parameter
    assert model.head.weight is parameter
    assert parameter.dtype == parameter.grad.dtype == torch.bfloat16


def test_two_parameters_over_one_storage_stay_tied_under_another_dtype():
    model = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
    model[1].weight = nn.Parameter(model[0].weight.data)
    write(find_places(model).names["0.weight"], torch.ones(2, 2, dtype=torch.float16))
    assert model[0].weight.data_ptr() == model[1].weight.data_ptr()


def test_a_tie_declared_on_the_meta_device_is_made():
    with torch.device("meta"):
        model = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
    model.all_tied_weights_keys = {"1.weight": "0.weight"}
    write(find_places(model).names["0.weight"], torch.ones(2, 2))
    assert model[0].weight is model[1].weight


def test_a_tensor_on_the_meta_device_is_made_and_stays_tied():
    with torch.device("meta"):
        model = Tied()
    model.embed.weight.mark = "kept"
    model.embed.weight.requires_grad_(False)
    write(find_places(model).names["embed.weight"], torch.ones(4, 3))
    assert model.embed.weight is model.head.weight
    assert (model.head.weight.mark, model.head.weight.requires_grad) == ("kept", False)
    assert isinstance(model.head.weight, nn.Parameter)


def test_memory_format_is_kept_under_another_dtype():
    model = nn.Conv2d(2, 3, 3, bias=False).to(memory_format=torch.channels_last)
    write(find_places(model).names["weight"], torch.ones(3, 2, 3, 3, dtype=torch.float16))
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


def test_an_expanded_buffer_can_be_written():
    model = nn.Module()
    model.register_buffer("ids", torch.zeros(1, 3).expand(2, 3))
    write(find_places(model).names["ids"], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(model.ids, torch.arange(6.0).reshape(2, 3))


def test_packed_keys_come_back():
    keys = ["a.0.w", "a.2.w", "b.0.1.w", "b.1.0.w", "x{}.y", "{0}", "0.w", "head"]
    assert sorted(unpack_keys(pack_keys(keys))) == sorted(keys)


def test_all_combinations_of_indices_pack_into_ranges():
    keys = [f"l.{i}.e.{j}.w" for i in range(40) for j in range(50)]
    assert pack_keys(keys) == [["l.{}.e.{}.w", {"ranges": [[[0, 39]], [[0, 49]]]}]]


def test_packed_lists_of_keys_come_back():
    lists = [("a.0", "b.0"), ("a.1", "b.1"), ("{}.a", "=x", "0.a"), ()]
    assert sorted(unpack_lists(pack_lists(lists))) == sorted(lists)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


class BaseTunerLayer:
    """Stands for peft's class: only its name counts."""


class LoraLinear(nn.Module, BaseTunerLayer):
    def __init__(self, base):
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(2, 1, bias=False)})


def test_the_layer_that_an_adapter_wraps_keeps_its_name():
    model = Inner()
    model.layer = LoraLinear(model.layer)
    assert list(find_places(model).places) == ["layer.weight", "layer.bias", "layer.lora_A.default.weight"]


def test_names_stay_as_they_are_where_a_wrapper_would_hide_one():
    model = Inner()
    model.layer = LoraLinear(model.layer)
    model.layer.weight = nn.Parameter(torch.zeros(1))
    assert list(find_places(model).places) == list(model.state_dict())
