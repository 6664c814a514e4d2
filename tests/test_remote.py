"""Checkpoints on other machines, read by the real clients from servers on this one: headers come, weights stay."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from byte_builders import file_bytes, tensor
from hub_server import COMMIT, Hub, serving
from safetensors.numpy import save as to_bytes

from treealign import read_tree, suggest
from treealign.errors import FormatError, TreealignError
from treealign.formats.remote import fsspec_files
from treealign.formats.remote.hub import parse_hub_url
from treealign.tree.keytree import KeyTree

ROOT = Path(__file__).parent.parent
LEAVES = {f"layers.{i}.{name}.weight": (64, 512 if name == "up" else 64) for i in range(4) for name in ("up", "norm")}
KEYS = tuple(sorted(LEAVES))


def shard(keys: tuple[str, ...] = KEYS) -> bytes:
    return to_bytes({key: np.zeros(LEAVES[key], np.float32) for key in keys})


def sharded(shards: int) -> dict[str, bytes]:
    names = [f"model-{at + 1:05}-of-{shards:05}.safetensors" for at in range(shards)]
    index = {"metadata": {}, "weight_map": {key: names[at % shards] for at, key in enumerate(KEYS)}}
    files = {name: shard(KEYS[at::shards]) for at, name in enumerate(names)}
    return {**files, "model.safetensors.index.json": json.dumps(index).encode()}


def torch_bytes(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    with serving(Hub()) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 10)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def expected(keys: tuple[str, ...] = KEYS) -> KeyTree:
    return KeyTree.from_leaves([(key, LEAVES[key], "float32") for key in keys])


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("hf://org/name", ("org/name", "", "")),
        ("hf:/org/name", ("org/name", "", "")),
        ("hf://models/org/name@v1.0", ("org/name", "v1.0", "")),
        ("hf://org/name@feature%2Fx/unet/model.safetensors", ("org/name", "feature/x", "unet/model.safetensors")),
        ("hf://org/name@refs/pr/3", ("org/name", "refs/pr/3", "")),
        ("hf://org/name/unet/", ("org/name", "", "unet")),
        ("hf://gpt2@main", ("gpt2", "main", "")),
    ],
)
def test_a_hub_url_names_a_model_a_revision_and_a_path(url, parts):
    found = parse_hub_url(url)
    assert (found.repo, found.revision, found.path) == parts


@pytest.mark.parametrize("url", ["hf://", "hf://datasets/org/name", "hf:///name", "hf://org/@main"])
def test_a_hub_url_that_names_no_model_is_refused(url):
    with pytest.raises(FormatError, match="hf://org/name"):
        read_tree(url)


def test_a_single_file_on_the_hub_is_read_by_its_header_alone(hub):
    hub.repos["org/name"] = {"model.safetensors": shard(), "config.json": b"{}"}
    assert read_tree("hf://org/name") == expected()
    assert hub.sent < len(shard()) / 2


def test_shards_on_the_hub_are_read_through_their_index(hub):
    hub.repos["org/name"] = sharded(3)
    assert read_tree("hf://org/name") == expected()


def test_every_file_is_read_at_the_commit_that_was_listed(hub):
    hub.repos["org/name"] = sharded(2)
    read_tree("hf://org/name@main")
    assert {path.split("/")[4] for _, path, _ in hub.requests if "/resolve/" in path} == {COMMIT}


def test_headers_of_many_shards_are_fetched_together(hub):
    hub.repos["org/name"], hub.pause = sharded(8), 0.3
    read_tree("hf://org/name")
    assert hub.most_at_once >= 4


def test_a_folder_and_a_file_of_a_repository_can_be_named(hub):
    hub.repos["org/name"] = {f"unet/{name}": content for name, content in sharded(2).items()}
    assert read_tree("hf://org/name/unet") == expected()
    assert read_tree(f"hf://org/name@{COMMIT}/unet/model-00001-of-00002.safetensors") == expected(KEYS[::2])


def test_an_index_without_its_shards_gives_the_names(hub):
    index = sharded(2)["model.safetensors.index.json"]
    hub.repos["org/name"] = {"model.safetensors.index.json": index, "model-00001-of-00002.safetensors": b""}
    del hub.repos["org/name"]["model-00001-of-00002.safetensors"]
    assert read_tree("hf://org/name/model.safetensors.index.json").keys == expected().keys
    with pytest.raises(FormatError, match="shards are absent"):
        read_tree("hf://org/name")


def test_a_header_longer_than_the_first_transfer_is_fetched_whole(hub):
    many = {f"layers.{i}.weight": np.zeros(3, np.float32) for i in range(4000)}
    hub.repos["org/name"] = {"model.safetensors": to_bytes(many)}
    assert len(read_tree("hf://org/name")) == 4000
    assert len(hub.asked("/store/")) == 2


def test_the_token_goes_to_the_hub_and_not_to_the_store(hub, monkeypatch):
    hub.repos["org/name"], hub.private = {"model.safetensors": shard()}, ("org/name",)
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert read_tree("hf://org/name") == expected()
    assert [headers.get("authorization") for headers in hub.asked("/resolve/")] == ["Bearer secret"]
    assert [headers.get("authorization") for headers in hub.asked("/store/")] == [None]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("hf://org/gated", "the repository is gated"),
        ("hf://org/gated", "HF_TOKEN"),
        ("hf://org/private", "no such repository, or a private one"),
        ("hf://org/absent", "check the spelling"),
        ("hf://org/name@v2", "no such revision"),
        ("hf://org/name/model.safetensor", "close: model.safetensors"),
        ("hf://org/text", "it shows README.md"),
        ("hf://org/na--me", "no model has such a name"),
    ],
)
def test_what_the_hub_refuses_is_said_with_a_way_out(hub, url, said):
    weights = {"model.safetensors": shard()}
    hub.repos = {"org/gated": weights, "org/private": weights, "org/name": weights, "org/text": {"README.md": b"#"}}
    hub.gated, hub.private = ("org/gated",), ("org/private",)
    with pytest.raises(FormatError) as caught:
        read_tree(url)
    assert said in str(caught.value)
    assert url in str(caught.value)


def test_a_switched_off_hub_is_said(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FormatError, match="unset HF_HUB_OFFLINE"):
        read_tree("hf://org/name")


@pytest.fixture
def impatient(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)


def test_a_slow_answer_is_asked_for_again(hub, impatient):
    hub.repos["org/name"], hub.faults = {"model.safetensors": shard()}, ["slow"]
    assert read_tree("hf://org/name") == expected()


@pytest.mark.parametrize("faults", [["cut"], ["unavailable"], ["cut", "unavailable"]])
def test_a_transfer_that_fails_once_is_tried_again(hub, faults):
    hub.repos["org/name"], hub.faults = {"model.safetensors": shard()}, faults
    assert read_tree("hf://org/name") == expected()


def test_a_connection_that_is_cut_again_and_again_is_an_error(hub):
    hub.repos["org/name"], hub.faults = {"model.safetensors": shard()}, ["cut"] * 20
    with pytest.raises(FormatError, match="the connection broke off"):
        read_tree("hf://org/name")


def test_a_server_that_stays_slow_is_an_error(hub, impatient):
    hub.repos["org/name"], hub.faults = {"model.safetensors": shard()}, ["slow"] * 20
    with pytest.raises(FormatError, match=r"cannot be (fetched|reached)"):
        read_tree("hf://org/name")


def test_a_server_that_ignores_ranges_is_refused_before_the_weights_come(hub):
    hub.repos["org/name"], hub.honours_ranges = {"model.safetensors": shard() + bytes(64 << 20)}, False
    with pytest.raises(FormatError, match="whole files only"):
        read_tree("hf://org/name")
    assert hub.sent < 8 << 20


def damaged(kind: str) -> bytes:
    whole = {"a": tensor(shape=[2], begin=0, end=8), "b": tensor(shape=[2], begin=8, end=16)}
    if kind == "overlap":
        whole["b"] = tensor(shape=[2], begin=4, end=12)
        return file_bytes(whole, 12)
    if kind == "hole":
        whole["b"] = tensor(shape=[2], begin=12, end=20)
        return file_bytes(whole, 20)
    return file_bytes(whole, 10)


@pytest.mark.parametrize(
    ("kind", "said"), [("overlap", "overlaps a"), ("hole", "a hole of 4 bytes"), ("truncated", "past the end")]
)
def test_headers_that_the_hubs_own_reader_takes_are_refused(hub, kind, said):
    from huggingface_hub import HfApi

    hub.repos["org/name"] = {"model.safetensors": damaged(kind)}
    assert set(HfApi().get_safetensors_metadata("org/name").weight_map) == {"a", "b"}
    with pytest.raises(FormatError, match=said):
        read_tree("hf://org/name")


def test_a_file_that_is_shorter_than_listed_is_refused(hub):
    hub.repos["org/name"], hub.listed = {"model.safetensors": shard()}, {"model.safetensors": len(shard()) + 4}
    with pytest.raises(FormatError, match="not as long as it should be"):
        read_tree("hf://org/name")


def test_every_damaged_shard_is_named(hub):
    files = sharded(3)
    broken = sorted(files)[:2]
    hub.repos["org/name"] = {**files, **{name: files[name][:-8] for name in broken}}
    with pytest.raises(FormatError) as caught:
        read_tree("hf://org/name")
    assert [name in str(caught.value) for name in broken] == [True, True]


def test_an_index_that_contradicts_its_shards_is_refused(hub):
    files = sharded(2)
    index = json.loads(files["model.safetensors.index.json"])
    index["weight_map"][KEYS[0]] = "model-00002-of-00002.safetensors"
    hub.repos["org/name"] = {**files, "model.safetensors.index.json": json.dumps(index).encode()}
    with pytest.raises(FormatError, match="where the index puts it"):
        read_tree("hf://org/name")


def test_of_a_torch_file_the_pickle_is_fetched_and_the_data_is_not(hub, tmp_path):
    state = torch.nn.Sequential(
        torch.nn.Linear(512, 512), torch.nn.LayerNorm(512), torch.nn.Linear(512, 512)
    ).state_dict()
    state["3.weight"] = state["2.weight"]
    content = torch_bytes({"state_dict": state, "epoch": 3})
    hub.repos["org/name"] = {"pytorch_model.bin": content}
    (tmp_path / "x.bin").write_bytes(content)
    tree = read_tree("hf://org/name")
    assert tree == read_tree(tmp_path / "x.bin")
    assert (dict(tree.tied), tree.ordered) == ({"3.weight": "2.weight"}, True)
    assert hub.sent < len(content) / 3


def test_a_remote_pickle_of_anything_but_tensors_is_refused_and_not_run(hub, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    hub.repos["org/name"] = {"pytorch_model.bin": torch_bytes({"a": torch.zeros(3), "b": Evil()})}
    with pytest.raises(FormatError, match="objects that are no tensors"):
        read_tree("hf://org/name")
    assert not (tmp_path / "ran").exists()


def test_a_cut_torch_file_is_refused(hub):
    hub.repos["org/name"] = {"pytorch_model.bin": torch_bytes({"a": torch.zeros(300_000)})[:-400]}
    with pytest.raises(FormatError, match="torch cannot load the file"):
        read_tree("hf://org/name")


def test_a_torch_file_of_before_the_zip_format_is_refused_with_the_reason(hub):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer, _use_new_zipfile_serialization=False)
    hub.repos["org/name"] = {"pytorch_model.bin": buffer.getvalue()}
    with pytest.raises(FormatError, match=r"older than torch 1\.6"):
        read_tree("hf://org/name")


def command(hub: Hub, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    called = [sys.executable, "-m", "treealign.cli", *arguments]
    return subprocess.run(called, capture_output=True, text=True, check=False, env={**os.environ, **own})


def test_show_takes_a_model_on_the_hub(hub):
    hub.repos["org/name"] = sharded(2)
    done = command(hub, "show", "hf://org/name")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == ["hf://org/name", "8 keys in 2 patterns, 147 K parameters, 576 KiB, float32"]


def test_show_of_an_absent_model_ends_with_2_and_a_hint(hub):
    done = command(hub, "show", "hf://org/name")
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)
    assert "hint: check the spelling" in done.stderr


def test_suggest_takes_a_model_on_the_hub(hub):
    hub.repos["org/name"] = sharded(2)
    found = suggest("hf://org/name", KeyTree.from_leaves([(f"model.{key}", LEAVES[key], "float32") for key in KEYS]))
    assert (found.ok, len(found.mapping)) == (True, 1)


def test_the_config_of_a_model_on_the_hub_is_enough_to_build_it(hub):
    tiny = ROOT / "data" / "llava-tiny"
    hub.repos["org/name"] = {name: (tiny / name).read_bytes() for name in ("config.json", "model.safetensors")}
    done = command(hub, "suggest", "hf://org/name", "transformers:hf://org/name")
    assert (done.returncode, "89 of 89 model keys" in done.stdout) == (0, True)


def test_load_says_that_weights_are_not_fetched(hub):
    from treealign import load

    hub.repos["org/name"] = {"model.safetensors": shard()}
    with pytest.raises(TreealignError, match="hf download org/name"):
        load(torch.nn.Linear(2, 2), "hf://org/name")


def test_any_web_server_with_ranges_will_do(hub):
    hub.repos["org/name"] = sharded(3)
    base = f"{hub.endpoint}/files/org/name"
    assert read_tree(f"{base}/model.safetensors.index.json") == expected()
    assert read_tree(f"{base}/") == expected()
    assert read_tree(f"{base}/model-00002-of-00003.safetensors") == expected(KEYS[1::3])


def test_a_web_server_that_ignores_ranges_sends_no_weights(hub):
    many = {f"layers.{i}.weight": np.zeros(3000, np.float32) for i in range(3000)}
    hub.repos["org/name"], hub.honours_ranges = {"model.safetensors": to_bytes(many)}, False
    with pytest.raises(FormatError, match="range requests"):
        read_tree(f"{hub.endpoint}/files/org/name/model.safetensors")
    assert hub.sent < 20 << 20


def test_nothing_is_asked_for_in_compressed_form(hub):
    hub.repos["org/name"] = sharded(2)
    read_tree("hf://org/name")
    read_tree(f"{hub.endpoint}/files/org/name/")
    asked = [headers["accept-encoding"] for _, path, headers in hub.requests if "range" in headers]
    assert set(asked) == {"identity"}


@pytest.mark.parametrize("faults", [["cut"], ["unavailable"]])
def test_a_web_server_that_fails_once_is_asked_again(hub, faults):
    hub.repos["org/name"], hub.faults = {"model.safetensors": shard()}, faults
    assert read_tree(f"{hub.endpoint}/files/org/name/model.safetensors") == expected()


def test_a_web_server_that_stays_slow_is_an_error(hub, monkeypatch):
    monkeypatch.setattr(fsspec_files, "_PATIENCE", 0.3)
    hub.repos["org/name"], hub.faults = {"model.safetensors": shard()}, ["slow"] * 20
    with pytest.raises(FormatError, match="cannot be fetched"):
        read_tree(f"{hub.endpoint}/files/org/name/model.safetensors")


@pytest.fixture
def memory():
    import fsspec

    system = fsspec.filesystem("memory")
    system.rm("/", recursive=True) if system.ls("/") else None
    yield system
    system.store.clear()


def test_a_folder_on_any_fsspec_file_system_is_read(memory):
    for name, content in sharded(3).items():
        memory.pipe(f"/bucket/model/{name}", content)
    assert read_tree("memory://bucket/model") == expected()
    assert read_tree("memory://bucket/model/model.safetensors.index.json") == expected()


def test_a_tree_json_is_read_from_anywhere(memory, tmp_path):
    expected().to_json(tmp_path / "tree.json")
    memory.pipe("/bucket/tree.json", (tmp_path / "tree.json").read_bytes())
    assert read_tree("memory://bucket/tree.json") == expected()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://bucket/absent", "no such file or folder"),
        ("memory://bucket/page.bin", "not a checkpoint but an HTML page"),
        ("memory://bucket/pointer.safetensors", "a Git LFS pointer"),
        ("nosuchprotocol://x/y", "nosuchprotocol"),
        ("memory://bucket/empty.json", "not a checkpoint but an empty file"),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_name(memory, url, said):
    memory.pipe("/bucket/page.bin", b"<!doctype html><html></html>")
    memory.pipe("/bucket/pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    memory.pipe("/bucket/empty.json", b"")
    with pytest.raises(FormatError) as caught:
        read_tree(url)
    assert said in str(caught.value)


def test_reading_remote_headers_needs_no_torch(hub):
    hub.repos["org/name"] = sharded(2)
    code = "import sys, treealign; treealign.read_tree('hf://org/name'); print('torch' in sys.modules)"
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env={**os.environ, **own}) == "False\n"
