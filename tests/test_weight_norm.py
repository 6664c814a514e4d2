"""Weight norm: renamed between its two spellings, folded into a plain weight only by those who allow it."""

from __future__ import annotations

import pytest
import torch
from aligning import aligned, certain_pairs
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from weights import state, unchanged, values, write

from treealign import load, save, suggest
from treealign.errors import LoadError
from treealign.mapping.operations import is_lossy


def plain(module):
    return module


class Stack(nn.Module):
    """Convolutions as in a vocoder."""

    def __init__(self, norm):
        super().__init__()
        self.conv_pre = norm(nn.Conv1d(4, 8, 3))
        self.ups = nn.ModuleList([norm(nn.ConvTranspose1d(8, 8, 2)), norm(nn.ConvTranspose1d(8, 6, 3))])
        self.conv_post = norm(nn.Conv1d(6, 1, 5))

    def forward(self, x):
        return self.conv_post(self.ups[1](self.ups[0](self.conv_pre(x))))


def spelled_as_before(key):
    key = key.replace("parametrizations.weight.original0", "weight_g")
    return key.replace("parametrizations.weight.original1", "weight_v")


def normed(seed):
    """With lengths that are not those of the directions, as after training."""
    torch.manual_seed(seed)
    model = Stack(weight_norm)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.mul_(1 + torch.rand(()))
    return model


SPELLINGS = pytest.mark.parametrize("spelling", [spelled_as_before, str], ids=["weight_g", "parametrizations"])


def test_the_two_spellings_are_renames_and_come_back_byte_for_byte(tmp_path):
    source, model = normed(1), normed(2)
    path = write(tmp_path / "given" / "model.safetensors", state(source, spelled_as_before))
    assert not any(m.operations for m in suggest(path, model).matches)
    load(model, path)
    x = torch.randn(1, 4, 12)
    assert torch.equal(model(x), source(x))
    save(model, tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == path.read_bytes()


@SPELLINGS
def test_a_fold_is_recognised_as_lossy_and_refused(tmp_path, spelling):
    path = write(tmp_path / "model.safetensors", state(normed(1), spelling))
    model = Stack(plain)
    before = values(model)
    folds = [m for m in suggest(path, model).matches if m.operations]
    assert len(folds) == 4
    assert all(is_lossy(m.operations) and m.certain for m in folds)
    with pytest.raises(LoadError, match="lossy"):
        load(model, path)
    assert unchanged(model, before)


@SPELLINGS
def test_a_fold_that_is_allowed_computes_the_same_and_goes_back_byte_for_byte(tmp_path, spelling):
    source, model = normed(1), Stack(plain)
    path = write(tmp_path / "given" / "model.safetensors", state(source, spelling))
    load(model, path, allow_lossy=True)
    x = torch.randn(1, 4, 12)
    assert torch.allclose(model(x), source(x), atol=1e-6)
    save(model, tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == path.read_bytes()


def test_a_plain_weight_is_unfolded_only_by_those_who_allow_it(tmp_path):
    source, model = Stack(plain), normed(2)
    path = write(tmp_path / "given" / "model.safetensors", state(source))
    with pytest.raises(LoadError, match="lossy"):
        load(model, path)
    load(model, path, allow_lossy=True)
    x = torch.randn(1, 4, 12)
    assert torch.allclose(model(x), source(x), atol=1e-6)
    save(model, tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == path.read_bytes()


def test_a_fold_between_modules_whose_names_say_nothing_is_no_certainty():
    norms = {"weight_g": (8, 1, 1), "weight_v": (8, 4, 3)}
    checkpoint = {f"net.{n}.{leaf}": shape for n in ("aaa", "bbb") for leaf, shape in norms.items()}
    model = {f"net.{n}.weight": (8, 4, 3) for n in ("first", "second")} | {"head.weight": (2, 4)}
    found = aligned({**checkpoint, "head.weight": (2, 4)}, model)
    assert [m for m in found.matches if m.certain and m.checkpoint != ("head.weight",)] == []


def test_a_length_of_another_shape_is_no_weight_norm():
    checkpoint = {"conv.weight_g": (8, 4, 1), "conv.weight_v": (8, 4, 3), "head.weight": (2, 4)}
    found = aligned(checkpoint, {"conv.weight": (8, 4, 3), "head.weight": (2, 4)})
    assert certain_pairs(found) == {"head.weight": "head.weight"}
    assert found.unexpected_keys == ("conv.weight_g",)
