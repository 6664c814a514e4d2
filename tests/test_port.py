"""The way of a porter: the original code, its checkpoint, a model of transformers; nobody is asked anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import treealign
from data.port.original import TOKENS, build, call

PORT = "data/port"


@pytest.fixture(scope="module")
def model():
    transformers = pytest.importorskip("transformers")
    return transformers.LlamaForCausalLM(transformers.AutoConfig.from_pretrained(PORT))


@pytest.fixture(scope="module")
def suggestion(model):
    return treealign.suggest(build().state_dict(), model, original=build, run=call)


def test_rotary_rows_are_settled_although_the_first_guess_of_the_heads_is_wrong(suggestion):
    assert suggestion.ok
    assert any("heads of 8" in hint for hint in suggestion.ran.hints)


def test_the_loaded_model_computes_what_the_original_computes_and_is_saved_as_it_came(suggestion, model, tmp_path):
    from safetensors.torch import load_file

    original = build()
    treealign.load(model, original.state_dict(), suggestion.mapping)
    with torch.no_grad():
        assert torch.allclose(model.eval()(TOKENS).logits, original(TOKENS), atol=1e-5)
    treealign.save(model, tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == original.state_dict().keys()
    assert all(torch.equal(saved[key], value) for key, value in original.state_dict().items())


LOAD = """
import sys, torch, transformers
from safetensors.torch import load_file
from data.port.original import TOKENS, build
exec(open(sys.argv[1] + "/entry.py").read())
model = transformers.LlamaForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model.save_pretrained(sys.argv[1] + "/saved")
with torch.no_grad():
    assert torch.allclose(model(TOKENS).logits, build()(TOKENS), atol=1e-5)
saved, original = load_file(sys.argv[1] + "/saved/model.safetensors"), build().state_dict()
assert saved.keys() == original.keys()
assert all(torch.equal(saved[key], original[key]) for key in saved)
"""


def test_the_emitted_entry_lets_transformers_itself_load_and_save(suggestion, model, tmp_path):
    from safetensors.torch import save_file

    entry = treealign.emit(suggestion.mapping, "transformers", model=model, name="LlamaForCausalLM")
    (tmp_path / "entry.py").write_text(entry)
    (tmp_path / "config.json").write_text(Path(PORT, "config.json").read_text())
    save_file(build().state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    # what is registered is so for the whole process
    subprocess.run([sys.executable, "-c", LOAD, tmp_path], check=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    file = tmp_path_factory.mktemp("recorded") / "run.pt"
    treealign.record(build, call, file)
    return file


def test_the_emitted_tests_keep_the_proof_without_the_original(suggestion, model, recorded):
    named = {"model": model, "name": "LlamaForCausalLM"}
    folder = recorded.parent
    (folder / "conftest.py").write_text(treealign.emit(suggestion.mapping, **named))
    (folder / "test_entry.py").write_text(treealign.emit(suggestion.mapping, **named, tests=True, reference=recorded))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "computes", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert "1 passed" in done.stdout, done.stdout


def test_no_tests_are_emitted_for_a_mapping_that_the_recorded_run_refutes(model, recorded):
    wrong = treealign.suggest(build().state_dict(), model, hints=["q_proj,k_proj: rows as stored"]).mapping
    with pytest.raises(treealign.TreealignError, match="does not compute what was recorded"):
        treealign.emit(wrong, model=model, name="LlamaForCausalLM", tests=True, reference=recorded)


def test_the_proof_names_what_the_outputs_do_not_say(suggestion, model):
    proof = treealign.prove(build(), model, suggestion.mapping, run=call)
    assert proof.proved
    assert proof.unproved == {}


def treealign_says(*arguments):
    command = [sys.executable, "-m", "treealign.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line_runs_the_model_beside_the_original_or_beside_its_recording(tmp_path):
    pair = (f"{PORT}/checkpoint.json", f"transformers:{PORT}")
    assert treealign_says("suggest", *pair).returncode == 1
    code = "data.port.original"
    assert treealign_says("suggest", *pair, "--original", f"{code}:build", "--run", f"{code}:call").returncode == 0
    recorded = str(tmp_path / "run.pt")
    assert treealign_says("record", f"{code}:build", "--run", f"{code}:call", "-o", recorded).returncode == 0
    said = treealign_says("suggest", *pair, "--original", recorded)
    assert said.returncode == 0
    assert "outputs of original and model agree" in said.stderr


def test_a_file_cannot_be_run():
    said = treealign_says("suggest", f"{PORT}/checkpoint.json", f"{PORT}/checkpoint.json", "--original", "a.b:c")
    assert said.returncode == 2
    assert "a file cannot be run" in said.stderr
