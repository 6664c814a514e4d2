"""The renaming, scope and conversion cases of transformers' own tests, end to end: file, model, file."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from weights import Block, Tower, TwoTowers, keys, same_values, saved_keys, state, write

from treealign import ConversionMapping, Convert, PrefixChange, Rename, load, save
from treealign.mapping.operations import Concat, Permute, Reshape, Select, Split, Stack


def round_trip(model, path, rules, tmp_path):
    """Load a file, save it, and load that again: the same bytes, the same names, the same values."""
    load(model, path, rules)
    values = state(model)
    save(model, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == path.read_bytes()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    load(model, tmp_path / "out")
    return same_values(model, values)


def checkpoint(tmp_path, tensors):
    return write(tmp_path / "in.safetensors", tensors)


class Norms(nn.Module):
    def __init__(self, *names):
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({name: nn.LayerNorm(3) for name in names}) for _ in range(2))


# -- levels ------------------------------------------------------------------------------------------------------------

AT_THE_ROOT = (Tower, [PrefixChange(remove="model")], lambda k: f"model.{k}")
ADDED = (lambda: nn.ModuleDict({"model": Tower()}), [PrefixChange(add="model")], lambda k: k.removeprefix("model."))
BELOW = (
    TwoTowers,
    [PrefixChange(remove="vision_model", under="vision")],
    lambda k: k.replace("vision.", "vision.vision_model."),
)
ADDED_BELOW = (
    lambda: nn.ModuleDict({"vision": nn.ModuleDict({"model": Tower()}), "other": Block()}),
    [PrefixChange(add="model", under="vision")],
    lambda k: k.replace("vision.model.", "vision."),
)
LEVELS = pytest.mark.parametrize(
    ("make", "rules", "old"),
    [AT_THE_ROOT, ADDED, BELOW, ADDED_BELOW],
    ids=["removed", "added", "removed below", "added below"],
)


@LEVELS
def test_a_checkpoint_with_the_old_levels_comes_back_with_them(make, rules, old, tmp_path):
    assert round_trip(make(), checkpoint(tmp_path, state(make(), old)), rules, tmp_path)


@LEVELS
def test_a_checkpoint_with_the_new_levels_comes_back_with_them(make, rules, old, tmp_path):
    assert round_trip(make(), checkpoint(tmp_path, state(make())), rules, tmp_path)


@LEVELS
def test_a_model_that_was_never_loaded_keeps_its_names(make, rules, old, tmp_path):
    model = make()
    save(model, tmp_path)
    assert saved_keys(tmp_path) == model.state_dict().keys()


# -- groups of names ---------------------------------------------------------------------------------------------------

CHAIN = [Rename({"**.norm0": "**.norm1", "**.norm1": "**.norm2"}, before="**.norm0", after="**.norm2")]


def earlier(key):
    return key.replace("norm1", "norm0").replace("norm2", "norm1")


def test_a_chain_of_names_goes_back_as_it_was(tmp_path):
    path = checkpoint(tmp_path, state(Norms("norm1", "norm2"), earlier))
    assert round_trip(Norms("norm1", "norm2"), path, CHAIN, tmp_path)


def test_a_chain_of_names_that_was_moved_before_stays(tmp_path):
    path = checkpoint(tmp_path, state(Norms("norm1", "norm2")))
    assert round_trip(Norms("norm1", "norm2"), path, CHAIN, tmp_path)


def test_a_chain_of_names_that_was_moved_in_one_layer_only_comes_back_so(tmp_path):
    mixed = state(Norms("norm1", "norm2"), lambda k: earlier(k) if "layers.0" in k else k)
    model = Norms("norm1", "norm2")
    path = checkpoint(tmp_path, mixed)
    assert round_trip(model, path, CHAIN, tmp_path)
    assert torch.equal(model.layers[0].norm2.weight, mixed["layers.0.norm1.weight"])
    assert torch.equal(model.layers[1].norm2.weight, mixed["layers.1.norm2.weight"])


# -- scopes ------------------------------------------------------------------------------------------------------------


def scoped(base):
    """A vision tower, its sibling and the root all with a level `enc`, which only the tower's rule renames."""
    vision, text = nn.ModuleDict({"encoder": Block()}), nn.ModuleDict({"enc": Block()})
    parts = nn.ModuleDict({"vision_model": vision, "text_model": text, "enc": Block()})
    for level in reversed(base.split(".") if base else []):
        parts = nn.ModuleDict({level: parts})
    return parts


@pytest.mark.parametrize("base", ["", "model", "base.model"])
def test_a_rule_with_a_scope_touches_neither_sibling_nor_root(base, tmp_path):
    under = f"{base}.vision_model" if base else "vision_model"
    old = state(scoped(base), lambda k: k.replace("vision_model.encoder", "vision_model.enc"))
    path = checkpoint(tmp_path, old)
    assert round_trip(scoped(base), path, [Rename("enc", "encoder", under=under)], tmp_path)


@pytest.mark.parametrize("base", ["", "model", "base.model"])
def test_a_scope_may_stand_below_any_base(base, tmp_path):
    old = state(scoped(base), lambda k: k.replace("vision_model.encoder", "vision_model.enc"))
    path = checkpoint(tmp_path, old)
    rules = [Rename("enc", "encoder", under="**.vision_model")]
    assert round_trip(scoped(base), path, rules, tmp_path)


def test_two_siblings_of_one_kind_each_have_their_rule(tmp_path):
    rules = [Rename("blocks", "layers", under="vision"), Rename("h", "layers", under="language")]
    model = TwoTowers()
    old = state(model, lambda k: k.replace("vision.layers", "vision.blocks").replace("language.layers", "language.h"))
    assert round_trip(model, checkpoint(tmp_path, old), rules, tmp_path)


def test_what_no_checkpoint_had_in_one_of_two_siblings_follows_its_own_rule(tmp_path):
    model = TwoTowers()
    old = state(model, lambda k: k.replace("vision.", "vision.core."))
    load(model, old, [PrefixChange(remove="core", under="vision")])
    model.vision.extra = nn.Parameter(torch.ones(1))
    model.language.extra = nn.Parameter(torch.ones(1))
    save(model, tmp_path)
    assert {k for k in saved_keys(tmp_path) if "extra" in k} == {"vision.core.extra", "language.extra"}


# -- conversions -------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(3, rows) for rows in (8, 2, 2))


class Layers(nn.Module):
    def __init__(self, count=2, name="layers"):
        super().__init__()
        self.add_module(name, nn.ModuleList(Attention() for _ in range(count)))


def fuse(tensors, sizes=("q", "k", "v"), into="qkv"):
    """Join q, k and v of each layer, as older checkpoints have them."""
    fused = {}
    for key, tensor in tensors.items():
        head, name, tail = key.rsplit(".", 2)
        fused.setdefault(f"{head}.{into}.{tail}", []).append((sizes.index(name), tensor))
    return {key: torch.cat([t for _, t in sorted(parts, key=lambda p: p[0])]) for key, parts in fused.items()}


SPLIT = Convert("layers.{i}.qkv", [f"layers.{{i}}.{n}" for n in "qkv"], [Split(0, (8, 2, 2))])


def test_unequal_parts_are_split_and_joined_again(tmp_path):
    assert round_trip(Layers(), checkpoint(tmp_path, fuse(state(Layers()))), [SPLIT], tmp_path)


def test_layers_that_were_split_before_stay_split(tmp_path):
    source = state(Layers())
    mixed = {k: v for k, v in source.items() if "layers.1" in k}
    mixed |= fuse({k: v for k, v in source.items() if "layers.0" in k})
    assert round_trip(Layers(), checkpoint(tmp_path, mixed), [SPLIT], tmp_path)


def test_a_renamed_level_and_then_a_split_below_a_scope(tmp_path):
    model = nn.ModuleDict({"encoder": Layers()})
    old = {k.replace("encoder", "decoder"): v for k, v in fuse(state(model)).items()}
    split = Convert("layers.{i}.qkv", [f"layers.{{i}}.{n}" for n in "qkv"], [Split(0, (8, 2, 2))], under="encoder")
    assert round_trip(model, checkpoint(tmp_path, old), [Rename("decoder", "encoder"), split], tmp_path)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_up = nn.Parameter(torch.randn(4, 6, 2))
        self.down = nn.Parameter(torch.randn(4, 2, 3))


def unstack(model):
    """Each expert's w1, w3 and w2 apart."""
    old = {}
    for i in range(4):
        old[f"experts.{i}.w1.weight"], old[f"experts.{i}.w3.weight"] = model.gate_up[i].detach().split(3)
        old[f"experts.{i}.w2.weight"] = model.down[i].detach()
    return {k: v.clone() for k, v in old.items()}


EXPERTS = [
    Convert(["experts.{j:0..3}.w1.weight", "experts.{j:0..3}.w3.weight"], "gate_up", [Stack(0, 4), Concat(1, (3, 3))]),
    Convert("experts.{j:0..3}.w2.weight", "down", [Stack(0, 4)]),
]


def test_experts_are_stacked_and_joined_and_taken_apart_again(tmp_path):
    assert round_trip(Experts(), checkpoint(tmp_path, unstack(Experts())), EXPERTS, tmp_path)


def test_what_is_absent_of_a_stack_is_told_exactly(tmp_path):
    old = unstack(Experts())
    del old["experts.2.w3.weight"]
    model = Experts()
    result = load(model, checkpoint(tmp_path, old), EXPERTS, strict=False)
    assert result.missing_keys == ("gate_up",)
    assert set(result.unexpected_keys) == {k for k in old if "w2" not in k}


def test_experts_are_divided_over_two_towers(tmp_path):
    model = nn.ParameterDict({"text": nn.Parameter(torch.randn(3, 2)), "vision": nn.Parameter(torch.randn(2, 2))})
    old = {f"experts.{i}": torch.randn(2) for i in range(5)}
    rules = [Convert("experts.{j:0..4}", ["text", "vision"], [Stack(0, 5), Select(0, ((0, 2, 4), (1, 3)))])]
    assert round_trip(model, checkpoint(tmp_path, old), rules, tmp_path)
    assert torch.equal(model["vision"][1], old["experts.3"])


def test_a_convolution_becomes_a_linear_layer_and_back(tmp_path):
    model = nn.ModuleDict({"proj": nn.Linear(2 * 3 * 4 * 4, 5)})
    old = state(model)
    old["proj.weight"] = old["proj.weight"].reshape(5, 2, 3, 4, 4)
    rules = [Convert("proj.weight", "proj.weight", [Reshape((5, 2, 3, 4, 4), (5, 96))])]
    assert round_trip(model, checkpoint(tmp_path, old), rules, tmp_path)


def test_a_transposed_weight_goes_back_transposed(tmp_path):
    model = nn.ModuleDict({"c": nn.Linear(3, 5)})
    old = state(model, lambda k: k.replace("c.weight", "conv1d.weight").replace("c.bias", "conv1d.bias"))
    old["conv1d.weight"] = old["conv1d.weight"].t().contiguous()
    rules = [Rename("conv1d.bias", "c.bias"), Convert("conv1d.weight", "c.weight", [Permute((1, 0))])]
    assert round_trip(model, checkpoint(tmp_path, old), rules, tmp_path)


def test_nothing_is_left_of_the_model_s_names_in_what_is_saved(tmp_path):
    path = checkpoint(tmp_path, unstack(Experts()))
    model = Experts()
    load(model, path, EXPERTS)
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out").isdisjoint(model.state_dict())
    mapping = ConversionMapping.from_json(_mapping(tmp_path))
    assert all(trace.transforms for trace in mapping.trace(keys(path)).values())


def _mapping(tmp_path):
    ConversionMapping(EXPERTS).to_json(tmp_path / "mapping.json")
    return tmp_path / "mapping.json"
