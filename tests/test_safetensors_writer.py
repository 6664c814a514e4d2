"""The writer of safetensors files: the same bytes as safetensors' own, whole or not at all."""

from __future__ import annotations

import json
import os
import stat

import numpy as np
import pytest
import torch
from byte_builders import file_bytes, tensor, write
from hypothesis import HealthCheck, given, settings
from safetensors.numpy import load_file
from safetensors.torch import save_file
from strategies import tensor_tables

from treealign.errors import FormatError
from treealign.formats.safetensors_data import open_tensors
from treealign.formats.safetensors_header import read_header
from treealign.formats.safetensors_writer import (
    Shard,
    TensorPlan,
    canonical_order,
    header_bytes,
    index_bytes,
    plan_of,
    shard_of,
    split_into_shards,
    write_safetensors,
)

PLAN = (TensorPlan("b", "F32", (2,)), TensorPlan("a", "U8", (3,)))
DATA = {"b": np.arange(2, dtype="float32"), "a": b"abc"}


def rewritten(source, target):
    """Write `target` after the layout of `source`, with its contents."""
    header = read_header(source)
    shard = shard_of(header)
    with open_tensors(header) as file:
        write_safetensors(target, shard.plan, file.read_bytes, shard.metadata, header_size=shard.header_size)
    return target.read_bytes()


@pytest.fixture
def theirs(tmp_path):
    """A file that safetensors wrote, with all that its header may hold."""
    tensors = {
        "b": torch.arange(12.0).reshape(3, 4),
        'größe\n\x7f"\\\u2028😀/': torch.arange(5).to(torch.bfloat16),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
        "f8": torch.arange(4.0).to(torch.float8_e4m3fn),
        "flags": torch.ones(3, dtype=torch.bool),
    }
    save_file(tensors, tmp_path / "theirs.safetensors", metadata={"format": "pt", "ü\t": "\x1f\u2029</script>"})
    return tmp_path / "theirs.safetensors"


def test_a_file_of_safetensors_comes_back_byte_for_byte(theirs, tmp_path):
    assert rewritten(theirs, tmp_path / "ours.safetensors") == theirs.read_bytes()


def test_the_canonical_order_is_that_of_safetensors(theirs, tmp_path):
    header = read_header(theirs)
    shuffled = sorted(plan_of(header), key=lambda planned: planned.key[::-1])
    with open_tensors(header) as file:
        write_safetensors(tmp_path / "ours", canonical_order(shuffled), file.read_bytes, header.metadata)
    assert (tmp_path / "ours").read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("spaces", [0, 1, 7, 8, 500])
def test_padding_comes_back(tmp_path, spaces):
    compact = json.dumps({"a": tensor()}, separators=(",", ":"))
    source = write(tmp_path / "source.safetensors", file_bytes(compact + " " * spaces, b"1234"))
    assert rewritten(source, tmp_path / "ours") == source.read_bytes()


@pytest.mark.parametrize("metadata", [None, {}, {"z": "1", "a": "2"}])
def test_metadata_come_back_in_their_order(tmp_path, metadata):
    write_safetensors(tmp_path / "a.safetensors", PLAN, DATA.__getitem__, metadata)
    assert read_header(tmp_path / "a.safetensors").metadata == metadata
    assert rewritten(tmp_path / "a.safetensors", tmp_path / "b") == (tmp_path / "a.safetensors").read_bytes()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensor_tables())
def test_what_was_planned_is_what_is_read(tmp_path, table):
    plan = tuple(TensorPlan(key, dtype, shape) for key, (dtype, shape, _) in table.items())
    write_safetensors(tmp_path / "x.safetensors", plan, lambda key: os.urandom(table[key][2]))
    assert set(plan_of(read_header(tmp_path / "x.safetensors"))) == set(plan)


def test_safetensors_reads_what_was_written(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", PLAN, DATA.__getitem__, {"format": "pt"})
    read = load_file(tmp_path / "x.safetensors")
    assert {key: value.tobytes() for key, value in read.items()} == {"b": DATA["b"].tobytes(), "a": b"abc"}


def test_the_data_begin_on_a_multiple_of_eight(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", PLAN, DATA.__getitem__)
    assert read_header(tmp_path / "x.safetensors").data_start % 8 == 0


def test_buffers_are_asked_for_one_by_one_in_order(tmp_path):
    asked = []
    write_safetensors(tmp_path / "x", PLAN, lambda key: asked.append(key) or DATA[key])
    assert asked == ["b", "a"]


def test_the_mode_is_what_the_umask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        write_safetensors(tmp_path / "x", PLAN, DATA.__getitem__)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_a_link_is_replaced_not_written_through(tmp_path):
    shared = write(tmp_path / "blob", b"of another model")
    (tmp_path / "x").symlink_to(shared)
    write_safetensors(tmp_path / "x", PLAN, DATA.__getitem__)
    assert (shared.read_bytes(), (tmp_path / "x").is_symlink()) == (b"of another model", False)


def test_a_source_may_be_overwritten_while_it_is_read(theirs):
    before = theirs.read_bytes()
    assert rewritten(theirs, theirs) == before


def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    write(tmp_path / "x", b"old")

    def fail(key):
        if key == "a":
            raise RuntimeError("no such tensor")
        return DATA[key]

    with pytest.raises(RuntimeError):
        write_safetensors(tmp_path / "x", PLAN, fail)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("x", b"old")]


def test_an_absent_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FormatError, match="cannot write: No such file"):
        write_safetensors(tmp_path / "nowhere" / "x", PLAN, DATA.__getitem__)


@pytest.mark.parametrize("given_bytes", [b"", b"ab", b"abcd", np.zeros((3, 2), dtype="uint8")[:, 0]])
def test_a_tensor_of_another_size_or_strided_is_refused(tmp_path, given_bytes):
    with pytest.raises(FormatError, match="a: 3 contiguous bytes planned"):
        write_safetensors(tmp_path / "x", PLAN, lambda key: given_bytes if key == "a" else DATA[key])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("planned", "reason"),
    [
        ([TensorPlan("a", "F32", ()), TensorPlan("a", "F32", ())], "a: named twice"),
        ([TensorPlan("__metadata__", "F32", ())], "a reserved name"),
        ([TensorPlan("a", "float32", ())], "unknown dtype 'float32'"),
        ([TensorPlan("a", "F4", (3,))], "does not fill whole bytes"),
        ([TensorPlan("\ud800", "F32", ())], "not writable as UTF-8"),
    ],
)
def test_a_plan_that_cannot_be_written_is_refused(planned, reason):
    with pytest.raises(FormatError, match=reason):
        header_bytes(planned)


def test_metadata_that_are_no_text_are_refused():
    with pytest.raises(FormatError, match="'k' is no text"):
        header_bytes([], {"k": 1})


def test_memory_of_a_file_outlives_its_closing(theirs):
    with open_tensors(read_header(theirs)) as file:
        view = file.read_bytes("flags")
    assert bytes(view) == b"\1\1\1"


def test_memory_of_a_file_is_read_only(theirs):
    with open_tensors(read_header(theirs)) as file:
        assert file.read_bytes("flags").readonly


def test_a_file_that_changed_since_its_header_was_read_is_refused(theirs):
    header = read_header(theirs)
    write(theirs, b"shorter")
    with pytest.raises(FormatError, match="has changed"):
        open_tensors(header)


# -- shards ------------------------------------------------------------------------------------------------------------


def test_shards_are_filled_in_order_up_to_their_size_and_what_is_larger_comes_first():
    plan = [TensorPlan(name, "U8", (size,)) for name, size in zip("abcd", (4, 4, 20, 1), strict=True)]
    assert [[t.key for t in shard.plan] for shard in split_into_shards(plan, 8)] == [["c"], ["a", "b"], ["d"]]


def test_what_fits_one_shard_is_one_file():
    assert [shard.name for shard in split_into_shards(PLAN, 100)] == ["model.safetensors"]


def test_an_index_is_written_as_transformers_writes_it():
    text = index_bytes(split_into_shards(PLAN, 8), {"total_size": 11}).decode()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


def test_a_key_in_two_shards_is_not_written():
    with pytest.raises(FormatError, match="b: in x and in y"):
        index_bytes([Shard("x", PLAN), Shard("y", PLAN[:1])])
