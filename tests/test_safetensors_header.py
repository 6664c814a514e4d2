"""The strict reader of safetensors headers: what it refuses, with which words, and what it accepts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from byte_builders import file_bytes, tensor, write
from hypothesis import HealthCheck, given, settings
from safetensors import SafetensorError, safe_open
from strategies import safetensors_bytes, tensor_tables

from treealign.errors import FormatError
from treealign.formats.safetensors_header import Header, read_header


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def refusal(path, contents):
    """The error's text, without the machine's part of the path; the file must be named and a hint given."""
    with pytest.raises(FormatError) as caught:
        read_header(write(path, contents))
    assert caught.value.where == str(path)
    return str(caught.value)


# -- accepted ----------------------------------------------------------------------------------------------------------


def test_a_header_gives_keys_dtypes_shapes_and_ranges(path):
    header = {"__metadata__": {"format": "pt"}, "w": tensor("BF16", [2, 3], 0, 12), "b": tensor("F32", [1], 12, 16)}
    contents = file_bytes(header, 16)
    read = read_header(write(path, contents))
    assert [tuple(entry) for entry in read.tensors] == [("w", "BF16", (2, 3), 0, 12), ("b", "F32", (1,), 12, 16)]
    assert (read.path, read.metadata, read.size) == (str(path), {"format": "pt"}, len(contents))
    assert read.data_start == len(contents) - 16


def test_tensors_stand_in_the_order_of_their_data(path):
    read = read_header(write(path, file_bytes({"b": tensor(begin=4, end=8), "a": tensor()}, 8)))
    assert [entry.key for entry in read.tensors] == ["a", "b"]


def test_a_dtype_has_the_spelling_of_torch(path):
    read = read_header(write(path, file_bytes({"w": tensor("F8_E4M3", [4])}, 4)))
    assert read.entries["w"].torch_dtype == "float8_e4m3fn"


def test_a_packed_dtype_has_the_shape_of_torch(path):
    read = read_header(write(path, file_bytes({"w": tensor("F4", [2, 4])}, 4)))
    assert (read.tensors[0].torch_dtype, read.tensors[0].torch_shape) == ("float4_e2m1fn_x2", (2, 2))


def test_a_file_without_tensors_is_accepted(path):
    assert read_header(write(path, file_bytes({}))).tensors == ()


def test_a_file_without_metadata_is_accepted(path):
    assert read_header(write(path, file_bytes({"a": tensor()}, 4))).metadata is None


def test_metadata_keep_their_order(path):
    read = read_header(write(path, file_bytes({"__metadata__": {"z": "1", "a": "2"}})))
    assert list(read.metadata.items()) == [("z", "1"), ("a", "2")]


def test_zero_size_tensors_are_accepted_wherever_they_stand(path):
    header = {"a": tensor(shape=[0, 7], end=0), "b": tensor(), "c": tensor(shape=[0], begin=4, end=4)}
    assert [entry.key for entry in read_header(write(path, file_bytes(header, 4))).tensors] == ["a", "b", "c"]


def test_a_scalar_is_accepted(path):
    assert read_header(write(path, file_bytes({"a": tensor(shape=[])}, 4))).tensors[0].shape == ()


def test_space_padding_is_accepted(path):
    assert read_header(write(path, file_bytes(b"{}" + b" " * 30))).data_start == 40


def test_keys_with_colons_and_braces_are_accepted(path):
    keys = ['a:b":c', "{x}", "", ".a..b.", "größe.😀"]
    header = {key: tensor(begin=4 * at, end=4 * at + 4) for at, key in enumerate(keys)}
    assert [entry.key for entry in read_header(write(path, file_bytes(header, 20))).tensors] == keys


def test_a_key_of_ten_thousand_segments_is_read(path):
    key = ".".join(["x"] * 10_000)
    assert read_header(write(path, file_bytes({key: tensor()}, 4))).tensors[0].key == key


def test_a_sparse_file_of_many_gigabytes_costs_nothing(path):
    write(path, file_bytes({"a": tensor("U8", [2**40], 0, 2**40)}))
    os.truncate(path, path.stat().st_size + 2**40)
    assert read_header(path).tensors[0].end == 2**40


# -- refused: the file -------------------------------------------------------------------------------------------------


def test_an_absent_file_is_refused(path):
    with pytest.raises(FormatError, match="No such file"):
        read_header(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(FormatError, match="not a regular file"):
        read_header(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_without_waiting_for_a_writer(path):
    os.mkfifo(path)
    with pytest.raises(FormatError, match="not a regular file"):
        read_header(path)


def test_an_empty_file_is_refused(path):
    assert "the file is empty" in refusal(path, b"")


def test_a_file_shorter_than_a_header_length_is_refused(path):
    assert "the file has 7 bytes" in refusal(path, bytes(7))


def test_an_empty_header_is_refused(path):
    assert "the header cannot be read" in refusal(path, bytes(8))


def test_a_header_length_beyond_the_file_is_refused(path):
    contents = (1000).to_bytes(8, "little") + b"{}"
    assert "the header takes 1000 bytes after the first 8; the file has 2" in refusal(path, contents)


def test_a_header_above_the_format_s_limit_is_refused(path):
    contents = (100_000_001).to_bytes(8, "little") + b"{}"
    assert "100000001 bytes long; the format allows 100000000" in refusal(path, contents)


def test_a_header_length_of_all_ones_is_refused(path):
    assert "the format allows 100000000" in refusal(path, b"\xff" * 8 + b"{}")


def test_a_git_lfs_pointer_is_recognised(path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    text = refusal(path, pointer)
    assert "a Git LFS pointer" in text
    assert "git lfs pull" in text


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>", b"\n  <html lang=en>", b"<?xml version='1.0'?>"])
def test_a_web_page_is_recognised(path, page):
    assert "an HTML page" in refusal(path, page)


def test_a_zip_archive_is_recognised(path):
    assert "a zip archive" in refusal(path, b"PK\x03\x04" + bytes(100))


# -- refused: the text of the header -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"a": ', "invalid JSON"),
        (b"{'a': 1}", "invalid JSON"),
        (b"{} {}", "invalid JSON"),
        (b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[00,0]}}', "invalid JSON"),
        (b'{"\xff": 1}', "invalid UTF-8 at byte 2"),
        (b"\xef\xbb\xbf{}", "a byte order mark"),
        (b'{"\\ud800":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}', "half a surrogate pair"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,0]}}', "integer"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else "",
)
def test_text_that_cannot_be_read_is_refused(path, raw, reason):
    text = refusal(path, file_bytes(raw))
    assert "the header cannot be read" in text
    assert reason in text


def test_nul_padding_is_refused(path):
    assert "padded with NUL bytes" in refusal(path, file_bytes(b"{}" + bytes(6)))


@pytest.mark.parametrize("raw", ["[]", "1", '"a"', "null", " {}"])
def test_a_header_that_is_no_object_is_refused(path, raw):
    assert "the header is no JSON object" in refusal(path, file_bytes(raw))


# -- refused: what the header says -------------------------------------------------------------------------------------


def test_a_key_that_stands_twice_is_refused(path):
    one = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    assert "a: stands in the header more than once" in refusal(path, file_bytes(f"{{{one},{one}}}", 4))


def test_a_key_that_stands_twice_in_two_spellings_is_refused(path):
    one = '"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = f"{{{one},{one.replace('a', chr(92) + 'u0061', 1)}}}"
    assert "a: stands in the header more than once" in refusal(path, file_bytes(header))


def test_a_repeat_is_found_in_spite_of_colons_in_names(path):
    one = '"a:b":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    assert "a:b: stands in the header more than once" in refusal(path, file_bytes(f"{{{one},{one}}}"))


def test_a_field_stated_twice_is_refused(path):
    header = '{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    assert "a: dtype stated twice" in refusal(path, file_bytes(header, 4))


def test_metadata_stated_twice_are_refused(path):
    assert "__metadata__: 'a' stated twice" in refusal(path, file_bytes('{"__metadata__":{"a":"1","a":"2"}}'))


@pytest.mark.parametrize("metadata", [1, "text", [], None, True])
def test_metadata_that_are_no_object_are_refused(path, metadata):
    assert "__metadata__: no object of texts" in refusal(path, file_bytes({"__metadata__": metadata}))


@pytest.mark.parametrize("value", [1, None, ["a"], {"a": "b"}])
def test_metadata_that_are_no_text_are_refused(path, value):
    assert "__metadata__: 'k' is no text" in refusal(path, file_bytes({"__metadata__": {"k": value}}))


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        (tensor("F33"), "unknown dtype 'F33'"),
        (tensor("f32"), "unknown dtype 'f32'"),
        (tensor(None), "unknown dtype None"),
        (tensor(["F32"]), "unknown dtype ['F32']"),
        (tensor(shape=[-1]), "shape [-1] is no list of sizes"),
        (tensor(shape=[1.0]), "shape [1.0] is no list of sizes"),
        (tensor(shape=[True]), "shape [True] is no list of sizes"),
        (tensor(shape=1), "shape 1 is no list of sizes"),
        (tensor(shape={"0": 1}), "is no list of sizes"),
        (tensor(shape=[2**64, 0], end=0), "is no list of sizes"),
        (tensor(shape=[2**40, 2**40, 0], end=0), "more elements than can be counted"),
        (tensor(begin="0"), "are no pair of integers"),
        (tensor(begin=0.0), "are no pair of integers"),
        (tensor(begin=False), "are no pair of integers"),
        (tensor(end=None), "are no pair of integers"),
        (tensor(begin=-4, end=0), "range -4..0 is negative"),
        (tensor(shape=[0], begin=4, end=0), "range 4..0 is reversed"),
        (tensor(begin=4, end=0), "range 4..0 is reversed"),
        (tensor(shape=[2]), "F32 of shape [2] takes 8 bytes, its range holds 4"),
        (tensor("F4", [3], 0, 2), "F4 of shape [3] does not fill whole bytes"),
        ({"dtype": "F32", "shape": [1]}, "no data_offsets"),
        ({}, "no dtype, shape, data_offsets"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 2, 4]}, "are no pair of integers"),
        ({"dtype": "F32", "shape": [1], "data_offsets": {"0": 0, "4": 4}}, "are no pair of integers"),
        (tensor(strides=[1]), "unknown field 'strides'"),
        (None, "described by null instead of an object"),
        ([], "described by a list instead of an object"),
        ("F32", "described by text instead of an object"),
        (1, "described by a number instead of an object"),
        (True, "described by a truth value instead of an object"),
    ],
    ids=str,
)
def test_a_tensor_described_wrongly_is_refused_by_key(path, described, reason):
    text = refusal(path, file_bytes({"right": tensor(), "model.wrong": described}, 8))
    assert "model.wrong: " in text
    assert reason in text


def test_minus_zero_is_no_integer(path):
    header = '{"a":{"dtype":"F32","shape":[0],"data_offsets":[-0,0]}}'
    assert "are no pair of integers" in refusal(path, file_bytes(header))


def test_overlapping_ranges_are_refused(path):
    text = refusal(path, file_bytes({"a": tensor(), "b": tensor(begin=2, end=6)}, 6))
    assert "b: begins at 2, overlaps a, which ends at 4" in text


def test_one_range_for_two_tensors_is_refused(path):
    assert "b: begins at 0, overlaps a" in refusal(path, file_bytes({"a": tensor(), "b": tensor()}, 4))


def test_a_hole_is_refused(path):
    text = refusal(path, file_bytes({"a": tensor(), "b": tensor(begin=8, end=12)}, 12))
    assert "b: begins at 8, a hole of 4 bytes after a" in text


def test_a_hole_before_the_first_tensor_is_refused(path):
    text = refusal(path, file_bytes({"a": tensor(begin=4, end=8)}, 8))
    assert "a: begins at 4, a hole of 4 bytes after the header" in text


def test_a_range_past_the_end_is_refused(path):
    assert "a: ends at 4, past the end of the data at 3" in refusal(path, file_bytes({"a": tensor()}, 3))


def test_trailing_bytes_are_refused(path):
    assert "3 trailing bytes after a belong to no tensor" in refusal(path, file_bytes({"a": tensor()}, 7))


def test_trailing_bytes_of_a_file_without_tensors_are_refused(path):
    assert "3 trailing bytes after the header" in refusal(path, file_bytes({}, 3))


def test_all_findings_come_at_once(path):
    header = {"__metadata__": {"k": 1}, "a": tensor("X"), "b": tensor(shape=[9]), "c": tensor(begin=4, end=8)}
    text = refusal(path, file_bytes(header, 8))
    assert all(f"\n  {name}: " in text for name in ("__metadata__", "a", "b"))


def test_all_findings_about_ranges_come_at_once(path):
    header = {"a": tensor(), "b": tensor(begin=2, end=6), "c": tensor(begin=10, end=14), "d": tensor(begin=14, end=18)}
    text = refusal(path, file_bytes(header, 16))
    assert all(f"\n  {name}: " in text for name in "bcd")


def test_a_wrong_dtype_hides_no_overlap_and_makes_no_hole(path):
    header = {"a": tensor("X"), "b": tensor(begin=2, end=6), "c": tensor(begin=6, end=10)}
    text = refusal(path, file_bytes(header, 10))
    assert "a: unknown dtype 'X'\n  b: begins at 2, overlaps a, which ends at 4\n\n" in text


def test_a_tensor_without_a_range_is_not_reported_as_a_hole_too(path):
    text = refusal(path, file_bytes({"a": {"dtype": "F32", "shape": [1]}, "b": tensor(begin=4, end=8)}, 8))
    assert "a: no data_offsets\n\n" in text


def test_a_flood_of_findings_is_cut_and_counted(path):
    text = refusal(path, file_bytes({f"k{at}": tensor("X", begin=4 * at, end=4 * at + 4) for at in range(80)}, 320))
    assert "… and 30 more" in text


def test_a_key_cannot_write_to_the_terminal(path):
    assert "'a\\x1b[2J\\n': " in refusal(path, file_bytes({"a\x1b[2J\n": tensor("X")}, 4))


# -- and in general ----------------------------------------------------------------------------------------------------


def verdict_of_safetensors(path):
    try:
        with safe_open(path, framework="numpy") as file:
            return sorted(file.keys())
    except (SafetensorError, OSError):
        return None


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(safetensors_bytes())
def test_any_bytes_give_a_header_or_a_format_error_and_nothing_passes_that_safetensors_refuses(path, contents):
    write(path, contents)
    try:
        read = read_header(path)
    except FormatError:
        return
    assert isinstance(read, Header)
    assert sorted(entry.key for entry in read.tensors) == verdict_of_safetensors(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensor_tables())
def test_whatever_is_well_formed_is_accepted(path, table):
    header, at = {}, 0
    for key, (dtype, shape, size) in table.items():
        header[key] = tensor(dtype, list(shape), at, at + size)
        at += size
    assert len(read_header(write(path, file_bytes(header, at))).tensors) == len(table)


def test_reading_a_header_imports_neither_torch_nor_numpy(path):
    write(path, file_bytes({"a": tensor()}, 4))
    code = (
        "import sys; from treealign.formats.safetensors_header import read_header; read_header(sys.argv[1]);"
        "print(sorted({'torch', 'numpy', 'scipy', 'transformers', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
