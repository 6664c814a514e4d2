"""Torch files: no code is run, the state dict is found or asked for, order and ties are kept."""

from __future__ import annotations

import argparse
import pickle
from collections import OrderedDict

import pytest
import torch
from byte_builders import file_bytes, tensor, write

from treealign import read_tree
from treealign.errors import FormatError
from treealign.formats.torch_files import read_torch_file

STATE = {"z.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2, dtype=torch.bfloat16)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


def saved(path, value, **how):
    torch.save(value, path, **how)
    return path


def refusal(path):
    with pytest.raises(FormatError) as caught:
        read_torch_file(path)
    assert caught.value.where == str(path)
    return str(caught.value)


def test_a_torch_file_gives_leaves_in_order_of_definition(path):
    tree = read_tree(saved(path, STATE))
    assert tree.ordered
    assert tree.leaves == (("z.weight", (2, 3), "float32", "parameter"), ("a.bias", (2,), "bfloat16", "parameter"))


def test_alphabetical_order_is_taken_for_none(path):
    assert not read_tree(saved(path, dict(sorted(STATE.items())))).ordered


def test_the_state_dict_of_a_module_is_ordered_whatever_its_names(path):
    module = torch.nn.ModuleDict({"a": torch.nn.Embedding(2, 3), "b": torch.nn.Embedding(2, 3)})
    assert read_tree(saved(path, module.state_dict())).ordered


def test_a_file_of_before_torch_1_6_is_read(path):
    saved(path, STATE, _use_new_zipfile_serialization=False)
    assert read_tree(path).keys == ("z.weight", "a.bias")


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_mapped_where_the_format_allows_and_code_is_never_loaded(path, zipped, monkeypatch):
    load, calls = torch.load, []
    monkeypatch.setattr(torch, "load", lambda *args, **how: calls.append(how) or load(*args, **how))
    read_torch_file(saved(path, STATE, _use_new_zipfile_serialization=zipped))
    assert calls == [{"map_location": "cpu", "weights_only": True, "mmap": zipped}]


def test_tied_tensors_are_noticed(path):
    weight = torch.zeros(4, 2)
    tree = read_tree(saved(path, {"embed": weight, "head": weight, "rows": weight[:2], "turned": weight.T}))
    assert tree.tied == {"head": "embed"}


def test_tied_tensors_are_noticed_in_old_files(path):
    weight = torch.zeros(4, 2)
    tree = read_tree(saved(path, {"embed": weight, "head": weight}, _use_new_zipfile_serialization=False))
    assert tree.tied == {"head": "embed"}


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        ({"state_dict": STATE, "epoch": 3}, "['state_dict']"),
        ({"model": STATE, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}}, "['model']"),
        ({"model": {"module": STATE}, "args": {"lr": 1.0}}, "['model']['module']"),
        ({"params": STATE, "best": torch.tensor(0.5)}, "['params']"),
        ({"model": STATE, "optim_state": {"w": {"exp_avg": torch.zeros(2)}}, "rng_state": torch.zeros(2)}, "['model']"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_state_dict_inside_is_found_and_named(path, content, taken):
    read = read_torch_file(saved(path, content))
    assert (read.taken, set(read.tensors)) == (taken, set(STATE))


def test_a_lightning_checkpoint_gives_its_state_dict(path):
    content = {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict(STATE),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {
            "ModelCheckpoint": {"best_model_score": torch.tensor(0.3), "best_k_models": {"x": torch.ones(1)}}
        },
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}],
        "hyper_parameters": {"lr": 0.1},
    }
    tree = read_tree(saved(path, content))
    assert (tree.keys, tree.source) == (tuple(STATE), f"{path}['state_dict']")


def test_entries_that_are_no_tensors_are_named(path):
    read = read_torch_file(saved(path, {**STATE, "step": 3, "attn._extra_state": {"scale": torch.ones(1)}}))
    assert (set(read.tensors), read.ignored) == (set(STATE), ("step", "attn._extra_state"))


def test_an_empty_state_dict_is_an_empty_tree(path):
    assert len(read_tree(saved(path, {}))) == 0


def test_two_state_dicts_are_ambiguous(path):
    text = refusal(saved(path, {"model": STATE, "model_ema": STATE}))
    assert "more than one state dict in what was saved" in text
    assert "\n  ['model']: 2 entries\n  ['model_ema']: 2 entries\n" in text


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), {"epoch": 3}, {0: torch.zeros(2)}], ids=str)
def test_a_file_without_a_state_dict_is_refused(path, content):
    assert "no state dict in what was saved" in refusal(saved(path, content))


def test_objects_are_not_loaded_and_their_class_is_named(path):
    text = refusal(saved(path, {"args": argparse.Namespace(lr=1), "model": STATE}))
    assert "the file pickles objects that are no tensors" in text
    assert "argparse.Namespace" in text


def test_code_in_a_pickle_is_not_run(path):
    class Bomb:
        def __reduce__(self):
            return write, (path.with_name("ran"), b"")

    assert "would run code" in refusal(saved(path, {"a": Bomb()}, _use_new_zipfile_serialization=False))
    assert not path.with_name("ran").exists()


def test_a_whole_module_is_refused(path):
    assert "torch.nn.modules.linear.Linear" in refusal(saved(path, torch.nn.Linear(2, 2)))


def test_a_zip_that_torch_did_not_write_is_refused(path):
    assert "a zip archive that torch did not write" in refusal(write(path, b"PK\x03\x04" + bytes(60)))


def test_a_torch_file_that_was_cut_short_is_refused(path):
    saved(path, STATE)
    assert "torch cannot load the file" in refusal(write(path, path.read_bytes()[:-200]))


def test_a_torch_file_without_its_end_is_said_to_be_cut_short(path):
    torch.save({"a": torch.zeros(500)}, path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(FormatError, match="cut short: the list of what is in the archive"):
        read_tree(path)


def test_an_old_torch_file_that_was_cut_short_is_refused(path):
    saved(path, STATE, _use_new_zipfile_serialization=False)
    assert "torch cannot load the file" in refusal(write(path, path.read_bytes()[:-8]))


@pytest.mark.parametrize(
    ("contents", "what"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<!doctype html>", "an HTML page"),
        (pickle.dumps({"a": 1}), "a file of no known kind"),
    ],
    ids=["empty", "pointer", "page", "pickle"],
)
def test_what_is_no_torch_file_is_refused_by_what_it_is(path, contents, what):
    assert f"not a torch file but {what}" in refusal(write(path, contents))


def test_safetensors_under_a_torch_name_are_read_as_what_they_are(tmp_path):
    path = write(tmp_path / "pytorch_model.bin", file_bytes({"a": tensor()}, 4))
    assert read_tree(path).keys == ("a",)


def test_tensors_beside_a_state_dict_are_no_less_than_it(path):
    """They belong to a module, by their names: neither is taken in silence, and each can be named."""
    saved(path, {**STATE, "teacher": {"w": torch.ones(1)}})
    text = refusal(path)
    assert "['teacher']: 1 entries" in text
    assert ".: 3 entries" in text
    assert read_tree(f"{path}#.").keys == tuple(STATE)
    assert read_tree(f"{path}#teacher").keys == ("w",)


def test_a_count_or_the_state_of_a_generator_beside_a_state_dict_is_none(path):
    saved(path, {"model": STATE, "step": torch.tensor(3), "torch_rng_state": torch.get_rng_state()})
    assert read_tree(path).keys == tuple(STATE)


def test_one_file_of_a_folder_is_named(tmp_path):
    for name in ("unet", "vae"):
        write(tmp_path / f"{name}.safetensors", file_bytes({f"{name}.w": tensor("F32", [1])}, 4))
    torch.save({"ema.w": torch.ones(1)}, tmp_path / "ema.pt")
    assert read_tree(f"{tmp_path}#vae").keys == ("vae.w",)
    assert read_tree(f"{tmp_path}#unet.safetensors").keys == ("unet.w",)
    assert read_tree(f"{tmp_path}#ema").keys == ("ema.w",)
    with pytest.raises(FormatError, match="FOLDER#NAME"):
        read_tree(tmp_path)


def test_what_a_folder_has_not_is_not_taken_for_what_it_has(tmp_path):
    write(tmp_path / "model.safetensors", file_bytes({"w": tensor("F32", [1])}, 4))
    with pytest.raises(FormatError, match="there is one state dict here, and none named 'ema'"):
        read_tree(f"{tmp_path}#ema")
