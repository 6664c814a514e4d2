"""torchtitan's own models and adapters: what they do is found from names and numbers, emitted, and does the same."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import pytest
import torch

from treealign import KeyTree, emit, read_tree, suggest
from treealign.dialects.reading import read_mapping

# model, flavour, and the parameters that its adapter passes over (it knows them under other names, or not at all)
MODELS = [
    ("llama3", "debugmodel", ()),
    ("qwen3", "debugmodel", ()),
    ("deepseek_v3", "debugmodel", ()),
    ("kimi_k2_7", "debugmodel", ()),
    ("gpt_oss", "debugmodel", ("moe.expert_bias_E", "moe.routed_experts.inner_experts.mlp")),
]
ALL = pytest.mark.parametrize(("name", "flavour", "passed_over"), MODELS, ids=[name for name, *_ in MODELS])


@cache
def sides(name, flavour):
    """The adapter, a state dict of torchtitan, and what the adapter makes of it for others."""
    spec = import_module(f"torchtitan.models.{name}").model_registry(flavour)
    with torch.device("meta"):
        model = spec.model.build()
    drawn = torch.Generator().manual_seed(0)
    state = {key: numbers(tensor, drawn) for key, tensor in model.state_dict().items()}
    if getattr(spec.model, "enable_weight_tying", False):
        state["lm_head.weight"] = state["tok_embeddings.weight"]
    adapter = spec.state_dict_adapter(spec.model, None)
    return spec, state, adapter.to_hf(dict(state)), adapter.from_hf(adapter.to_hf(dict(state)))


@cache
def settled(name, flavour):
    """What numbers on both sides show."""
    _, state, hf, _ = sides(name, flavour)
    return suggest(hf, state, values=True)


def numbers(tensor, drawn):
    if tensor.is_floating_point():
        return torch.randn(tensor.shape, generator=drawn)
    return torch.arange(tensor.numel()).reshape(tensor.shape)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in b)


def tied(state):
    """Titan's own aliases, which its checkpoints hold and ours count apart."""
    first = {}
    return {key for key, tensor in state.items() if first.setdefault(tensor.data_ptr(), key) != key}


@ALL
def test_names_alone_settle_nothing_wrongly(name, flavour, passed_over):
    _, state, hf, back = sides(name, flavour)
    found = suggest(leaves(hf), leaves(state))
    certain = [match for match in found.matches if match.certain]
    made = dict(found.mapping.apply(dict(hf)))
    assert len(certain) > 0.5 * len(found.matches)
    assert [m for m in certain for key in m.model if not torch.equal(made[key], back[key])] == []


def leaves(state):
    return KeyTree.from_leaves((key, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for key, t in state.items())


@ALL
def test_numbers_show_all_that_the_adapter_does(name, flavour, passed_over):
    _, state, hf, back = sides(name, flavour)
    found = settled(name, flavour)
    assert all(match.certain for match in found.matches)
    left = [key for key in found.missing_keys if not any(part in key for part in passed_over)]
    assert (left, found.unexpected_keys) == ([], ())
    made = dict(found.mapping.apply(dict(hf)))
    assert same(made, {key: back[key] for key in back if key not in tied(state)})


@ALL
def test_an_emitted_adapter_does_what_torchtitans_own_does_both_ways(name, flavour, passed_over):
    spec, state, hf, back = sides(name, flavour)
    mapping = settled(name, flavour).mapping
    scope = {}
    exec(emit(mapping, "torchtitan", checkpoint=read_tree(hf), name="Emitted"), scope)
    adapter = scope["Emitted"](spec.model, None)
    made = adapter.from_hf(dict(hf))
    assert same(made, {key: back[key] for key in back if key not in tied(state)})
    assert same(adapter.to_hf(made), hf)


@ALL
def test_torchtitans_own_adapter_is_read_by_what_it_does(name, flavour, passed_over):
    spec, state, hf, back = sides(name, flavour)
    found = read_mapping(spec.state_dict_adapter(spec.model, None), "torchtitan", hf)
    assert found.unread == ()
    made = dict(found.mapping.apply(dict(hf)))
    assert same(made, {key: back[key] for key in back if key not in tied(state)})


def test_an_emitted_adapter_reads_and_writes_through_torchtitans_own_methods(tmp_path):
    spec, _, hf, _ = sides("llama3", "debugmodel")
    scope = {}
    exec(emit(settled("llama3", "debugmodel").mapping, "torchtitan", checkpoint=read_tree(hf)), scope)
    adapter = scope["EmittedStateDictAdapter"](spec.model, str(tmp_path))
    assert adapter.fqn_to_index_mapping is None
    assert type(adapter.get_hf_storage_reader(str(tmp_path))).__name__ == "HuggingFaceStorageReader"
