"""The fuzzing script: it finds what it is for, and finds nothing in the readers as they are."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import fuzz_header
import pytest
from byte_builders import file_bytes, tensor

from treealign.formats import safetensors_checks, safetensors_header

SEEDS = list(fuzz_header.seeds(random.Random(0)))


def test_mutations_of_good_files_are_taken_only_where_safetensors_takes_them():
    seen: Counter[str] = Counter()
    chance = random.Random(0)
    for _ in range(5000):
        fuzz_header.check(fuzz_header.mutated(chance.choice(SEEDS), chance), seen)
    assert seen["taken"] > 50
    assert seen["refused"] > 500


def test_good_files_are_taken():
    seen: Counter[str] = Counter()
    for data in SEEDS:
        fuzz_header.check(data, seen)
    assert set(seen) == {"taken", "index taken"}


def test_a_reader_that_takes_too_much_is_found(monkeypatch):
    def lenient(described, data_size):
        return safetensors_checks.check_tensors(described, data_size)[0], []

    monkeypatch.setattr(safetensors_header, "check_tensors", lenient)
    hole = file_bytes({"a": tensor(begin=4, end=8)}, 8)
    with pytest.raises(fuzz_header.FoundError, match="safetensors refuses it"):
        fuzz_header.check(bytes([fuzz_header.AS_IT_STANDS]) + hole, Counter())


def test_a_reader_that_reads_otherwise_is_found(monkeypatch):
    real = fuzz_header.header_of

    def other(file, name, size):
        return replace(real(file, name, size), tensors=())

    monkeypatch.setattr(fuzz_header, "header_of", other)
    whole = file_bytes({"a": tensor()}, 4)
    with pytest.raises(fuzz_header.FoundError, match="by safetensors as"):
        fuzz_header.check(bytes([fuzz_header.AS_IT_STANDS]) + whole, Counter())
