"""`verify`: what was loaded, saved or converted gives what was recorded of the original."""

from __future__ import annotations

import sys
from subprocess import run

import pytest
import torch
from safetensors.torch import load_file, save_file

import treealign
from data.port.original import build, call


@pytest.fixture(scope="module")
def model():
    transformers = pytest.importorskip("transformers")
    return transformers.LlamaForCausalLM(transformers.AutoConfig.from_pretrained("data/port"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    file = tmp_path_factory.mktemp("recorded") / "run.pt"
    treealign.record(build, call, file)
    return file


@pytest.fixture(scope="module")
def mapping(model, recorded):
    return treealign.suggest(build().state_dict(), model, original=recorded).mapping


def test_a_load_is_proved_and_one_under_another_guess_is_refuted(model, recorded, mapping):
    treealign.load(model, build().state_dict(), mapping)
    proof = treealign.verify(model, recorded)
    assert proof.proved
    assert proof.unproved == {}
    with torch.no_grad():
        rows = model.model.layers[1].self_attn.q_proj.weight
        rows.copy_(rows.roll(1, 0))
    refuted = treealign.verify(model, recorded)
    assert not refuted.proved
    assert "the outputs differ" in refuted.reason


def test_what_was_saved_is_proved_by_itself_and_the_model_stays_as_it_is(model, recorded, mapping, tmp_path):
    treealign.load(model, build().state_dict(), mapping)
    treealign.save(model, tmp_path)
    empty = type(model)(model.config)
    before = {key: tensor.clone() for key, tensor in empty.state_dict().items()}
    assert treealign.verify(empty, recorded, tmp_path).proved
    assert all(torch.equal(tensor, before[key]) for key, tensor in empty.state_dict().items())


def test_a_slice_of_the_outputs_speaks_of_what_it_depends_on_only(tmp_path):
    net = torch.nn.Linear(4, 3)
    torch.save({"inputs": torch.ones(1, 4), "outputs": net(torch.ones(1, 4))[:, :1].detach()}, tmp_path / "slice.pt")
    proof = treealign.verify(net, tmp_path / "slice.pt")
    assert proof.proved
    with torch.no_grad():
        net.weight[2] += 1  # of which the slice says nothing
    assert treealign.verify(net, tmp_path / "slice.pt").proved


def test_convert_proves_what_it_wrote_by_the_recorded_outputs(model, recorded, mapping, tmp_path):
    source, rules = tmp_path / "model.safetensors", tmp_path / "mapping.json"
    save_file(build().state_dict(), source)
    mapping.to_json(rules)
    given = (str(source), str(tmp_path / "out"), str(rules), "--verify", "--reference", str(recorded))
    command = [sys.executable, "-m", "treealign", "convert", *given, "--model", "transformers:data/port"]
    done = run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "outputs     proved" in done.stdout) == (0, True), done.stderr
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, tmp_path / "out" / "model.safetensors")
    assert not treealign.verify(model, recorded, tmp_path / "out").proved


class _Norms(torch.nn.Module):
    """Two norms whose weights are nearly one, before and behind a layer."""

    def __init__(self):
        super().__init__()
        self.first, self.layer, self.last = torch.nn.RMSNorm(8), torch.nn.Linear(8, 8), torch.nn.RMSNorm(8)
        for norm in (self.first, self.last):
            torch.nn.init.normal_(norm.weight, 1, 1e-4)

    def forward(self, x):
        return self.last(self.layer(self.first(x)))


def test_own_weights_that_are_nearly_equal_are_told_apart_by_exact_outputs(tmp_path):
    """Drawn values differ much; of trained ones an exchange may change the outputs by less than other values would."""
    torch.manual_seed(0)
    own = _Norms()
    treealign.record(own, None, tmp_path / "run.pt", inputs=(torch.randn(4, 8),))
    assert treealign.verify(own, tmp_path / "run.pt").proved
    with torch.no_grad():
        first, last = own.first.weight.clone(), own.last.weight.clone()
        own.first.weight.copy_(last)
        own.last.weight.copy_(first)
    refuted = treealign.verify(own, tmp_path / "run.pt")
    assert (refuted.proved, "more than rounding" in refuted.reason) == (False, True)
    assert set(refuted.verdicts.values()) == {"unproved"}
