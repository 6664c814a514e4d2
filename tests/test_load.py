"""Loading: the verdict comes before the first tensor, and what is loaded is what the checkpoint holds."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from weights import Block, TiedHead, Tower, TwoTowers, same_values, saved_keys, state, unchanged, values, write

from treealign import ConversionMapping, Convert, PrefixChange, Rename, TreealignError, load, operations, save
from treealign.checkpoint import loading, sources
from treealign.checkpoint.tensors import Stored
from treealign.errors import FormatError, LoadError, MappingError
from treealign.mapping.mismatches import Mismatch

UNPREFIXED = ConversionMapping([PrefixChange(remove="model")])


def prefixed(key):
    return f"model.{key}"


def refused(model, checkpoint, mapping=UNPREFIXED, **options):
    """The error of a load that is refused; the model must be untouched."""
    before = values(model)
    with pytest.raises(TreealignError) as caught:
        load(model, checkpoint, mapping, **options)
    assert unchanged(model, before)
    return caught.value


# -- what is loaded ----------------------------------------------------------------------------------------------------


def test_every_tensor_arrives(tmp_path):
    old = state(Tower(), prefixed)
    model = Tower()
    result = load(model, write(tmp_path / "a.safetensors", old), UNPREFIXED)
    assert same_values(model, old, prefixed)
    assert (result.missing_keys, result.unexpected_keys, result.mismatched_keys) == ((), (), ())
    assert result.mapping == UNPREFIXED


@pytest.mark.parametrize("suffix", ["pt", "bin"])
def test_a_torch_file_loads(tmp_path, suffix):
    old = state(Tower(), prefixed)
    torch.save(old, tmp_path / f"x.{suffix}")
    model = Tower()
    load(model, tmp_path / f"x.{suffix}", UNPREFIXED)
    assert same_values(model, old, prefixed)


def test_a_module_is_a_checkpoint_too():
    source, model = Tower(), Tower()
    load(model, source, ConversionMapping())
    assert same_values(model, source.state_dict())
    source.final.weight.data.fill_(7)
    assert not same_values(model, source.state_dict())


def test_shards_load(tmp_path):
    old = state(Tower(), prefixed)
    torch_keys = sorted(old)
    import json

    index = {}
    for n, part in enumerate((torch_keys[:3], torch_keys[3:]), 1):
        name = f"model-0000{n}-of-00002.safetensors"
        write(tmp_path / name, {k: old[k] for k in part})
        index |= dict.fromkeys(part, name)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    model = Tower()
    load(model, tmp_path, UNPREFIXED)
    assert same_values(model, old, prefixed)


def test_the_mapping_may_be_a_path_or_transforms(tmp_path):
    UNPREFIXED.to_json(tmp_path / "mapping.json")
    old = state(Tower(), prefixed)
    for mapping in (tmp_path / "mapping.json", [PrefixChange(remove="model")]):
        model = Tower()
        load(model, old, mapping)
        assert same_values(model, old, prefixed)


# -- dtypes ------------------------------------------------------------------------------------------------------------


def test_parameters_take_the_dtype_of_the_file():
    model = Tower()
    result = load(model, state(Tower(), prefixed, torch.bfloat16), UNPREFIXED)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert dict(result.casts) == {}


def test_or_keep_their_own_and_the_cast_is_told():
    old = state(Tower(), prefixed, torch.bfloat16)
    model = Tower()
    result = load(model, old, UNPREFIXED, dtype="model")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert result.casts == dict.fromkeys(old, "bfloat16")
    assert all(torch.equal(v, old[prefixed(k)].float()) for k, v in model.state_dict().items())


def test_another_dtype_keeps_the_parameters_of_an_optimizer():
    model = Tower()
    before = list(model.parameters())
    load(model, state(Tower(), prefixed, torch.bfloat16), UNPREFIXED)
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))


def test_integers_do_not_become_parameters():
    old = state(Tower(), prefixed)
    old["model.final.weight"] = torch.ones(4, dtype=torch.int8)
    assert "int8" in str(refused(Tower(), old))


def test_a_mask_of_another_kind_is_cast_where_nothing_is_lost():
    model = nn.Module()
    model.register_buffer("mask", torch.zeros(3, dtype=torch.float32))
    result = load(model, {"mask": torch.tensor([True, False, True])}, ConversionMapping())
    assert model.mask.tolist() == [1.0, 0.0, 1.0]
    assert result.casts == {"mask": "bool"}


def test_an_unknown_dtype_rule_is_refused():
    assert "dtype is 'auto'" in str(refused(Tower(), state(Tower(), prefixed), dtype="auto"))


# -- devices, ties, buffers --------------------------------------------------------------------------------------------


def test_a_model_on_the_meta_device_is_made():
    with torch.device("meta"):
        model = TiedHead()
    old = {k: v for k, v in state(TiedHead(), prefixed).items() if not k.endswith("head.weight")}
    load(model, old, UNPREFIXED)
    assert not any(p.is_meta for p in model.parameters())
    assert model.head.weight is model.embed.weight
    assert torch.equal(model.embed.weight, old["model.embed.weight"])


@pytest.mark.parametrize("left_out", ["model.head.weight", "model.embed.weight"])
def test_a_tied_weight_may_stand_under_either_name(left_out):
    old = state(TiedHead(), prefixed)
    del old[left_out]
    model = TiedHead()
    result = load(model, old, UNPREFIXED)
    assert result.missing_keys == ()
    assert model.head.weight is model.embed.weight


def test_a_tied_weight_under_both_names_is_loaded_once():
    old = state(TiedHead(), prefixed)
    model = TiedHead()
    load(model, old, UNPREFIXED)
    assert same_values(model, old, prefixed)


def test_two_different_tensors_for_a_tied_weight_are_refused():
    old = state(TiedHead(), prefixed)
    old["model.head.weight"] += 1
    assert "two different tensors" in str(refused(TiedHead(), old))


def test_buffers_are_loaded():
    source = nn.BatchNorm1d(3)
    source(torch.randn(5, 3))
    model = nn.BatchNorm1d(3)
    load(model, source.state_dict(), ConversionMapping())
    assert same_values(model, source.state_dict())


class Rotary(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(2, 2)
        self.register_buffer("inv_freq", torch.ones(2), persistent=False)


def test_a_buffer_that_the_model_computes_is_listed_apart_and_not_loaded():
    model = Rotary()
    old = state(model, prefixed) | {"model.inv_freq": torch.zeros(2)}
    result = load(model, old, UNPREFIXED)
    assert (result.unexpected_keys, result.recomputed_keys) == ((), ("model.inv_freq",))
    assert torch.equal(model.inv_freq, torch.ones(2))


def test_a_buffer_on_the_meta_device_that_nobody_fills_is_refused():
    with torch.device("meta"):
        model = Rotary()
    with pytest.raises(LoadError, match="on the meta device, and in no checkpoint"):
        load(model, state(Rotary(), prefixed), UNPREFIXED)
    assert all(p.is_meta for p in model.parameters())


def test_a_buffer_on_the_meta_device_that_nobody_fills_is_listed_when_that_is_asked_for():
    with torch.device("meta"):
        model = Rotary()
    result = load(model, state(Rotary(), prefixed), UNPREFIXED, strict=False)
    assert result.uninitialised_keys == ("inv_freq",)
    assert not model.proj.weight.is_meta


def test_a_buffer_on_the_meta_device_is_loaded_where_the_checkpoint_has_it():
    with torch.device("meta"):
        model = Rotary()
    load(model, state(Rotary(), prefixed) | {"model.inv_freq": torch.full((2,), 3.0)}, UNPREFIXED)
    assert model.inv_freq.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("wrap", [torch.compile, lambda m: nn.ModuleDict({"module": m})])
def test_a_mapping_for_the_model_loads_the_wrapped_model(wrap):
    inner = Tower()
    old = state(Tower(), prefixed)
    load(wrap(inner), old, UNPREFIXED)
    assert same_values(inner, old, prefixed)


def test_a_mapping_made_for_the_wrapped_model_is_followed():
    inner = Tower()
    old = state(Tower())
    load(torch.compile(inner), old, [PrefixChange(add="_orig_mod")])
    assert same_values(inner, old)


@pytest.fixture
def sharded():
    """A model whose parameters are shared out over the one process there is."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    model = Tower()
    yield fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    dist.destroy_process_group()


def test_a_sharded_model_is_filled_and_saved(sharded, tmp_path):
    old = state(Tower(), prefixed)
    load(sharded, old, UNPREFIXED)
    assert all(torch.equal(p.full_tensor(), old[prefixed(k)]) for k, p in sharded.named_parameters())
    save(sharded, tmp_path)
    assert saved_keys(tmp_path) == old.keys()


def test_a_sharded_model_keeps_its_dtype(sharded):
    old = state(Tower(), prefixed, torch.bfloat16)
    with pytest.raises(LoadError, match=r"layers\.\{0\.\.1\}\.attn\.bias: sharded, so it keeps its float32"):
        load(sharded, old, UNPREFIXED)
    load(sharded, old, UNPREFIXED, dtype="model")


# -- without a mapping -------------------------------------------------------------------------------------------------


def test_a_mapping_is_suggested_and_followed():
    old = state(Tower(), prefixed)
    model = Tower()
    result = load(model, old)
    assert (result.decided_by, result.mapping) == ("suggestion", UNPREFIXED)
    assert same_values(model, old, prefixed)


class Twins(nn.Module):
    """Two parameters that only their names tell apart."""

    def __init__(self, one, other):
        super().__init__()
        self.layer = nn.Linear(2, 5)
        self.register_parameter(one, nn.Parameter(torch.randn(3)))
        self.register_parameter(other, nn.Parameter(torch.randn(3)))


def test_what_is_ambiguous_is_refused_with_what_would_settle_it():
    text = str(refused(Twins("zum", "bel"), Twins("qua", "dro").state_dict(), None))
    assert "ambiguous:" in text
    assert "qua" in text
    assert "zum" in text


def test_what_is_ambiguous_is_left_alone_when_that_is_asked_for():
    source, model = Twins("qua", "dro"), Twins("zum", "bel")
    before = values(model)
    result = load(model, source, strict=False)
    assert torch.equal(model.layer.weight, source.layer.weight)
    assert set(result.missing_keys) == {"zum", "bel"}
    assert set(result.unexpected_keys) == {"qua", "dro"}
    assert result.ambiguous
    assert torch.equal(model.zum, before["zum"][0])


def test_a_mapping_settles_what_is_ambiguous():
    source, model = Twins("qua", "dro"), Twins("zum", "bel")
    load(model, source, [Rename("qua", "bel"), Rename("dro", "zum")])
    assert torch.equal(model.zum, source.dro)


def test_a_hint_settles_what_is_ambiguous():
    source, model = Twins("qua", "dro"), Twins("zum", "bel")
    load(model, source, hints={"qua": "bel", "dro": "zum"})
    assert torch.equal(model.zum, source.dro)


def test_a_resized_vocabulary_is_a_mismatch_without_a_mapping_too():
    old = state(TiedHead())
    old["embed.weight"] = old["head.weight"] = torch.ones(9, 4)
    text = str(refused(TiedHead(), old, None))
    assert "embed.weight: [9, 4] in the checkpoint, [6, 4] in the model" in text


# -- what was decided before -------------------------------------------------------------------------------------------

CHAIN = [Rename({"norm0": "norm1", "norm1": "norm2"}, before="norm0", after="norm2")]


def two_norms():
    return nn.ModuleDict({"norm1": nn.LayerNorm(2), "norm2": nn.LayerNorm(2)})


@pytest.mark.parametrize("base", [("norm0", "norm1"), ("norm1", "norm2")], ids=["old names", "new names"])
def test_an_adapter_follows_the_names_of_its_base(base, tmp_path):
    names = dict(zip(("norm1", "norm2"), base, strict=True))
    model = two_norms()
    load(model, state(two_norms(), lambda k: k.replace(k[:5], names[k[:5]])), CHAIN)
    load(model, {"norm1.weight": torch.full((2,), 5.0)}, CHAIN, strict=False)
    expected = next(new for new, old in names.items() if old == "norm1")
    assert [name for name, norm in model.items() if norm.weight[0].item() == 5.0] == [expected]


def test_keys_that_do_not_say_whether_they_were_converted_are_refused_unless_that_is_said():
    old = {"norm1.weight": torch.full((2,), 5.0), "norm1.bias": torch.full((2,), 5.0)}
    refused(two_norms(), old, CHAIN, strict=False)
    model = two_norms()
    load(model, old, CHAIN, strict=False, converted=False)
    assert model["norm2"].weight[0].item() == 5.0


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_listed_at_once():
    old = state(Tower(), prefixed)
    del old["model.layers.0.attn.weight"], old["model.layers.1.attn.weight"]
    old |= {"model.extra.0": torch.ones(1), "model.extra.1": torch.ones(1)}
    old["model.final.bias"] = torch.ones(9)
    text = str(refused(Tower(), old))
    assert "layers.{0..1}.attn.weight" in text
    assert "model.extra.{0..1}" in text
    assert "final.bias: [9] in the checkpoint, [4] in the model" in text
    assert "hint: " in text


def test_what_fits_is_loaded_when_that_is_asked_for():
    old = state(Tower(), prefixed)
    del old["model.layers.0.attn.weight"]
    old |= {"model.extra": torch.ones(1), "model.final.bias": torch.ones(9)}
    model = Tower()
    before = values(model)
    result = load(model, old, UNPREFIXED, strict=False)
    assert result.missing_keys == ("layers.0.attn.weight",)
    assert result.unexpected_keys == ("model.extra",)
    assert result.mismatched_keys == (Mismatch("model.final.bias", "final.bias", (9,), (4,)),)
    assert torch.equal(model.layers[0].attn.weight, before["layers.0.attn.weight"][0])
    assert torch.equal(model.final.bias, before["final.bias"][0])
    assert torch.equal(model.final.weight, old["model.final.weight"])


def test_a_mapping_made_for_another_model_is_refused():
    error = refused(Tower(), state(Tower(), prefixed), [Rename("bert", "roberta")])
    assert isinstance(error, MappingError)
    assert "another model" in str(error)


@pytest.mark.parametrize("strict", [True, False])
def test_a_checkpoint_that_shares_nothing_is_refused(strict):
    refused(Tower(), {"wholly.different": torch.ones(7, 3)}, ConversionMapping(), strict=strict)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(TreealignError):
        load(nn.ReLU(), {"a": torch.ones(1)}, ConversionMapping())


def test_two_keys_that_reach_one_are_refused():
    old = state(Tower(), prefixed) | {"final.bias": torch.ones(4)}
    text = str(refused(Tower(), old))
    assert "model.final.bias" in text


def test_parts_that_are_absent_leave_the_whole_missing():
    model = Block()
    old = state(model)
    old["q"] = old.pop("attn.weight")[:2]
    rules = [Convert(["q", "k"], "attn.weight", [operations.Concat(0, (2, 2))])]
    text = str(refused(model, old, rules))
    assert "attn.weight" in text
    assert "q" in text


def test_parts_that_do_not_add_up_are_a_mismatch():
    model = Block()
    old = state(model)
    weight = old.pop("attn.weight")
    old |= {"q": weight[:1], "k": weight[1:]}
    rules = [Convert(["q", "k"], "attn.weight", [operations.Concat(0, (2, 2))])]
    assert "attn.weight: " in str(refused(model, old, rules))


def test_parts_of_different_dtypes_are_joined_only_under_the_dtype_of_the_model():
    model = Block()
    old = state(model)
    weight = old.pop("attn.weight")
    old |= {"q": weight[:2].bfloat16(), "k": weight[2:]}
    rules = [Convert(["q", "k"], "attn.weight", [operations.Concat(0, (2, 2))])]
    assert "differ in dtype" in str(refused(model, old, rules))
    assert load(model, old, rules, dtype="model").casts == {"q": "bfloat16"}


def test_a_conversion_that_loses_something_is_refused_unless_allowed():
    model = nn.Linear(3, 2, bias=False)
    old = {"weight_g": torch.ones(2, 1), "weight_v": torch.randn(2, 3)}
    rules = [Convert(["weight_g", "weight_v"], "weight", [operations.FoldWeightNorm(0)])]
    assert "allow_lossy" in str(refused(model, old, rules))
    load(model, old, rules, allow_lossy=True)
    assert torch.allclose(model.weight.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b""), lambda p: p.write_bytes(p.read_bytes()[:-3])])
def test_a_damaged_file_is_refused_before_anything_is_touched(tmp_path, damage):
    path = write(tmp_path / "a.safetensors", state(Tower(), prefixed))
    damage(path)
    assert isinstance(refused(Tower(), path), FormatError)


# -- interruptions -----------------------------------------------------------------------------------------------------


def failing_at(count, monkeypatch):
    """Let the reading of the tensor with this number fail."""
    fill, calls = Stored.fill, []

    def failing(self, *args):
        calls.append(args)
        if len(calls) == count:
            raise FormatError("the disk is gone")
        fill(self, *args)

    monkeypatch.setattr(Stored, "fill", failing)


def test_a_load_that_stops_midway_says_what_it_changed(tmp_path, monkeypatch):
    path = write(tmp_path / "a.safetensors", state(Tower(), prefixed))
    failing_at(2, monkeypatch)
    with pytest.raises(LoadError, match="stopped midway") as caught:
        load(Tower(), path, UNPREFIXED)
    assert "the disk is gone" in str(caught.value)
    assert "final.bias" in str(caught.value)


@pytest.mark.parametrize("assign", [False, True])
def test_what_is_saved_over_a_checkpoint_while_it_is_loaded_is_not_read(tmp_path, monkeypatch, assign):
    first = Tower()
    save(first, tmp_path / "out", max_shard_size=64)
    judge = loading.judge

    def overtaken(*arguments, **named):
        save(Tower(), tmp_path / "out", max_shard_size=64)
        return judge(*arguments, **named)

    monkeypatch.setattr(loading, "judge", overtaken)
    model = Tower()
    load(model, tmp_path / "out", assign=assign)
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_load_that_stops_midway_leaves_a_model_on_the_meta_device_as_it_was(tmp_path, monkeypatch):
    path = write(tmp_path / "a.safetensors", state(Tower(), prefixed))
    failing_at(5, monkeypatch)
    with torch.device("meta"):
        model = Tower()
    with pytest.raises(LoadError, match="the model is as it was"):
        load(model, path, UNPREFIXED)
    assert all(p.is_meta for p in model.parameters())


def test_only_what_one_conversion_needs_is_in_memory(tmp_path, monkeypatch):
    model = TwoTowers()
    path = write(tmp_path / "a.safetensors", state(model, prefixed))
    alive, read = [], sources.Source.read

    def reading(self, key):
        import gc
        import weakref

        gc.collect()
        assert sum(ref() is not None for ref in alive) == 0
        tensor = read(self, key)
        alive.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(sources.Source, "read", reading)
    load(model, path, UNPREFIXED)
    assert len(alive) == len(model.state_dict())
