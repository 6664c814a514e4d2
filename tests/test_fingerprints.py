"""Hashes of content: they compose, they differ where bytes differ, and the way of reading does not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from safetensors.torch import save_file
from strategies import raw_bytes, small_counts

from treealign import read_tree
from treealign.checkpoint.sources import open_source
from treealign.values.fingerprints import LONGEST_ROW, PIECE, fingerprint, fingerprints, in_memory
from treealign.values.hashing import LONGEST, as_words, hash_rows, join, shifted

FIRST, SECOND, ALL = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 1 << 64


def slow_hash(raw: bytes) -> tuple[int, int]:
    """The definition, word by word."""
    raw += bytes(-len(raw) % 8)
    words = [raw[at : at + 8] for at in range(0, len(raw), 8)]
    first = sum(int.from_bytes(w, "little") * pow(FIRST, n, ALL) for n, w in enumerate(words))
    second = sum(int.from_bytes(w, "big") * pow(SECOND, n, ALL) for n, w in enumerate(words))
    return first % ALL, second % ALL


def fast_hash(raw: bytes) -> tuple[int, int]:
    first, second = hash_rows(as_words(np.frombuffer(raw, np.uint8).reshape(1, -1)))[0]
    return int(first), int(second)


@given(raw_bytes)
def test_rows_are_hashed_as_defined(raw):
    assert fast_hash(raw) == slow_hash(raw)


@pytest.mark.parametrize("words", [LONGEST, LONGEST + 1, 2 * LONGEST + 3])
def test_long_rows_are_hashed_as_defined(words):
    raw = np.random.default_rng(0).bytes(8 * words)
    assert fast_hash(raw) == slow_hash(raw)


@given(raw_bytes, small_counts, small_counts)
def test_the_hash_of_rows_is_that_of_all_their_bytes(seed, rows, words):
    raw = np.random.default_rng(list(seed)).integers(0, 256, (rows, 8 * words), np.uint8)
    joined = join(hash_rows(as_words(raw)), words)
    assert (int(joined[0]), int(joined[1])) == slow_hash(raw.tobytes())


def test_a_hash_can_be_moved_behind_other_bytes():
    raw = np.random.default_rng(0).bytes(80)
    parts = (
        hash_rows(as_words(np.frombuffer(raw[:24], np.uint8)[None])),
        hash_rows(as_words(np.frombuffer(raw[24:], np.uint8)[None])),
    )
    whole = (parts[0] + shifted(parts[1], 3))[0]
    assert (int(whole[0]), int(whole[1])) == slow_hash(raw)


def test_rows_with_a_single_one_each_hash_differently():
    """Each multiplier alone confuses such rows: their differences are multiples of high powers of two."""
    for dtype in (torch.float32, torch.bfloat16):
        rows = fingerprint(in_memory(torch.eye(2048).to(dtype))).rows
        assert len({(int(a), int(b)) for a, b in rows}) == 2048


SHAPES = [(3,), (7, 5), (1, 9), (4, 3, 5), (70_000,), (300, 301), (9, 3, 70, 41), (2, 150_001)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_whole_is_the_hash_of_all_bytes(shape, dtype):
    tensor = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 250).to(dtype)
    raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
    assert fingerprint(in_memory(tensor)).whole == fast_hash(raw)


def test_a_transposed_copy_shares_its_lines():
    tensor = torch.rand(90, 70)
    a, b = fingerprint(in_memory(tensor)), fingerprint(in_memory(tensor.T))
    assert np.array_equal(a.beginnings[0], b.beginnings[1])
    assert np.array_equal(a.beginnings[1], b.beginnings[0])


def test_lines_of_another_length_differ_although_they_begin_alike():
    tensor = torch.rand(90, 70)
    a, b = fingerprint(in_memory(tensor)), fingerprint(in_memory(tensor[:, :69]))
    assert not set(a.beginnings[1]) & set(b.beginnings[1])


def same(a, b):
    return (a.whole, a.telling) == (b.whole, b.telling) and np.array_equal(a.rows, b.rows)


@pytest.mark.parametrize("shape", [(700, 333), (1 << 10, 1 << 9), (5, 300, 301), (1_000_003,)])
def test_files_and_memory_give_the_same(shape, tmp_path):
    tensors = {"a": torch.rand(shape), "b": torch.rand(shape).half()}
    assert tensors["a"].nbytes > PIECE
    save_file(tensors, tmp_path / "x.safetensors")
    tree = read_tree(tensors)
    with open_source(tmp_path / "x.safetensors") as file, open_source(tensors) as memory:
        pairs = zip(*(fingerprints(source, tree, wide=True) for source in (file, memory)), strict=True)
        assert all(same(a, b) for a, b in pairs)


def test_a_narrow_tensor_hashes_like_its_wide_copy():
    tensor = torch.rand(40, 30).bfloat16()
    assert same(fingerprint(in_memory(tensor), wide=True), fingerprint(in_memory(tensor.float())))


def test_a_row_too_long_to_keep_is_hashed_in_pieces():
    tensor = torch.arange(LONGEST_ROW // 4 + 5, dtype=torch.float32)
    raw = tensor.view(torch.uint8).numpy().tobytes()
    print_ = fingerprint(in_memory(tensor))
    assert (print_.whole, len(print_.rows)) == (fast_hash(raw), 0)
