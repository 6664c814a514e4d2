"""Models whose parameters are not all in one place: shared by processes, or kept elsewhere by another library."""

from __future__ import annotations

import sys
from enum import Enum
from types import ModuleType

import pytest
import torch
from distributed_worker import small
from processes import together
from torch import nn
from weights import unchanged, values, write

from treealign import load, save
from treealign.errors import LoadError


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "in" / "model.safetensors", small().state_dict())


def test_two_processes_load_a_sharded_model_and_save_it_byte_for_byte(file, tmp_path):
    together(tmp_path, "load_and_save", file, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == file.read_bytes()


def test_a_sharded_model_without_memory_is_refused_in_every_process(file, tmp_path):
    together(tmp_path, "refuse_meta", file, tmp_path)
    said = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert ["give it memory first, with `to_empty`" in text for text in said] == [True, True]


def test_flattened_parameters_are_refused_until_they_are_whole(file, tmp_path):
    together(tmp_path, "refuse_flattened", file, tmp_path)
    said = (tmp_path / "1.txt").read_text()
    assert (said.count("FullyShardedDataParallel:"), "summon_full_params" in said) == (2, True)
    assert not (tmp_path / "out").exists()


def offloaded(place: str, tmp_path):
    from accelerate import cpu_offload, disk_offload

    model = small()
    if place == "cpu":
        return cpu_offload(model, execution_device=torch.device("cpu"))
    return disk_offload(model, str(tmp_path / "offload"), execution_device=torch.device("cpu"))


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_parameters_that_accelerate_keeps_are_refused(file, tmp_path, place):
    model = offloaded(place, tmp_path)
    for act in (lambda: load(model, file), lambda: save(model, tmp_path / "out")):
        with pytest.raises(LoadError) as caught:
            act()
        assert "kept off the device by accelerate" in str(caught.value)
        assert "up.weight" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_when_accelerate_has_let_go_a_model_loads(file, tmp_path):
    from accelerate.hooks import remove_hook_from_submodules

    model = offloaded("cpu", tmp_path)
    remove_hook_from_submodules(model)
    load(model, file)
    assert all(map(torch.equal, model.state_dict().values(), small().state_dict().values()))


class Status(Enum):
    """As DeepSpeed has it on each parameter."""

    AVAILABLE = 1
    NOT_AVAILABLE = 2


def test_parameters_that_deepspeed_has_partitioned_are_refused(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", ModuleType("deepspeed"))
    model = small()
    for parameter in model.parameters():
        parameter.ds_id, parameter.ds_status = 1, Status.NOT_AVAILABLE
    before = values(model)
    with pytest.raises(LoadError, match="GatheredParameters"):
        load(model, file)
    assert unchanged(model, before)


def test_parameters_that_deepspeed_has_gathered_load(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", ModuleType("deepspeed"))
    model = small()
    for parameter in model.parameters():
        parameter.ds_id, parameter.ds_status = 1, Status.AVAILABLE
        nn.init.zeros_(parameter)
    load(model, file)
    assert all(map(torch.equal, model.state_dict().values(), small().state_dict().values()))
