"""Indexes of shards and folders of weights: what belongs together, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from byte_builders import file_bytes, tensor, write

from treealign import read_tree
from treealign.errors import FormatError
from treealign.formats.checkpoints import open_checkpoint
from treealign.formats.indexes import read_index

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def shard(folder, name, *keys):
    header = {key: tensor(begin=4 * at, end=4 * at + 4) for at, key in enumerate(keys)}
    return write(folder / name, file_bytes(header, 4 * len(keys)))


def index(folder, weight_map, name=INDEX, **more):
    return write(folder / name, json.dumps({"weight_map": weight_map, **more}).encode())


@pytest.fixture
def sharded(tmp_path):
    """Two shards of two keys each, and their index."""
    shard(tmp_path, FIRST, "a", "b")
    shard(tmp_path, SECOND, "c", "d")
    index(tmp_path, {"a": FIRST, "b": FIRST, "c": SECOND, "d": SECOND}, metadata={"total_size": 16})
    return tmp_path


def refusal(path):
    with pytest.raises(FormatError) as caught:
        open_checkpoint(path)
    return str(caught.value)


# -- accepted ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["", INDEX])
def test_a_folder_and_its_index_give_the_keys_of_all_shards(sharded, named):
    assert read_tree(sharded / named).keys == ("a", "b", "c", "d")


def test_shards_that_are_links_are_followed(sharded, tmp_path_factory):
    cache = tmp_path_factory.mktemp("snapshot")
    for name in (FIRST, SECOND, INDEX):
        (cache / name).symlink_to(sharded / name)
    assert len(read_tree(cache)) == 4


def test_an_index_without_its_shards_gives_names_alone(tmp_path):
    tree = read_tree(index(tmp_path, {"a": FIRST, "b": SECOND}))
    assert tree.leaves == (("a", None, None, "parameter"), ("b", None, None, "parameter"))


def test_a_key_that_the_index_does_not_know_is_read_all_the_same(sharded):
    index(sharded, {"a": FIRST, "b": FIRST, "c": SECOND})
    assert "d" in read_tree(sharded)


def test_an_index_of_torch_files_is_read(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "pytorch_model-00001-of-00002.bin")
    torch.save({"b": torch.zeros(3)}, tmp_path / "pytorch_model-00002-of-00002.bin")
    names = {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}
    index(tmp_path, names, "pytorch_model.bin.index.json")
    assert [leaf.shape for leaf in read_tree(tmp_path).leaves] == [(2,), (3,)]


# -- refused -----------------------------------------------------------------------------------------------------------


def test_an_absent_shard_is_refused(sharded):
    (sharded / SECOND).unlink()
    assert f"{SECOND}: absent, with 2 keys" in refusal(sharded / INDEX)


def test_a_dangling_link_is_an_absent_shard(sharded):
    (sharded / SECOND).unlink()
    (sharded / SECOND).symlink_to("gone")
    assert f"{SECOND}: absent" in refusal(sharded)


def test_a_folder_with_an_index_alone_is_refused_with_a_way_to_read_the_names(tmp_path):
    index(tmp_path, {"a": FIRST})
    assert "pass the index itself to read the names alone" in refusal(tmp_path)


def test_a_key_in_two_shards_is_refused(sharded):
    shard(sharded, SECOND, "a", "c", "d")
    assert f"a: in two shards, {FIRST} and {SECOND}" in refusal(sharded)


def test_a_key_in_another_shard_than_the_index_says_is_refused(sharded):
    index(sharded, {"a": SECOND, "b": FIRST, "c": SECOND, "d": SECOND})
    assert f"a: not in {SECOND}, where the index puts it, but in {FIRST}" in refusal(sharded)


def test_a_key_in_no_shard_is_refused(sharded):
    index(sharded, {"a": FIRST, "x": FIRST, "c": SECOND})
    assert f"x: not in {FIRST}, where the index puts it, nor in any other" in refusal(sharded)


def test_keys_of_which_the_same_is_wrong_are_one_line_with_what_the_shards_hold_instead(sharded):
    index(sharded, {f"old.{key}": FIRST for key in "abcd"})
    with pytest.raises(FormatError) as raised:
        read_tree(sharded)
    assert raised.value.facts == (
        f"old.a and 3 more keys: not in {FIRST}, where the index puts them, nor in any other",
        "a and 1 more key: in the shards, and the index does not know of them",
    )


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/b", "a\\b", "C:x", "..", ".", "", "x\0y", "\\\\host\\x", 7]
)
def test_a_shard_name_that_leaves_the_folder_is_refused(tmp_path, name):
    with pytest.raises(FormatError, match="layer_w: its shard"):
        read_index(index(tmp_path, {"layer_w": name}))


def test_a_shard_name_that_leaves_the_folder_is_refused_even_where_the_file_is_there(tmp_path):
    (tmp_path / "inner").mkdir()
    shard(tmp_path, "x.safetensors", "a")
    assert "is no plain file name" in refusal(index(tmp_path / "inner", {"a": "../x.safetensors"}))


def test_a_key_that_stands_twice_in_an_index_is_refused(tmp_path):
    path = write(tmp_path / INDEX, b'{"weight_map": {"a": "x", "a": "y"}}')
    assert "weight_map: a: stands in the index more than once" in refusal(path)


@pytest.mark.parametrize("text", ['{"weight_map": []}', '{"weight_map"', '{"weight_map": null}'])
def test_an_index_that_is_none_is_refused(tmp_path, text):
    assert "not an index of shards" in refusal(write(tmp_path / INDEX, text.encode()))


def test_a_json_file_that_is_no_index_is_refused(tmp_path):
    assert "neither a tree nor an index" in refusal(write(tmp_path / "config.json", b'{"hidden_size": 8}'))


def test_all_damaged_shards_are_named_at_once(sharded):
    write(sharded / FIRST, b"version https://git-lfs.github.com/spec/v1\n")
    write(sharded / SECOND, b"")
    text = refusal(sharded)
    assert f"{sharded / FIRST}: not a safetensors file but a Git LFS pointer" in text
    assert f"{sharded / SECOND}: the file is empty" in text


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "diffusion_pytorch_model.safetensors", "anything.safetensors"])
def test_a_folder_with_one_file_is_that_file(tmp_path, name):
    shard(tmp_path, name, "a")
    write(tmp_path / "config.json", b"{}")
    assert read_tree(tmp_path).keys == ("a",)


def test_a_folder_with_a_torch_file_is_that_file(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    torch.save({"x": torch.zeros(2)}, tmp_path / "optimizer.pt")
    torch.save({"x": torch.zeros(2)}, tmp_path / "training_args.bin")
    assert read_tree(tmp_path).keys == ("a",)


def test_safetensors_go_before_torch_files(tmp_path):
    shard(tmp_path, "model.safetensors", "a")
    torch.save({"b": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    assert read_tree(tmp_path).keys == ("a",)


def test_the_usual_name_goes_before_others(sharded):
    shard(sharded, "consolidated.safetensors", "x")
    assert read_tree(sharded).keys == ("a", "b", "c", "d")


def test_a_whole_set_of_numbered_shards_needs_no_index(sharded):
    (sharded / INDEX).unlink()
    assert read_tree(sharded).keys == ("a", "b", "c", "d")


def test_a_set_of_numbered_shards_with_a_gap_is_refused(sharded):
    (sharded / INDEX).unlink()
    (sharded / FIRST).rename(sharded / "model-00001-of-00003.safetensors")
    (sharded / SECOND).rename(sharded / "model-00003-of-00003.safetensors")
    assert "no whole checkpoint in this folder" in refusal(sharded)


def test_one_shard_of_a_set_is_no_checkpoint(sharded):
    (sharded / INDEX).unlink()
    (sharded / SECOND).unlink()
    assert "no whole checkpoint in this folder" in refusal(sharded)


def test_a_key_in_two_shards_without_an_index_is_refused(sharded):
    (sharded / INDEX).unlink()
    shard(sharded, SECOND, "a")
    assert "a: in two shards" in refusal(sharded)


def test_a_file_beside_an_index_is_ambiguous(sharded):
    shard(sharded, "model.safetensors", "a")
    text = refusal(sharded)
    assert "more than one checkpoint in this folder" in text
    assert f"\n  {INDEX}\n  model.safetensors\n" in text


def test_two_files_of_other_names_are_ambiguous(tmp_path):
    shard(tmp_path, "x.safetensors", "a")
    shard(tmp_path, "y.safetensors", "a")
    assert "hint: pass the file or index that is meant" in refusal(tmp_path)


def test_a_folder_without_weights_says_what_it_holds(tmp_path):
    write(tmp_path / "config.json", b"{}")
    assert "it holds config.json" in refusal(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    assert "it is empty" in refusal(tmp_path)


def test_a_distributed_checkpoint_without_its_metadata_is_refused(tmp_path):
    write(tmp_path / "__0_0.distcp", b"x")
    assert "its metadata is absent" in refusal(tmp_path)
