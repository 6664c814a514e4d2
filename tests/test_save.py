"""Saving: what was loaded goes back as it came, whatever happened to the model in between."""

from __future__ import annotations

import copy
import io
import json
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from weights import Block, TiedHead, Tower, TwoTowers, keys, saved_keys, state, write

from treealign import ConversionMapping, Convert, PrefixChange, Rename, load, operations, save
from treealign.errors import FormatError, LoadError

UNPREFIXED = ConversionMapping([PrefixChange(remove="model")])


def prefixed(key):
    return f"model.{key}"


@pytest.fixture
def loaded(tmp_path):
    """A model, and the file that it was loaded from."""
    path = write(tmp_path / "in.safetensors", state(Tower(), prefixed))
    model = Tower()
    load(model, path, UNPREFIXED)
    return model, path


def comes_back(model, path, tmp_path):
    save(model, tmp_path / "out")
    return (tmp_path / "out" / "model.safetensors").read_bytes() == path.read_bytes()


# -- what survives -----------------------------------------------------------------------------------------------------


def test_a_file_comes_back_byte_for_byte(loaded, tmp_path):
    assert comes_back(*loaded, tmp_path)


def test_a_copy_of_the_model_knows_its_names(loaded, tmp_path):
    model, path = loaded
    assert comes_back(copy.deepcopy(model), path, tmp_path)


def test_a_pickled_model_knows_its_names(loaded, tmp_path):
    model, path = loaded
    assert comes_back(pickle.loads(pickle.dumps(model)), path, tmp_path)


def test_a_model_saved_by_torch_knows_its_names(loaded, tmp_path):
    model, path = loaded
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert comes_back(torch.load(file, weights_only=False), path, tmp_path)


def test_what_a_module_carries_needs_no_treealign_to_be_unpickled(loaded):
    class Plain(pickle.Unpickler):
        def find_class(self, module, name):
            raise AssertionError(f"{module}.{name}")

    carried = loaded[0].__dict__["_treealign_record"]
    assert Plain(io.BytesIO(pickle.dumps(carried))).load() == carried


@pytest.mark.parametrize(
    "wrap",
    [torch.compile, nn.DataParallel, lambda m: nn.ModuleDict({"net": m}), nn.Sequential],
    ids=["compile", "parallel", "own", "sequential"],
)
def test_a_wrapped_model_knows_its_names(loaded, tmp_path, wrap):
    model, path = loaded
    assert comes_back(wrap(model), path, tmp_path)


def test_a_wrapped_layer_keeps_its_names(loaded, tmp_path):
    model, path = loaded
    model.layers[1] = torch.compile(model.layers[1])
    assert comes_back(model, path, tmp_path)


def test_a_layer_that_was_replaced_keeps_the_names_of_its_place(loaded, tmp_path):
    model, path = loaded
    model.layers[1] = Block()
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == keys(path)


def test_the_next_process_picks_the_record_up(loaded, tmp_path):
    model, path = loaded
    save(model, tmp_path / "out")
    again = Tower()
    result = load(again, tmp_path / "out")
    assert (result.decided_by, result.mapping) == ("record", UNPREFIXED)
    assert comes_back(again, path, tmp_path)


def test_a_second_load_of_a_part_leaves_the_rest_as_it_was(loaded, tmp_path):
    model, path = loaded
    part = {"other.final.weight": torch.ones(4), "other.final.bias": torch.ones(4)}
    load(model, part, [PrefixChange(remove="other")], strict=False)
    save(model, tmp_path / "out")
    rest = {k for k in keys(path) if "final" not in k}
    assert saved_keys(tmp_path / "out") == rest | {"other.final.weight", "other.final.bias"}


def test_a_second_load_of_everything_counts_alone(loaded, tmp_path):
    model, _ = loaded
    other = write(tmp_path / "other.safetensors", state(Tower()))
    load(model, other, ConversionMapping())
    assert comes_back(model, other, tmp_path)
    assert not (tmp_path / "out" / "treealign_record.json").exists()


@given(mixed=st.sets(st.sampled_from(list(Tower().state_dict()))), sample=st.randoms())
def test_any_mixture_of_names_comes_back_whatever_the_order(mixed, sample):
    old = [(prefixed(k) if k in mixed else k, v) for k, v in state(Tower()).items()]
    sample.shuffle(old)
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / "in.safetensors", dict(old))
        model = Tower()
        load(model, path, UNPREFIXED)
        assert comes_back(model, path, Path(folder))


# -- parts and wholes --------------------------------------------------------------------------------------------------


def test_a_part_loads_again_from_what_was_saved_of_it(tmp_path):
    model = TwoTowers()
    old = state(model, lambda k: k.replace("vision.", "visual.model."))
    load(model, old, [Rename("visual", "vision"), PrefixChange(remove="model", under="vision")])
    save(model.vision, tmp_path / "part")
    assert saved_keys(tmp_path / "part") == {f"model.{k}" for k in model.vision.state_dict()}
    tower = Tower()
    assert load(tower, tmp_path / "part").decided_by == "record"
    save(tower, tmp_path / "again")
    first, second = (tmp_path / name / "model.safetensors" for name in ("part", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_a_whole_of_parts_that_were_loaded_apart_names_each_as_it_came(tmp_path):
    model = TwoTowers()
    load(model.vision, state(Tower(), lambda k: f"clip.{k}"), [PrefixChange(remove="clip")])
    load(model.language, state(Tower(), lambda k: f"llama.{k}"), [PrefixChange(remove="llama")])
    save(model, tmp_path / "out")
    vision = {f"vision.clip.{k}" for k in model.vision.state_dict()}
    language = {f"language.llama.{k}" for k in model.language.state_dict()}
    assert saved_keys(tmp_path / "out") == vision | language | {"scale"}
    again = TwoTowers()
    assert load(again, tmp_path / "out").decided_by == "record"
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    save(again, tmp_path / "again")
    first, second = (tmp_path / name / "model.safetensors" for name in ("out", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_a_model_deepened_by_copies_names_the_new_layers_by_their_place(tmp_path):
    model = Tower()
    load(model, state(model, prefixed), UNPREFIXED)
    model.layers.append(copy.deepcopy(model.layers[0]))
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == {f"model.{k}" for k in model.state_dict()}


def test_a_new_parameter_is_renamed_as_everything_around_it(loaded, tmp_path):
    model, path = loaded
    model.extra = nn.Parameter(torch.ones(2))
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == keys(path) | {"model.extra"}


def test_a_new_parameter_beside_a_mixture_keeps_its_name(tmp_path):
    old = {f"model.{k}" if "final" in k else k: v for k, v in state(Tower()).items()}
    model = Tower()
    load(model, old, UNPREFIXED)
    model.extra = nn.Parameter(torch.ones(2))
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == {*old, "extra"}


def test_a_new_parameter_is_in_the_record_too(loaded, tmp_path):
    model, _ = loaded
    model.extra = nn.Parameter(torch.ones(2))
    save(model, tmp_path / "out")
    again = Tower()
    again.extra = nn.Parameter(torch.zeros(2))
    assert load(again, tmp_path / "out").decided_by == "record"
    assert torch.equal(again.extra, torch.ones(2))


def test_a_removed_layer_is_left_out(loaded, tmp_path):
    model, path = loaded
    del model.layers[1]
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == {k for k in keys(path) if "layers.1" not in k}


# -- what changed ------------------------------------------------------------------------------------------------------


def test_a_resized_vocabulary_is_saved_in_its_new_shape(tmp_path):
    model = TiedHead()
    old = {k: v for k, v in state(model, prefixed).items() if "head" not in k}
    load(model, old, UNPREFIXED)
    model.embed = nn.Embedding(9, 4)
    model.head.weight = model.embed.weight
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == old.keys()
    mismatch = load(TiedHead(), tmp_path / "out", strict=False).mismatched_keys[0]
    assert (mismatch.model, mismatch.checkpoint_shape, mismatch.model_shape) == ("embed.weight", (9, 4), (6, 4))


def fused(model):
    """A checkpoint with the rows of one weight in two tensors, and its mapping."""
    old = state(model)
    weight = old.pop("attn.weight")
    old |= {"q.weight": weight[:3], "k.weight": weight[3:]}
    return old, [Convert(["q.weight", "k.weight"], "attn.weight", [operations.Concat(0, (3, 1))])]


def test_parts_of_unequal_size_come_back_byte_for_byte(tmp_path):
    model = Block()
    old, rules = fused(Block())
    path = write(tmp_path / "in.safetensors", old)
    load(model, path, rules)
    assert comes_back(model, path, tmp_path)


def test_a_conversion_that_no_longer_fits_is_refused(tmp_path):
    model = Block()
    old, rules = fused(model)
    load(model, old, rules)
    model.attn = nn.Linear(4, 7)
    with pytest.raises(LoadError, match=r"q\.weight, k\.weight") as caught:
        save(model, tmp_path / "out")
    assert "original_names=False" in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert save(model, tmp_path / "out", original_names=False).keys == tuple(model.state_dict())


def test_the_names_of_the_model_are_used_when_asked_for(loaded, tmp_path):
    model, _ = loaded
    save(model, tmp_path / "out", original_names=False)
    assert saved_keys(tmp_path / "out") == model.state_dict().keys()
    assert not (tmp_path / "out" / "treealign_record.json").exists()


def test_what_was_cast_on_loading_is_cast_back_where_nothing_is_lost(tmp_path):
    path = write(tmp_path / "in.safetensors", state(Tower(), prefixed, torch.bfloat16))
    model = Tower()
    load(model, path, UNPREFIXED, dtype="model")
    assert comes_back(model, path, tmp_path)


def test_what_cannot_be_cast_back_keeps_its_dtype_and_is_told(tmp_path):
    model = Tower()
    load(model, state(Tower(), prefixed, torch.bfloat16), UNPREFIXED, dtype="model")
    model.final.weight.data[0] = 1.0001
    with pytest.warns(UserWarning, match=r"saved as float32.*\n  model\.final\.weight"):
        result = save(model, tmp_path / "out")
    assert result.uncast == {"model.final.weight": ("float32", "bfloat16")}


def test_a_buffer_that_the_model_computes_goes_back_as_it_was(tmp_path):
    model = nn.Linear(2, 2)
    model.register_buffer("inv_freq", torch.ones(2), persistent=False)
    path = write(tmp_path / "in.safetensors", state(model, prefixed) | {"model.inv_freq": torch.rand(2)})
    load(model, path, UNPREFIXED)
    assert comes_back(copy.deepcopy(model), path, tmp_path)


def weight_norm():
    rules = [Convert(["weight_g", "weight_v"], "weight", [operations.FoldWeightNorm(0)])]
    return {"weight_g": torch.rand(2, 1), "weight_v": torch.randn(2, 3)}, rules


def test_a_lossy_conversion_goes_back_as_it_was_while_nothing_changed(tmp_path):
    old, rules = weight_norm()
    path = write(tmp_path / "in.safetensors", old)
    model = nn.Linear(3, 2, bias=False)
    load(model, path, rules, allow_lossy=True)
    assert comes_back(model, path, tmp_path)


def test_a_lossy_conversion_of_changed_weights_is_told(tmp_path):
    old, rules = weight_norm()
    model = nn.Linear(3, 2, bias=False)
    load(model, old, rules, allow_lossy=True)
    with torch.no_grad():
        model.weight.mul_(2)
    assert save(model, tmp_path / "out").approximate == ("weight_g", "weight_v")
    again = nn.Linear(3, 2, bias=False)
    load(again, tmp_path / "out", rules, allow_lossy=True)
    assert torch.allclose(again.weight, model.weight)


# -- tensors -----------------------------------------------------------------------------------------------------------


def test_a_tied_weight_is_saved_once_and_restored_tied(tmp_path):
    model = TiedHead()
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == set(model.state_dict()) - {"head.weight"}
    again = TiedHead()
    load(again, tmp_path / "out", ConversionMapping())
    assert again.head.weight is again.embed.weight
    assert torch.equal(again.embed.weight, model.embed.weight)


def test_a_tied_weight_goes_back_under_the_names_that_the_checkpoint_had(tmp_path):
    for left_out in ("model.embed.weight", "model.head.weight", ""):
        old = {k: v for k, v in state(TiedHead(), prefixed).items() if k != left_out}
        path = write(tmp_path / "in.safetensors", old)
        model = TiedHead()
        load(model, path, UNPREFIXED)
        assert comes_back(model, path, tmp_path)


def test_strided_and_shared_tensors_are_saved(tmp_path):
    model = nn.Module()
    base = torch.randn(4, 6)
    model.a = nn.Parameter(base.t())
    model.b = nn.Parameter(base[1:3])
    model.c = nn.Parameter(torch.empty(0, 3))
    model.d = nn.Parameter(torch.tensor(2.0))
    model.register_buffer("e", torch.tensor([True, False]).expand(3, 2))
    save(model, tmp_path / "out")
    from safetensors.torch import load_file

    read = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(v, read[k]) for k, v in model.state_dict().items())


def test_a_model_on_the_meta_device_has_nothing_to_save(tmp_path):
    with torch.device("meta"), pytest.raises(LoadError, match="no values yet"):
        save(Tower(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -- files -------------------------------------------------------------------------------------------------------------


def sharded(folder, tensors, metadata):
    index = {}
    names = sorted(tensors)
    for n, part in enumerate((names[::2], names[1::2]), 1):
        name = f"model-0000{n}-of-00002.safetensors"
        write(folder / name, {k: tensors[k] for k in part}, {"format": "pt", "part": str(n)})
        index |= dict.fromkeys(part, name)
    text = json.dumps({"metadata": metadata, "weight_map": index}, indent=2, sort_keys=True) + "\n"
    (folder / "model.safetensors.index.json").write_text(text)
    return sorted(path.name for path in folder.iterdir())


def test_shards_come_back_byte_for_byte(tmp_path):
    old = state(Tower(), prefixed)
    files = sharded(tmp_path / "in", old, {"total_size": sum(v.nbytes for v in old.values()), "note": 1})
    model = Tower()
    load(model, tmp_path / "in", UNPREFIXED)
    save(model, tmp_path / "out")
    assert all((tmp_path / "in" / f).read_bytes() == (tmp_path / "out" / f).read_bytes() for f in files)


def test_an_index_that_says_no_size_says_none_afterwards(tmp_path):
    files = sharded(tmp_path / "in", state(Tower(), prefixed), {})
    model = Tower()
    load(model, tmp_path / "in", UNPREFIXED)
    save(model, tmp_path / "out")
    assert all((tmp_path / "in" / f).read_bytes() == (tmp_path / "out" / f).read_bytes() for f in files)


def test_a_new_parameter_goes_where_its_neighbours_are(tmp_path):
    old = state(Tower(), prefixed)
    sharded(tmp_path / "in", old, {})
    model = Tower()
    load(model, tmp_path / "in", UNPREFIXED)
    model.layers[1].norm.extra = nn.Parameter(torch.ones(2))
    save(model, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    places = index["weight_map"]
    assert places["model.layers.1.norm.extra"] == places["model.layers.1.norm.bias"]


def test_files_are_cut_to_size_when_asked(tmp_path):
    result = save(Tower(), tmp_path, max_shard_size=200)
    assert result.files[-1] == "model.safetensors.index.json"
    assert all((tmp_path / name).stat().st_size < 1500 for name in result.files[:-1])
    again = Tower()
    load(again, tmp_path, ConversionMapping())


def test_the_order_of_tensors_in_a_file_is_kept(tmp_path):
    from byte_builders import written

    from treealign.formats.safetensors_writer import TensorPlan

    plan = [TensorPlan("b", "F32", (2,)), TensorPlan("a", "F32", (2,)), TensorPlan("c", "F32", (1,))]
    path = tmp_path / "in.safetensors"
    written(path, plan, lambda key: bytes(8 if key != "c" else 4), {"by": "hand"}, header_size=512)
    model = nn.Module()
    for name, size in (("a", 2), ("b", 2), ("c", 1)):
        model.register_parameter(name, nn.Parameter(torch.ones(size)))
    load(model, path, ConversionMapping())
    assert comes_back(model, path, tmp_path)


def test_a_torch_file_comes_back_as_safetensors_with_its_keys(tmp_path):
    old = state(Tower(), prefixed)
    torch.save(old, tmp_path / "pytorch_model.bin")
    model = Tower()
    load(model, tmp_path / "pytorch_model.bin", UNPREFIXED)
    save(model, tmp_path / "out")
    assert saved_keys(tmp_path / "out") == old.keys()


def test_shards_of_torch_files_keep_their_division(tmp_path):
    old = state(Tower(), prefixed)
    parts = {"pytorch_model-00001-of-00002.bin": sorted(old)[:4], "pytorch_model-00002-of-00002.bin": sorted(old)[4:]}
    for name, part in parts.items():
        torch.save({k: old[k] for k in part}, tmp_path / name)
    index = {"weight_map": {k: name for name, part in parts.items() for k in part}, "metadata": {"total_size": 1}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    model = Tower()
    load(model, tmp_path, UNPREFIXED)
    result = save(model, tmp_path / "out")
    assert result.files[:2] == ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    assert keys(tmp_path / "out" / result.files[0]) == set(sorted(old)[:4])


def test_a_save_replaces_what_was_there_and_leaves_other_files(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    save(Tower(), tmp_path, max_shard_size=200)
    save(Tower(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    save(Tower(), tmp_path, max_shard_size=200)
    assert not (tmp_path / "model.safetensors").exists()
    load(Tower(), tmp_path, ConversionMapping())


def test_a_damaged_record_is_named(loaded, tmp_path):
    save(loaded[0], tmp_path / "out")
    (tmp_path / "out" / "treealign_record.json").write_text('{"format": "treealign.saved", "version": 99}')
    with pytest.raises(FormatError, match=r"treealign_record\.json"):
        load(Tower(), tmp_path / "out")


def test_a_record_that_fits_other_weights_is_not_followed(loaded, tmp_path):
    save(loaded[0], tmp_path / "out")
    old = state(Tower())
    write(tmp_path / "out" / "model.safetensors", old)
    assert load(Tower(), tmp_path / "out", hints=None).decided_by == "suggestion"


# -- interruptions -----------------------------------------------------------------------------------------------------


def ones():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1.0)
    return model


def test_a_save_that_fails_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    save(ones(), tmp_path, max_shard_size=100)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    replace, calls = Path.replace, []

    def failing(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(FormatError, match="No space left"):
        save(Tower(), tmp_path, max_shard_size=50)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_path_of_a_file_is_that_file_and_leaves_its_neighbours_alone(tmp_path):
    model = nn.Linear(3, 2)
    given = {f"model.{key}": value for key, value in nn.Linear(3, 2).state_dict().items()}
    load(model, given, [PrefixChange(remove="model")])
    other = tmp_path / "model.safetensors"
    save(nn.Linear(5, 5), tmp_path)
    before = other.read_bytes()
    result = save(model, tmp_path / "mine.safetensors")
    assert result.files == ("mine.safetensors",)
    assert set(result.keys) == {"model.weight", "model.bias"}
    assert other.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.safetensors", "model.safetensors"]


@pytest.mark.parametrize("size", [None, 8])
def test_a_dtype_that_safetensors_has_not_is_refused_by_name(tmp_path, size):
    class Numbers(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.ones(2, dtype=torch.complex128))

    model = Numbers()
    load(model, {"a": torch.ones(2, dtype=torch.complex128)}, [])
    with pytest.raises(FormatError, match=r"a: torch\.complex128"):
        save(model, tmp_path / "out", max_shard_size=size)
    assert not (tmp_path / "out").exists()
