"""Renaming in place: only headers are written, and a crash at any point can be ended by a later run."""

from __future__ import annotations

import os

import pytest
import torch
from converting import EXPERTS, INDEX, PREFIX, REMOVED, contents, layer, sharded, tensors_of
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from weights import write

from treealign import ConversionMapping, Rename, TreealignError, convert_checkpoint
from treealign.errors import FormatError
from treealign.formats.safetensors_header import read_header
from treealign.formats.transaction import journal, swapping, transaction

SHORTER = ConversionMapping([Rename("l", "k"), Rename("**.qkv", "**.in")])


@pytest.fixture
def source(tmp_path):
    return sharded(tmp_path / "source", [layer(0), layer(1)])


def rename(source, mapping=SHORTER, **options):
    return convert_checkpoint(source, None, mapping, in_place=True, **options)


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(folder, *arguments, **options):
    """The message; and nothing was changed."""
    before = snapshot(folder)
    with pytest.raises(TreealignError) as caught:
        rename(*arguments, **options)
    assert snapshot(folder) == before
    return str(caught.value)


def test_in_place_gives_what_a_copy_would_hold(source, tmp_path):
    convert_checkpoint(source, tmp_path / "copy", SHORTER)
    rename(source)
    assert contents(source) == contents(tmp_path / "copy")


def test_only_the_headers_are_written(source):
    before = {path.name: (path.stat().st_ino, path.stat().st_size) for path in source.glob("*.safetensors")}
    rename(source)
    assert {path.name: (path.stat().st_ino, path.stat().st_size) for path in source.glob("*.safetensors")} == before


def test_back_in_place_gives_the_same_files(source):
    before = {name: data for name, data in snapshot(source).items() if name != INDEX}
    rename(source)
    rename(source, reverse=True)
    assert {name: data for name, data in snapshot(source).items() if name != INDEX} == before


def test_a_single_file_is_renamed_in_place(tmp_path):
    path = write(tmp_path / "in.safetensors", {"long_name": torch.ones(2)})
    rename(path, [Rename("long_name", "x")], verify=True)
    assert torch.equal(load_file(path)["x"], torch.ones(2))


def test_in_place_again_changes_nothing(source):
    rename(source)
    before = snapshot(source)
    assert rename(source).files == ()
    assert snapshot(source) == before


def test_a_half_prefixed_checkpoint_comes_back_in_place(tmp_path):
    source = sharded(tmp_path / "source", [{"bad.a": torch.randn(2), "b": torch.randn(2)}, {"bad.c": torch.ones(1)}])
    before = contents(source)
    assert rename(source, REMOVED).recorded
    assert set(tensors_of(source)) == {"a", "b", "c"}
    assert rename(source, REMOVED, reverse=True).by == "record"
    assert contents(source) == before
    assert sorted(path.name for path in source.iterdir()) == sorted([*before[0], INDEX, "config.json"])


# -- refused -----------------------------------------------------------------------------------------------------------


def test_names_that_do_not_fit_are_refused(source):
    text = refused(source, source, [Rename("l", "a_level_that_is_much_longer")])
    assert "the header takes" in text


def test_conversions_are_refused_in_place(source):
    assert "tensors change" in refused(source, source, EXPERTS)


def test_a_change_of_dtype_is_refused_in_place(source):
    assert "tensors change" in refused(source, source, dtype="bfloat16")


def test_links_are_refused_in_place(source, tmp_path):
    cache = tmp_path / "snapshot"
    cache.mkdir()
    for path in source.iterdir():
        (cache / path.name).symlink_to(path)
    assert "a link" in refused(cache, cache)


def test_files_with_two_names_are_refused_in_place(source, tmp_path):
    shard = next(source.glob("*.safetensors"))
    os.link(shard, tmp_path / "other.safetensors")
    assert "a link" in refused(source, source)


def test_a_torch_file_is_refused_in_place(tmp_path):
    (tmp_path / "in").mkdir()
    torch.save({"l.w": torch.ones(2)}, tmp_path / "in" / "model.bin")
    assert "torch file" in refused(tmp_path / "in", tmp_path / "in")


def test_another_destination_is_refused_in_place(source, tmp_path):
    with pytest.raises(TreealignError, match="no other destination"):
        convert_checkpoint(source, tmp_path / "out", PREFIX, in_place=True)


# -- cut short ---------------------------------------------------------------------------------------------------------


# by what a renaming changes files
CHANGING = ("write_at", "sync_descriptors", "sync_folder", "_move", "_put_by", "forget")


class Cut(BaseException):
    """The process dies here: nothing after it is carried out, no cleaning up either."""


def steps_of(monkeypatch, stop=None):
    """Let every change on the disk be counted, and the process die before one of them."""
    done = []

    def counted(function):
        def call(*arguments):
            if len(done) == stop:
                raise Cut
            done.append(function.__name__)
            return function(*arguments)

        return call

    for module, name in ((journal, "write_at"), *((swapping, name) for name in CHANGING)):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    return done


def cut_short(monkeypatch, source, at):
    """Begin a renaming and die after some changes, as a killed process does: whatever would clean up dies too."""

    def die(*_):
        raise Cut

    with monkeypatch.context() as patched:
        steps_of(patched, at)
        patched.setattr(transaction, "remove", die)
        patched.setattr(transaction.Transaction, "_take_back", die)
        with pytest.raises(Cut):
            rename(source)


def changes(monkeypatch, source):
    with monkeypatch.context() as patched:
        done = steps_of(patched)
        rename(source)
    rename(source, reverse=True)
    return len(done)


def readable(source):
    """The keys, if every file is one that safetensors reads."""
    try:
        found = set()
        for path in sorted(source.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                found |= set(file.keys())
    except SafetensorError:
        return None
    return found


def test_a_run_cut_short_anywhere_is_finished_by_the_same_run(source, tmp_path, monkeypatch):
    convert_checkpoint(source, tmp_path / "copy", SHORTER)
    before, after = contents(source), contents(tmp_path / "copy")
    for at in range(changes(monkeypatch, source)):
        cut_short(monkeypatch, source, at)
        rename(source)
        assert contents(source) == after
        assert not list(source.glob(".*"))
        rename(source, reverse=True)
        assert contents(source) == before


def test_a_run_cut_short_anywhere_is_taken_back_by_the_reverse(source, monkeypatch):
    before = contents(source)
    for at in range(1, changes(monkeypatch, source)):
        cut_short(monkeypatch, source, at)
        rename(source, reverse=True)
        assert contents(source) == before


def test_what_is_cut_short_is_old_or_new_or_unreadable_to_others(source, monkeypatch):
    old = readable(source)
    new = {SHORTER.map_keys([key])[key][0] for key in old}
    seen = set()
    for at in range(changes(monkeypatch, source)):
        cut_short(monkeypatch, source, at)
        found = readable(source)
        assert found in (old, new, None)
        seen.add("old" if found == old else "new" if found == new else "unreadable")
        rename(source)
        rename(source, reverse=True)
    assert {"old", "unreadable"} <= seen


def test_a_file_that_was_cut_short_says_so(source, monkeypatch):
    cut_short(monkeypatch, source, 5)
    with pytest.raises(FormatError, match="cut short here"):
        read_header(source / "model-00001-of-00002.safetensors")


def test_a_failing_disk_leaves_the_files_as_they_were(source, monkeypatch):
    before = snapshot(source)
    calls = []

    def sync(descriptors):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(swapping, "sync_descriptors", sync)
    with pytest.raises(FormatError, match="Input/output error"):
        rename(source)
    assert snapshot(source) == before


def test_files_that_were_replaced_since_are_not_overwritten(source, monkeypatch):
    cut_short(monkeypatch, source, 5)
    shard = source / "model-00001-of-00002.safetensors"
    write(shard, {"other": torch.ones(3)})
    with pytest.raises(FormatError, match="not those that were being renamed"):
        rename(source)
    assert set(load_file(shard)) == {"other"}
