"""The verb `convert`: what it says, and what it refuses before anything is written."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from byte_builders import file_bytes, tensor
from converting import INDEX, PREFIX, REMOVED, contents, layer, sharded
from safetensors.torch import save_file
from typer.testing import CliRunner
from weights import write

from treealign.cli.convert_verb import parse_size
from treealign.cli.verbs import app
from treealign.errors import TreealignError


@pytest.fixture
def source(tmp_path):
    return sharded(tmp_path / "source", [layer(0), layer(1)])


@pytest.fixture
def mapping(tmp_path):
    PREFIX.to_json(tmp_path / "mapping.json")
    return tmp_path / "mapping.json"


def run(*arguments):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def refusal(tmp_path, *arguments):
    """The error; the folders are as they were."""
    before = sorted(tmp_path.rglob("*"))
    error = run(*arguments).exception
    assert isinstance(error, TreealignError)
    assert sorted(tmp_path.rglob("*")) == before
    return str(error)


def test_the_verb_says_what_it_did(source, tmp_path, mapping):
    done = run(source, tmp_path / "out", mapping)
    assert done.exit_code == 0
    assert "keys        14, 14 of them renamed, 0 converted" in done.stdout
    assert "way back    convert --reverse with the same mapping gives the same bytes" in done.stdout


def test_the_same_bytes_are_promised_of_safetensors_only(tmp_path, mapping):
    torch.save({key: torch.ones(2) for key in layer(0)}, tmp_path / "model.pt")
    done = run(tmp_path / "model.pt", tmp_path / "out", mapping)
    assert "gives the same keys and tensors, in safetensors" in " ".join(done.stdout.split())


def test_there_and_back_is_the_same_checkpoint(source, tmp_path, mapping):
    run(source, tmp_path / "out", mapping)
    run(tmp_path / "out", tmp_path / "back", mapping, "--reverse")
    assert contents(tmp_path / "back") == contents(source)


def test_json_holds_everything(source, tmp_path, mapping):
    data = json.loads(run(source, tmp_path / "out", mapping, "--json", "--verify").stdout)
    assert (data["renamed"], data["by"], len(data["digests"])) == (14, "mapping", 2)


def test_in_place_takes_no_destination(tmp_path):
    path = write(tmp_path / "in.safetensors", {"bad.a": torch.ones(1)})
    REMOVED.to_json(tmp_path / "mapping.json")
    assert "in place    1 file, headers only" in run(path, tmp_path / "mapping.json", "--in-place").stdout


def test_rounded_values_are_a_finding(tmp_path, mapping):
    path = write(tmp_path / "in.safetensors", {"a": torch.randn(2)})
    run(path, tmp_path / "out.safetensors", mapping, "--dtype", "bfloat16")
    done = run(tmp_path / "out.safetensors", tmp_path / "back.safetensors", mapping, "--reverse")
    assert done.exit_code == 1
    assert "rounded by a cast" in done.stdout


def test_a_mapping_that_touches_nothing_is_said(tmp_path):
    path = write(tmp_path / "in.safetensors", {"a": torch.ones(1)})
    REMOVED.to_json(tmp_path / "mapping.json")
    assert "no tensor has changed" in run(path, tmp_path / "out", tmp_path / "mapping.json").output


@pytest.mark.parametrize("text", ["0", "much", "GB", "-5MB", "5 shards"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(TreealignError, match="no size of a file"):
        parse_size(text)


# -- bad files and indexes ---------------------------------------------------------------------------------------------

ONE = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
BAD_FILES = {
    "empty": b"",
    "short": bytes(7),
    "no header": bytes(8),
    "header past the end": (1000).to_bytes(8, "little") + b"{}",
    "header too long": (100_000_001).to_bytes(8, "little") + b"{}",
    "lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "web page": b"<!DOCTYPE html><html>",
    "zip": b"PK\x03\x04" + bytes(100),
    "no json": file_bytes(b'{"a": '),
    "no utf-8": file_bytes(b'{"\xff": 1}'),
    "nul padding": file_bytes(b"{}" + bytes(6)),
    "no object": file_bytes("[]"),
    "key twice": file_bytes(f"{{{ONE},{ONE}}}", 4),
    "bad metadata": file_bytes({"__metadata__": {"k": 1}}),
    "unknown dtype": file_bytes({"a": tensor("F33")}, 4),
    "negative size": file_bytes({"a": tensor(shape=[-1])}, 4),
    "wrong range": file_bytes({"a": tensor(shape=[2])}, 4),
    "overlap": file_bytes({"a": tensor(end=4), "b": tensor(begin=2, end=6)}, 6),
    "hole": file_bytes({"a": tensor(end=4), "b": tensor(begin=8, end=12)}, 12),
    "cut short": file_bytes({"a": tensor()}, 3),
    "trailing bytes": file_bytes({"a": tensor()}, 5),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused(tmp_path, mapping, name):
    (tmp_path / "model.safetensors").write_bytes(BAD_FILES[name])
    assert "model.safetensors" in refusal(tmp_path, tmp_path / "model.safetensors", tmp_path / "out", mapping)


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_shard_is_refused(source, tmp_path, mapping, name):
    (source / "model-00002-of-00002.safetensors").write_bytes(BAD_FILES[name])
    assert "model-00002-of-00002" in refusal(tmp_path, source, tmp_path / "out", mapping)


def spoil(index, how):
    data = json.loads(index.read_text())
    key = next(iter(data["weight_map"]))
    changed = {
        "absent shard": {"x": "model-00009-of-00009.safetensors"},
        "other shard": {key: "model-00002-of-00002.safetensors"},
        "key in no shard": {"x": data["weight_map"][key]},
        "outside": {"x": "../x.safetensors"},
        "no text": {"x": 7},
    }
    index.write_text(json.dumps({**data, "weight_map": {**data["weight_map"], **changed[how]}}))


@pytest.mark.parametrize("how", ["absent shard", "other shard", "key in no shard", "outside", "no text"])
def test_a_bad_index_is_refused(source, tmp_path, mapping, how):
    spoil(source / INDEX, how)
    refusal(tmp_path, source, tmp_path / "out", mapping)


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": []}', '{"weight_map": {"a": "x", "a": "y"}}'])
def test_no_index_at_all_is_refused(source, tmp_path, mapping, content):
    (source / INDEX).write_text(content)
    refusal(tmp_path, source / INDEX, tmp_path / "out", mapping)


def test_a_pickle_of_code_is_refused(tmp_path, mapping):
    torch.save({"a": torch.ones(1), "b": Path("x")}, tmp_path / "model.bin")
    assert "no tensors" in refusal(tmp_path, tmp_path / "model.bin", tmp_path / "out", mapping)


def test_a_mapping_that_is_none_is_refused(source, tmp_path):
    (tmp_path / "mapping.json").write_text("{}")
    refusal(tmp_path, source, tmp_path / "out", tmp_path / "mapping.json")


# -- files beside, and modes -------------------------------------------------------------------------------------------


def test_other_files_go_along_and_other_weights_do_not(source, tmp_path, mapping):
    (source / "tokenizer").mkdir()
    (source / "tokenizer" / "vocab.txt").write_text("a b")
    (source / "optimizer.pt").write_bytes(b"state")
    for name in ("pytorch_model.bin", "flax_model.msgpack", ".hidden", "adapter_model.safetensors"):
        (source / name).write_bytes(b"old names")
    (source / "link").symlink_to(tmp_path, target_is_directory=True)
    data = json.loads(run(source, tmp_path / "out", mapping, "--json").stdout)
    assert {"config.json", "tokenizer/vocab.txt", "optimizer.pt"} <= set(data["files"])
    left_out = {"pytorch_model.bin", "flax_model.msgpack", ".hidden", "adapter_model.safetensors", "link"}
    assert set(data["left_out"]) == left_out
    assert (tmp_path / "out" / "tokenizer" / "vocab.txt").read_text() == "a b"
    assert not any((tmp_path / "out" / name).exists() for name in left_out)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o444])
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_modes_are_those_that_cp_gives(tmp_path, mapping, mode, mask):
    folder = tmp_path / "source"
    folder.mkdir()
    save_file({"a": torch.ones(1)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    for path in folder.iterdir():
        path.chmod(mode)
    before = os.umask(mask)
    try:
        run(folder, tmp_path / "out", mapping)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()}
    assert modes == {mode & ~mask}
