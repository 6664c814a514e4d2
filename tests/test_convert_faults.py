"""Conversions that are killed, starved or disturbed: the old checkpoint stays whole, and no half of one is left."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from converting import EXPERTS, PREFIX, contents, layer, sharded
from dying import FAILED, deaths, in_child, snapshot
from safetensors.torch import load_file
from weights import write

from treealign import ConversionMapping, Rename, convert_checkpoint
from treealign.checkpoint.conversion import moving
from treealign.checkpoint.readers import Reader
from treealign.errors import FormatError
from treealign.formats.checkpoints import open_checkpoint
from treealign.formats.transaction import locking
from treealign.formats.transaction.locking import locked
from treealign.formats.transaction.stages import SUFFIX
from treealign.formats.transaction.transaction import transaction

SHORTER = ConversionMapping([Rename("l", "k")])


@pytest.fixture
def source(tmp_path):
    return sharded(tmp_path / "source", [layer(0), layer(1)])


# -- killed ------------------------------------------------------------------------------------------------------------


def test_a_conversion_killed_anywhere_leaves_the_source_and_nothing_half(source, tmp_path):
    convert_checkpoint(source, tmp_path / "whole", EXPERTS)
    before, after = snapshot(source), contents(tmp_path / "whole")
    out = tmp_path / "out"
    for call in deaths(lambda: convert_checkpoint(source, out, EXPERTS)):
        assert snapshot(source) == before, call
        assert not out.exists() or contents(out) == after, call
        convert_checkpoint(source, out, EXPERTS, force=True)
        assert contents(out) == after, call
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source", "whole"]
        subprocess.run(["rm", "-r", out], check=True)
    assert call > 30


def test_a_renaming_in_place_killed_anywhere_is_finished_later(source, tmp_path):
    convert_checkpoint(source, tmp_path / "whole", SHORTER)
    before, after = contents(source), contents(tmp_path / "whole")
    for call in deaths(lambda: convert_checkpoint(source, None, SHORTER, in_place=True)):
        convert_checkpoint(source, None, SHORTER, in_place=True)
        assert contents(source) == after, call
        convert_checkpoint(source, None, SHORTER, reverse=True, in_place=True)
        assert contents(source) == before, call
    assert call > 20


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_process_leaves_the_source_and_nothing_half(tmp_path, seed):
    """A real process and a real signal; scripts/faults.py does this at fifty points."""
    source = tmp_path / "source"
    write(source / "model.safetensors", {f"l.{i}": torch.randn(1 << 18) for i in range(8)})
    PREFIX.to_json(tmp_path / "mapping.json")
    before, out = snapshot(source), tmp_path / "out"
    command = [sys.executable, "-m", "treealign.cli", "convert", source, out, tmp_path / "mapping.json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline and not (tmp_path / f".out{SUFFIX}").exists():
            time.sleep(0.001)
        time.sleep(random.Random(seed).uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
    assert snapshot(source) == before
    convert_checkpoint(source, tmp_path / "whole", PREFIX)
    assert not out.exists() or contents(out) == contents(tmp_path / "whole")
    convert_checkpoint(source, out, PREFIX, force=True)
    assert contents(out) == contents(tmp_path / "whole")


# -- starved -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 100, 300, 600])
def test_a_full_disk_leaves_everything_as_it_was(source, tmp_path, room):
    before = snapshot(tmp_path)
    status = in_child(
        lambda: convert_checkpoint(source, tmp_path / "out", EXPERTS),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert status == FAILED
    assert snapshot(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("room", [0, 1000])
def test_a_full_disk_leaves_a_renaming_in_place_undone(source, room):
    before = snapshot(source)
    status = in_child(
        lambda: convert_checkpoint(source, None, SHORTER, in_place=True),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert (status, snapshot(source)) == (FAILED, before)


def test_a_place_that_cannot_be_written_to_is_refused(source):
    with pytest.raises(FormatError, match="cannot write"):
        convert_checkpoint(source, "/proc/treealign/out", PREFIX)


def test_a_place_below_a_file_is_refused(source):
    (source.parent / "file").touch()
    with pytest.raises(FormatError, match="cannot write"):
        convert_checkpoint(source, source.parent / "file" / "out", PREFIX)


FAILING = [(call, code) for call in ("fsync", "copy_file_range", "pwrite") for code in (errno.EIO, errno.ENOSPC)]
# there the bytes are read and written by ourselves, which tells whose fault it is
FAILING.remove(("copy_file_range", errno.EIO))


@pytest.mark.parametrize(("call", "code"), FAILING)
def test_a_failing_disk_leaves_everything_as_it_was(source, tmp_path, monkeypatch, call, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    before = snapshot(tmp_path)
    with pytest.raises(FormatError, match=os.strerror(code)):
        convert_checkpoint(source, tmp_path / "out", PREFIX)
    assert snapshot(tmp_path) == before


def test_a_source_on_a_failing_disk_cannot_be_read_and_is_named(source, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for call in ("copy_file_range", "sendfile", "preadv"):
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(FormatError, match=r"source/model-0000.*: cannot read the file: Input/output error"):
        convert_checkpoint(source, tmp_path / "out", PREFIX)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_source_that_is_gone_when_its_turn_comes_cannot_be_read(tmp_path):
    with Reader() as reader, pytest.raises(FormatError, match="gone: cannot read the file: No such file"):
        reader.descriptor(str(tmp_path / "gone"))


# -- disturbed ---------------------------------------------------------------------------------------------------------


def test_a_second_run_to_the_same_place_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "PATIENCE", 0)
    with transaction(tmp_path / "out"), pytest.raises(FormatError, match="another run"):
        convert_checkpoint(source, tmp_path / "out", PREFIX)
    convert_checkpoint(source, tmp_path / "out", PREFIX)


def test_a_renaming_in_place_is_refused_while_others_read(source, tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "PATIENCE", 0)
    with locked(source, alone=False):
        convert_checkpoint(source, tmp_path / "out", PREFIX)
        with pytest.raises(FormatError, match="another run"):
            convert_checkpoint(source, None, SHORTER, in_place=True)


@pytest.mark.parametrize("when", [0, 1])
def test_a_source_that_changes_while_it_is_read_is_refused(source, tmp_path, monkeypatch, when):
    move = moving.Mover.move
    moved = []

    def disturbed(self, descriptor, span):
        if len(moved) == when:
            write(source / "model-00001-of-00002.safetensors", layer(0))
        moved.append(span)
        move(self, descriptor, span)

    monkeypatch.setattr(moving.Mover, "move", disturbed)
    with pytest.raises(FormatError, match="has changed"):
        convert_checkpoint(source, tmp_path / "out", PREFIX)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_source_that_is_cut_while_it_is_read_is_refused(source, tmp_path, monkeypatch):
    move = moving.Mover.move

    def disturbed(self, descriptor, span):
        os.truncate(span.path, span.begin + span.size // 2)
        move(self, descriptor, span)

    monkeypatch.setattr(moving.Mover, "move", disturbed)
    with pytest.raises(FormatError, match="shorter than it was"):
        convert_checkpoint(source, tmp_path / "out", PREFIX)


# -- where the system has less -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
@pytest.mark.parametrize("lacking", [("copy_file_range",), ("copy_file_range", "sendfile")], ids=len)
def test_bytes_are_moved_by_whatever_the_system_has(source, tmp_path, monkeypatch, lacking, code):
    convert_checkpoint(source, tmp_path / "whole", EXPERTS)

    def fail(*_):
        raise OSError(code, os.strerror(code))

    for name in lacking:
        monkeypatch.setattr(os, name, fail)
    convert_checkpoint(source, tmp_path / "out", EXPERTS)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_bytes_are_moved_where_the_system_has_no_such_calls(source, tmp_path, monkeypatch):
    convert_checkpoint(source, tmp_path / "whole", EXPERTS)
    for name in ("copy_file_range", "sendfile"):
        monkeypatch.delattr(os, name)
    convert_checkpoint(source, tmp_path / "out", EXPERTS)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_system_that_moves_little_at_a_time_is_asked_again(source, tmp_path, monkeypatch):
    convert_checkpoint(source, tmp_path / "whole", EXPERTS)
    whole = os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", lambda s, t, size, *places: whole(s, t, min(size, 7), *places))
    convert_checkpoint(source, tmp_path / "out", EXPERTS)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_data_of_large_files_stand_where_blocks_can_be_shared(tmp_path):
    path = write(tmp_path / "in.safetensors", {f"l.{i}": torch.randn(1 << 17) for i in range(3)})
    convert_checkpoint(path, tmp_path / "out.safetensors", PREFIX)
    begins = [open_checkpoint(file).files[0].data_start for file in (path, tmp_path / "out.safetensors")]
    assert begins[0] % 4096 == begins[1] % 4096
    convert_checkpoint(tmp_path / "out.safetensors", tmp_path / "back.safetensors", PREFIX, reverse=True)
    assert (tmp_path / "back.safetensors").read_bytes() == path.read_bytes()


def sharing(shared):
    """A file system that shares whole blocks, and keeps a list of them."""

    def share(source, target, begin, at, size):
        assert (begin % 4096, at % 4096, size % 4096) == (0, 0, 0)
        shared.append(size)
        moving.write_at(target, os.pread(source, size, begin), at)

    return share


def test_whole_blocks_are_shared_and_only_the_ends_copied(tmp_path, monkeypatch):
    path = write(tmp_path / "in.safetensors", {f"l.{i}": torch.randn(1 << 18) for i in range(30)})
    shared, copied = list[int](), list[int]()
    whole = os.copy_file_range
    monkeypatch.setattr(moving, "share", sharing(shared))
    monkeypatch.setattr(os, "copy_file_range", lambda s, t, size, *at: copied.append(size) or whole(s, t, size, *at))
    convert_checkpoint(path, tmp_path / "out.safetensors", PREFIX)
    convert_checkpoint(tmp_path / "out.safetensors", tmp_path / "back.safetensors", PREFIX, reverse=True)
    assert (tmp_path / "back.safetensors").read_bytes() == path.read_bytes()
    assert sum(shared) > 2 * (30 << 20) - 4 * 4096
    assert all(size < 4096 for size in copied)


def test_what_cannot_be_shared_is_asked_for_once_and_copied(tmp_path, monkeypatch):
    path = write(tmp_path / "in.safetensors", {f"l.{i}": torch.randn(1 << 18) for i in range(70)})
    asked = list[int]()

    def refuse(*arguments):
        asked.append(arguments[-1])
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(moving, "share", refuse)
    convert_checkpoint(path, tmp_path / "out.safetensors", PREFIX)
    assert len(asked) == 1
    assert load_file(tmp_path / "out.safetensors").keys() == {f"model.l.{i}" for i in range(70)}


def test_a_full_disk_while_blocks_are_shared_is_said(source, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = write(tmp_path / "in.safetensors", {"l": torch.randn(1 << 19)})
    monkeypatch.setattr(moving, "share", full)
    with pytest.raises(FormatError, match="cannot write: No space left"):
        convert_checkpoint(path, tmp_path / "out.safetensors", PREFIX)
    assert not (tmp_path / "out.safetensors").exists()
