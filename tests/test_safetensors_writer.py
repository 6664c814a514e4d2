"""The writer of safetensors files: the same bytes as safetensors' own, whole or not at all."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from byte_builders import file_bytes, tensor, write, written
from hypothesis import HealthCheck, given, settings
from safetensors.numpy import load_file
from safetensors.torch import save_file
from strategies import tensor_tables

from treealign.errors import FormatError
from treealign.formats.safetensors_header import read_header
from treealign.formats.safetensors_writer import (
    Shard,
    TensorPlan,
    canonical_order,
    header_bytes,
    index_bytes,
    plan_of,
    split_into_shards,
)

PLAN = (TensorPlan("b", "F32", (2,)), TensorPlan("a", "U8", (3,)))
DATA = {"b": np.arange(2, dtype="float32"), "a": b"abc"}


def rewritten(source, target):
    """Write `target` after the layout of `source`, with its contents."""
    header = read_header(source)
    plan, size = plan_of(header), header.data_start - 8
    return written(target, plan, data_of(source), header.metadata, header_size=size).read_bytes()


def data_of(path):
    """Key to the bytes of its tensor."""
    header, raw = read_header(path), path.read_bytes()
    start = header.data_start
    return {entry.key: raw[start + entry.begin : start + entry.end] for entry in header.tensors}.__getitem__


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
    written(tmp_path / "ours", canonical_order(shuffled), data_of(theirs), header.metadata)
    assert (tmp_path / "ours").read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("spaces", [0, 1, 7, 8, 500])
def test_padding_comes_back(tmp_path, spaces):
    compact = json.dumps({"a": tensor()}, separators=(",", ":"))
    source = write(tmp_path / "source.safetensors", file_bytes(compact + " " * spaces, b"1234"))
    assert rewritten(source, tmp_path / "ours") == source.read_bytes()


@pytest.mark.parametrize("metadata", [None, {}, {"z": "1", "a": "2"}])
def test_metadata_come_back_in_their_order(tmp_path, metadata):
    written(tmp_path / "a.safetensors", PLAN, DATA.__getitem__, metadata)
    assert read_header(tmp_path / "a.safetensors").metadata == metadata
    assert rewritten(tmp_path / "a.safetensors", tmp_path / "b") == (tmp_path / "a.safetensors").read_bytes()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensor_tables())
def test_what_was_planned_is_what_is_read(tmp_path, table):
    plan = tuple(TensorPlan(key, dtype, shape) for key, (dtype, shape, _) in table.items())
    written(tmp_path / "x.safetensors", plan, lambda key: os.urandom(table[key][2]))
    assert set(plan_of(read_header(tmp_path / "x.safetensors"))) == set(plan)


def test_safetensors_reads_what_was_written(tmp_path):
    written(tmp_path / "x.safetensors", PLAN, DATA.__getitem__, {"format": "pt"})
    read = load_file(tmp_path / "x.safetensors")
    assert {key: value.tobytes() for key, value in read.items()} == {"b": DATA["b"].tobytes(), "a": b"abc"}


def test_the_data_begin_on_a_multiple_of_eight(tmp_path):
    written(tmp_path / "x.safetensors", PLAN, DATA.__getitem__)
    assert read_header(tmp_path / "x.safetensors").data_start % 8 == 0


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
