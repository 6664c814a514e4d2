"""Messages name the cause: what is the matter with a checkpoint, not each of its consequences."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import treealign
from treealign import KeyTree, TreealignError
from treealign.align.holes import absent_leaves

ROOT = Path(__file__).parent.parent


class Leaves(nn.Module):
    """A module tree of parameters under given keys."""

    def __init__(self, tensors):
        super().__init__()
        for key, tensor in tensors.items():
            at, (*path, leaf) = self, key.split(".")
            for part in path:
                if part not in at._modules:
                    at.add_module(part, nn.Module())
                at = at._modules[part]
            at.register_parameter(leaf, nn.Parameter(tensor.clone(), requires_grad=tensor.is_floating_point()))


def message(model, checkpoint, **options) -> str:
    with pytest.raises(TreealignError) as raised:
        treealign.load(model, checkpoint, **options)
    return str(raised.value)


def experts(layers=2, count=6):
    checkpoint, model = {}, {}
    for n in range(layers):
        at = f"model.layers.{n}.mlp."
        checkpoint[at + "gate.weight"] = torch.randn(count, 8)
        model[at + "gate.weight"] = torch.zeros(count, 8)
        for e in range(count):
            for name, shape in (("gate_proj", (12, 8)), ("up_proj", (12, 8)), ("down_proj", (8, 12))):
                checkpoint[f"{at}experts.{e}.{name}.weight"] = torch.randn(shape)
        model[at + "experts.gate_up_proj"] = torch.zeros(count, 24, 8)
        model[at + "experts.down_proj"] = torch.zeros(count, 8, 12)
    return checkpoint, model


LOST = [
    ["model.layers.1.mlp.experts.4.up_proj.weight"],
    ["model.layers.0.mlp.experts.0.down_proj.weight"],
    ["model.layers.1.mlp.experts.5.gate_proj.weight"],
    [f"model.layers.1.mlp.experts.2.{name}_proj.weight" for name in ("gate", "up", "down")],
]


@pytest.mark.parametrize("lost", LOST)
def test_an_absent_member_of_a_list_is_named_and_only_what_it_feeds_is_missing(lost):
    checkpoint, model = experts()
    for key in lost:
        del checkpoint[key]
    layer = lost[0].split(".")[2]
    found = treealign.suggest(checkpoint, Leaves(model))
    assert found.missing_keys
    assert all(key.startswith(f"model.layers.{layer}.mlp.experts.") for key in found.missing_keys)
    text = message(Leaves(model), checkpoint)
    assert [key for key in lost if key not in text] == []


def test_a_whole_checkpoint_has_no_holes_nor_have_lists_of_different_lengths():
    checkpoint, _ = experts()
    assert absent_leaves(treealign.read_tree(checkpoint)) == ()
    shorter = [(f"layers.{i}.experts.{j}.up.weight", (4, 2), "float32") for i in range(4) for j in range(4 + i)]
    assert absent_leaves(KeyTree.from_leaves(shorter)) == ()


def test_a_layer_that_lacks_a_leaf_rightly_changes_nothing():
    leaves = [(f"layers.{i}.{name}.weight", (4,), "float32") for i in range(8) for name in ("norm", "mix")][:-1]
    side = KeyTree.from_leaves(leaves)
    found = treealign.suggest(KeyTree.from_leaves([(f"model.{key}", *rest) for key, *rest in leaves]), side)
    assert (found.ok, found.absent) == (True, frozenset())


def linears(*sizes):
    return nn.ModuleDict({f"layer_{n}": nn.Linear(8, size, bias=False) for n, size in enumerate(sizes)})


def int8(weight):
    return {"": weight.round().to(torch.int8), "_scale": torch.ones(weight.shape[0], 1)}


def nf4(weight):
    state = {".absmax": torch.zeros(2, dtype=torch.uint8), ".quant_map": torch.ones(16)}
    return {"": torch.zeros(weight.numel() // 2, 1, dtype=torch.uint8), **state}


def fp8(weight):
    return {"": weight.to(torch.float8_e4m3fn), "_scale_inv": torch.ones(1, 1)}


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("quantise", [int8, nf4, fp8])
def test_quantised_weights_under_equal_names_are_said_to_be_quantised(quantise, prefix):
    net = linears(6, 10, 14)
    net["norm"], net["final"] = nn.LayerNorm(8), nn.LayerNorm(9)
    checkpoint = {}
    for key, tensor in net.state_dict().items():
        made = quantise(tensor) if "layer" in key else {"": tensor}
        checkpoint |= {f"{prefix}{key}{piece}": value for piece, value in made.items()}
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    text = message(net, checkpoint)
    assert "the checkpoint is quantised and the model is not" in text
    assert "shares nothing" not in text
    treealign.load(net, checkpoint, strict=False)
    assert all(torch.equal(net.state_dict()[key], before[key]) for key in before if "layer" in key)


def test_where_all_weights_are_quantised_it_is_no_checkpoint_that_shares_nothing():
    net = linears(6, 10)
    checkpoint = {f"{key}{piece}": value for key, t in net.state_dict().items() for piece, value in int8(t).items()}
    assert "int8" in message(net, checkpoint)
    assert "shares nothing" not in message(net, checkpoint, strict=False)


@pytest.mark.parametrize("shape", [(3,), (4, 4), (2, 2, 2)])
def test_equal_names_with_irreconcilable_shapes_are_mismatched_with_both(shape):
    sides = [
        [(f"layers.{i}.norm.weight", (8,), "float32") for i in range(3)] + [("head.weight", size, "float32")]
        for size in (shape, (5, 7))
    ]
    found = treealign.suggest(*map(KeyTree.from_leaves, sides))
    (one,) = found.mismatched_keys
    assert (one.checkpoint, one.model) == ("head.weight", "head.weight")
    assert (one.checkpoint_shape, one.model_shape) == (shape, (5, 7))
    assert (found.missing_keys, found.unexpected_keys) == ((), ())


def test_flattened_parameters_of_fsdp_are_called_so():
    flat = {"backbone._fsdp_wrapped_module._flat_param": torch.randn(9)}
    text = message(linears(6), flat)
    assert "flattened parameters of FSDP" in text
    assert "_flat_param" in text


def test_files_that_each_hold_a_piece_of_every_tensor_are_called_so(tmp_path):
    for rank in range(2):
        torch.save({"layers.0.wq.weight": torch.randn(4, 8)}, tmp_path / f"consolidated.{rank:02}.pth")
    text = message(linears(6), tmp_path)
    assert "each file has a piece of every tensor" in text
    assert all(word in text for word in ("consolidated.00.pth", "consolidated.01.pth", "layers.0.wq.weight"))


def test_two_checkpoints_in_a_folder_are_not_taken_for_shards(tmp_path):
    save_file({"a.weight": torch.zeros(2, 2)}, tmp_path / "one.safetensors")
    save_file({"b.weight": torch.zeros(2, 2)}, tmp_path / "two.safetensors")
    text = message(linears(6), tmp_path)
    assert "more than one checkpoint" in text
    assert "piece" not in text


@pytest.fixture
def stale(tmp_path):
    weights = {"a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00002-of-00002.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    return index


@pytest.mark.parametrize("name", ["model.safetensors", "model-00001-of-00001.safetensors"])
def test_an_index_of_other_files_is_said_to_be_stale_with_what_lies_beside(stale, name):
    save_file({"a.weight": torch.zeros(2, 2)}, stale.parent / name)
    text = message(linears(6), stale.parent)
    assert all(word in text for word in (name, stale.name, "model-00001-of-00002.safetensors", "absent"))
    assert "the index is of other files" in text


def show(source):
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "treealign", "show", source]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_show_of_an_index_without_its_shards_is_a_finding(stale):
    done = show(stale)
    assert (done.returncode, "a" in done.stdout) == (1, True)
    assert "model-00001-of-00002.safetensors" in done.stderr


def test_a_cut_file_is_said_to_be_cut_in_five_lines(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({f"layers.{n}.weight": torch.zeros(8, 8) for n in range(60)}, path)
    path.write_bytes(path.read_bytes()[:-9000])
    done = show(path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) <= 5
    assert "cut short" in done.stderr


def test_a_checkpoint_without_a_tensor_is_called_so_and_one_of_another_model_too():
    net = nn.Linear(2, 3)
    assert "the checkpoint holds no tensor" in message(net, {})
    assert "it is of another model" in message(net, {"logit_scale": torch.zeros(7)})


def test_of_quantised_weights_the_cause_stands_before_the_questions_that_follow_from_it():
    net = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 8))
    codes = {key: (value * 9).to(torch.int8) if value.dim() == 2 else value for key, value in net.state_dict().items()}
    scales = {key.replace("weight", "weight_scale"): torch.ones(1) for key in codes if key.endswith("weight")}
    assert "hint: see to the cause first; " in message(net, codes | scales)


def test_no_number_of_another_kind_is_taken_for_a_parameter_and_a_load_says_the_same():
    net = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("q_proj", "k_proj")})
    given = dict(net.state_dict())
    for kind in (torch.int64, torch.bool, torch.complex64):
        changed = given | {"q_proj.bias": given["q_proj.bias"].to(kind)}
        found = treealign.suggest(changed, net)
        said = (
            f"q_proj.bias: {str(kind).removeprefix('torch.')} in the checkpoint cannot become float32 as in the model"
        )
        assert [str(one) for one in found.mismatched_keys] == [said]
        assert (found.questions, found.missing_keys, found.unexpected_keys) == ((), (), ())
        assert said in message(net, changed)


def test_a_buffer_may_be_of_another_kind():
    net = nn.BatchNorm2d(4)
    counted = {key: tensor.float() for key, tensor in net.state_dict().items()}
    assert treealign.suggest(counted, net).ok


def test_an_adapter_given_to_its_base_model_is_called_one():
    parts = {f"base_model.model.layers.{n}.q.lora_{part}.weight": torch.randn(2, 2) for n in (0, 1) for part in "AB"}
    assert "the checkpoint is an adapter (lora_A, lora_B)" in message(linears(6), parts)


def test_the_state_of_an_optimizer_is_no_state_dict_and_says_what_turns_it(tmp_path):
    net = linears(6)
    torch.save(torch.optim.Adam(net.parameters()).state_dict(), tmp_path / "optimizer.pt")
    assert "convert_optimizer" in message(net, tmp_path / "optimizer.pt")
