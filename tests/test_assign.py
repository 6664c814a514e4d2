"""Loading by taking tensors as they lie: mapped from files, named anew, never written back."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import nn
from weights import Tower, state, write, write_shards

from treealign import Rename, load, save
from treealign.errors import FormatError, LoadError


def on_meta(make=Tower):
    with torch.device("meta"):
        return make()


def old_name(key: str) -> str:
    return key.replace("layers.", "blocks.").replace("attn", "attention")


MAPPING = [Rename("blocks", "layers"), Rename("**.attention", "**.attn")]


@pytest.fixture
def file(tmp_path):
    torch.manual_seed(0)
    return write(tmp_path / "model.safetensors", state(Tower(), old_name))


def storages(model):
    return {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}


def mapped_from(path, tensor):
    """Whether the memory of a tensor is that of a file."""
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    return any(low <= tensor.data_ptr() < high for low, high in ranges)


def test_renamed_tensors_are_the_files_own_memory(file):
    model = on_meta()
    load(model, file, MAPPING, assign=True)
    assert all(mapped_from(file, tensor) for tensor in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), read(file).values(), strict=True))


def read(file):
    plain = Tower()
    load(plain, file, MAPPING)
    return plain.state_dict()


def test_without_it_every_tensor_has_memory_of_its_own(file):
    model = on_meta()
    load(model, file, MAPPING)
    assert not any(mapped_from(file, tensor) for tensor in model.parameters())


def test_what_training_writes_stays_in_memory(file):
    before = file.read_bytes()
    model = on_meta()
    load(model, file, MAPPING, assign=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert file.read_bytes() == before


def test_shards_each_have_their_mapping(tmp_path):
    tensors = state(Tower(), old_name)
    names = sorted(tensors)
    folder = write_shards(tmp_path / "in", [{k: tensors[k] for k in names[at::3]} for at in range(3)])
    model = on_meta()
    load(model, folder, MAPPING, assign=True)
    assert all(torch.equal(tensor, tensors[old_name(key)]) for key, tensor in model.state_dict().items())


def test_a_save_gives_the_file_back_byte_for_byte(file, tmp_path):
    model = on_meta()
    load(model, file, MAPPING, assign=True)
    save(model, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == file.read_bytes()


def test_it_may_be_saved_over_the_file_it_is_mapped_from(file):
    before = file.read_bytes()
    model = on_meta()
    load(model, file, MAPPING, assign=True)
    save(model, file.parent)
    assert file.read_bytes() == before
    assert all(torch.isfinite(tensor).all() for tensor in model.parameters())


def test_a_copy_of_one_parameter_does_not_take_the_file_along(file):
    model = on_meta()
    load(model, file, MAPPING, assign=True)
    assert copy.deepcopy(model.final.weight).untyped_storage().nbytes() == model.final.weight.nbytes
    sizes = [len(torch_saved(weight)) for weight in (model.final.weight, Tower().final.weight)]
    assert sizes[0] == sizes[1]


def torch_saved(tensor):
    buffer = io.BytesIO()
    torch.save(tensor, buffer)
    return buffer.getvalue()


def test_parameters_in_memory_stay_the_objects_they_are(file):
    model = Tower()
    before = dict(model.named_parameters())
    load(model, file, MAPPING, assign=True)
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    assert all(mapped_from(file, tensor) for tensor in model.parameters())


def test_a_cast_or_an_operation_takes_memory_of_its_own(file):
    model = on_meta(lambda: Tower().to(torch.bfloat16))
    load(model, file, MAPPING, dtype="model", assign=True)
    assert not any(mapped_from(file, tensor) for tensor in model.parameters())


def test_tensors_at_odd_addresses_are_read(tmp_path):
    from byte_builders import file_bytes, tensor

    data = bytes([1]) + torch.arange(4.0).numpy().tobytes()
    header = {"flag": tensor("U8", [1], 0, 1), "weight": tensor("F32", [2, 2], 1, 17)}
    (tmp_path / "x.safetensors").write_bytes(file_bytes(header, data))
    model = nn.Linear(2, 2, bias=False, device="meta")
    model.register_buffer("flag", torch.zeros(1, dtype=torch.uint8))
    load(model, tmp_path / "x.safetensors", [], assign=True)
    assert torch.equal(model.weight, torch.arange(4.0).view(2, 2))


def test_two_keys_over_one_memory_do_not_become_tied(tmp_path):
    shared = torch.randn(3, 3)
    torch.save({"a.weight": shared, "b.weight": shared}, tmp_path / "x.bin")
    model = nn.ModuleDict({name: nn.Linear(3, 3, bias=False, device="meta") for name in "ab"})
    load(model, tmp_path / "x.bin", [], assign=True)
    assert len(storages(model)) == 2


def test_a_state_dict_is_shared_as_torch_does():
    given = state(Tower())
    model = on_meta()
    load(model, given, [], assign=True)
    assert all(tensor.data_ptr() == given[key].data_ptr() for key, tensor in model.state_dict().items())


def test_a_file_that_became_shorter_is_refused_before_it_is_mapped(file, monkeypatch):
    from treealign.checkpoint import loading

    judge = loading.judge

    def cut(*arguments, **named):
        file.write_bytes(file.read_bytes()[:-64])
        return judge(*arguments, **named)

    monkeypatch.setattr(loading, "judge", cut)
    model = on_meta()
    with pytest.raises(LoadError, match="has changed since"):
        load(model, file, MAPPING, assign=True)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_ties_stay_ties(tmp_path):
    from weights import TiedHead

    path = write(tmp_path / "m.safetensors", {k: v for k, v in state(TiedHead()).items() if k != "head.weight"})
    model = on_meta(TiedHead)
    load(model, path, [], assign=True)
    assert model.head.weight is model.embed.weight
    assert mapped_from(path, model.embed.weight)


def test_only_files_that_are_there_can_be_loaded():
    with pytest.raises(FormatError):
        load(on_meta(), "no/such.safetensors", assign=True)
