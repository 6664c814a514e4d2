"""A run that was recorded where the original lives settles questions where it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import treealign
from treealign import TreealignError, record, suggest

INPUTS = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
RECORDER = Path(treealign.__file__).parent / "run" / "recorder.py"


class Chain(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.names = first, second
        for name in self.names:
            setattr(self, name, nn.Linear(16, 16))

    def forward(self, x):
        first, second = (getattr(self, name) for name in self.names)
        return second(torch.tanh(first(x)))


def call(module):
    return module(INPUTS)


@pytest.fixture
def original():
    torch.manual_seed(0)
    return Chain("two", "one")


@pytest.fixture
def recorded(original, tmp_path):
    record(original, call, tmp_path / "run.pt")
    return tmp_path / "run.pt"


def pairs(suggestion):
    return {m.checkpoint[0]: m.model[0] for m in suggestion.matches if m.certain}


RIGHT = {"two.weight": "beta.weight", "two.bias": "beta.bias", "one.weight": "alpha.weight", "one.bias": "alpha.bias"}


def test_a_recording_takes_the_place_of_the_original(original, recorded):
    assert pairs(suggest(original.state_dict(), Chain("beta", "alpha"), original=recorded)) == RIGHT


def test_a_reference_compares_the_checkpoint_itself(original, recorded):
    assert pairs(suggest(original.state_dict(), Chain("beta", "alpha"), reference=recorded)) == RIGHT


def test_a_reference_refutes_weights_that_are_not_those_it_was_made_with(recorded):
    found = suggest(Chain("two", "one").state_dict(), Chain("beta", "alpha"), reference=recorded)
    assert pairs(found) == {}
    assert "outputs differ" in found.findings[0]


def test_a_slice_of_expected_outputs_is_a_reference(original, tmp_path):
    expected = {"inputs": INPUTS, "outputs": original(INPUTS)[0, :3, :4].detach()}
    torch.save(expected, tmp_path / "expected.pt")
    found = suggest(original.state_dict(), Chain("beta", "alpha"), reference=tmp_path / "expected.pt")
    assert pairs(found) == RIGHT


def test_equal_contents_are_not_settled_by_a_reference(original, tmp_path):
    """Two biases of zeros may stand in each other's place, and nothing shows it."""
    with torch.no_grad():
        original.one.bias.zero_()
        original.two.bias.zero_()
    record(original, call, tmp_path / "run.pt")
    found = suggest(original.state_dict(), Chain("beta", "alpha"), reference=tmp_path / "run.pt")
    assert pairs(found) == {"two.weight": "beta.weight", "one.weight": "alpha.weight"}


def test_one_file_records_where_treealign_is_not_installed(original, tmp_path):
    code = "import torch\nfrom torch import nn\nINPUTS = torch.ones(1, 16)\n" + (
        "class Chain(nn.Module):\n    def __init__(self):\n        super().__init__()\n        torch.manual_seed(0)\n"
        "        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)\n"
        "    def forward(self, x):\n        return self.one(torch.tanh(self.two(x)))\n"
        "def call(module):\n    return module(INPUTS)\n"
    )
    (tmp_path / "ported.py").write_text(code)
    (tmp_path / "recorder.py").write_text(RECORDER.read_text())
    command = [sys.executable, "recorder.py", "ported:Chain", "--run", "ported:call", "-o", "run.pt"]
    subprocess.run(command, cwd=tmp_path, check=True, env={"PYTHONPATH": ""})
    assert "treealign" not in "".join(line for line in RECORDER.read_text().splitlines() if "import" in line)
    assert pairs(suggest(original.state_dict(), Chain("beta", "alpha"), original=tmp_path / "run.pt")) == RIGHT


def test_a_file_that_is_no_recording_is_refused(original, tmp_path):
    torch.save({"weights": INPUTS}, tmp_path / "other.pt")
    with pytest.raises(TreealignError, match="no recording of a run"):
        suggest(original.state_dict(), Chain("beta", "alpha"), original=tmp_path / "other.pt")
    with pytest.raises(TreealignError, match="cannot be read"):
        suggest(original.state_dict(), Chain("beta", "alpha"), reference=tmp_path / "absent.pt")
