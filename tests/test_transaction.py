"""Everything that is written, killed before each of its calls: the old checkpoint or the new one loads at once."""

from __future__ import annotations

import base64
import gc
import json
import multiprocessing
import os
import shutil
import threading

import pytest
import torch
from converting import PREFIX, contents, layer, sharded
from dying import FAILED, deaths, in_child, snapshot
from safetensors.torch import load_file
from torch import nn
from weights import write

from treealign import (
    ConversionMapping,
    KeyTree,
    PrefixChange,
    Rename,
    TreealignError,
    convert_checkpoint,
    load,
    read_tree,
    save,
)
from treealign.changes.locking import read_lock, write_lock
from treealign.errors import FormatError
from treealign.formats import checkpoints
from treealign.formats.atomic import written_whole
from treealign.formats.collector import collector_paused
from treealign.formats.transaction import locking, swapping
from treealign.formats.transaction.locking import Lock, State, locked
from treealign.formats.transaction.recovering import recover
from treealign.formats.transaction.stages import SUFFIX
from treealign.formats.transaction.transaction import transaction

SHORTER = ConversionMapping([Rename("l", "k")])


def model(value, layers=3):
    made = nn.Sequential(*(nn.Linear(4, 4) for _ in range(layers)))
    for parameter in made.parameters():
        nn.init.constant_(parameter, value)
    return made


def value_in(folder, layers=3):
    """The one value of a model's parameters; a mixture has more than one."""
    made = model(0.0, layers)
    load(made, folder, ConversionMapping())
    (value,) = {entry.item() for parameter in made.parameters() for entry in parameter.flatten()}
    return value


def value_converted(folder):
    """The one value in what a conversion of the folder writes."""
    out = folder.with_name("converted")
    convert_checkpoint(folder, out, [PrefixChange(add="model")])
    (value,) = {
        entry.item() for file in out.glob("*.safetensors") for t in load_file(file).values() for entry in t.unique()
    }
    return value


def hidden(folder):
    return list(folder.rglob(".*"))


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(100, 60), (100, 10**6), (10**6, 100), (10**6, 10**6)])
def test_a_save_killed_anywhere_leaves_the_old_or_the_new_at_once(tmp_path, sizes):
    out, seen = tmp_path / "out", []
    save(model(1.0), out, max_shard_size=sizes[0])
    for call in deaths(lambda: save(model(2.0), out, max_shard_size=sizes[1])):
        seen.append(value_in(out))
        assert not hidden(tmp_path), call
        shutil.rmtree(out)
        save(model(1.0), out, max_shard_size=sizes[0])
    assert set(seen) == {1.0, 2.0}
    assert seen == sorted(seen)


def test_a_first_save_killed_anywhere_leaves_nothing_or_all_of_it(tmp_path):
    out, seen = tmp_path / "out", []
    for _ in deaths(lambda: save(model(2.0), out, max_shard_size=100)):
        seen.append(out.exists())
        if out.exists():
            assert value_in(out) == 2.0
        save(model(3.0), out, max_shard_size=100)
        assert value_in(out) == 3.0
        assert not hidden(tmp_path)
        shutil.rmtree(out)
    assert seen[0] is False
    assert seen[-1] is True


def test_a_save_into_an_empty_folder_killed_anywhere_leaves_nothing_or_all_of_it(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for _ in deaths(lambda: save(model(2.0), out, max_shard_size=100)):
        try:
            assert value_in(out) == 2.0
        except FormatError as error:
            assert "no weights" in str(error)
        assert not hidden(tmp_path)
        shutil.rmtree(out)
        out.mkdir()


def test_a_replacement_killed_anywhere_leaves_the_old_or_the_new_at_once(tmp_path):
    source = sharded(tmp_path / "source", [layer(0), layer(1)])
    old = sharded(tmp_path / "old", [{"x": torch.ones(2)}, {"y": torch.ones(3)}, {"z": torch.ones(1)}])
    convert_checkpoint(source, tmp_path / "whole", PREFIX)
    before, after = read_tree(old).keys, read_tree(tmp_path / "whole").keys
    out = tmp_path / "out"
    shutil.copytree(old, out)
    seen = []
    for call in deaths(lambda: convert_checkpoint(source, out, PREFIX, force=True)):
        seen.append(read_tree(out).keys)
        assert contents(out) == contents(old if seen[-1] == before else tmp_path / "whole"), call
        assert not hidden(tmp_path)
        shutil.rmtree(out)
        shutil.copytree(old, out)
    assert {before, after} == set(seen)


def test_a_single_file_killed_anywhere_is_the_old_or_the_new_with_its_own_record(tmp_path):
    write(tmp_path / "a.safetensors", {"bad.x": torch.ones(2), "y": torch.ones(1)})
    write(tmp_path / "b.safetensors", {"bad.u": torch.ones(2), "v": torch.ones(1)})
    rules = ConversionMapping([Rename("bad", "good")])
    out = tmp_path / "out" / "x.safetensors"
    convert_checkpoint(tmp_path / "b.safetensors", out, rules)
    for _ in deaths(lambda: convert_checkpoint(tmp_path / "a.safetensors", out, rules, force=True)):
        convert_checkpoint(out, tmp_path / "back.safetensors", rules, reverse=True, force=True)
        assert set(load_file(tmp_path / "back.safetensors")) in ({"bad.x", "y"}, {"bad.u", "v"})
        convert_checkpoint(tmp_path / "b.safetensors", out, rules, force=True)
        assert not hidden(tmp_path)


def test_a_renaming_in_place_killed_anywhere_loads_at_once(tmp_path):
    source = sharded(tmp_path / "source", [layer(0), layer(1)])
    convert_checkpoint(source, tmp_path / "whole", SHORTER)
    before, after = contents(source), contents(tmp_path / "whole")
    keys = {read_tree(source).keys: before, read_tree(tmp_path / "whole").keys: after}
    for call in deaths(lambda: convert_checkpoint(source, None, SHORTER, in_place=True)):
        found = read_tree(source).keys
        assert contents(source) == keys[found], call
        assert not hidden(tmp_path)
        if found != next(iter(keys)):
            convert_checkpoint(source, None, SHORTER, reverse=True, in_place=True)
        assert contents(source) == before


def test_a_lock_killed_anywhere_is_the_old_or_the_new(tmp_path):
    path = tmp_path / "treealign.lock"
    old, new = (KeyTree.from_leaves([(name, (2,), "float32")]) for name in ("a", "b"))
    write_lock(path, {"m": old})
    for _ in deaths(lambda: write_lock(path, {"m": new})):
        assert read_lock(path)["m"].keys in (old.keys, new.keys)
        assert not hidden(tmp_path)
        write_lock(path, {"m": old})


def test_a_run_that_fails_later_never_brings_an_older_checkpoint_back(tmp_path):
    """Killed, then saved, then failed: what was saved last is there."""
    source = sharded(tmp_path / "source", [layer(0), layer(1)])
    bad = write(tmp_path / "bad.safetensors", {"z": torch.ones(1)})
    out = tmp_path / "out"
    save(model(1.0), out, max_shard_size=100)
    for call in deaths(lambda: convert_checkpoint(source, out, PREFIX, force=True)):
        save(model(5.0), out, max_shard_size=100)
        with pytest.raises(TreealignError):
            convert_checkpoint(bad, out, PREFIX, force=True, dtype="none")
        assert value_in(out) == 5.0, call
        assert not hidden(tmp_path)


# -- failing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(1, 12))
def test_a_swap_that_fails_anywhere_is_taken_back(tmp_path, monkeypatch, at):
    save(model(1.0), tmp_path, max_shard_size=100)
    before = snapshot(tmp_path)
    calls, move = [], swapping._move

    def failing(*paths):
        calls.append(paths)
        if len(calls) == at:
            raise OSError(5, "Input/output error")
        move(*paths)

    monkeypatch.setattr(swapping, "_move", failing)
    try:
        save(model(2.0), tmp_path, max_shard_size=60)
    except FormatError as error:
        assert "Input/output error" in str(error)
        assert snapshot(tmp_path) == before
    else:
        assert value_in(tmp_path) == 2.0
    assert not hidden(tmp_path)


@pytest.mark.parametrize("value_by", [value_in, value_converted])
def test_a_swap_that_can_be_neither_done_nor_undone_is_done_by_the_next_run(tmp_path, monkeypatch, value_by):
    save(model(1.0), tmp_path, max_shard_size=100)
    calls, move = [], swapping._move

    def failing(*paths):
        calls.append(paths)
        if len(calls) >= 4:
            raise OSError(5, "Input/output error")
        move(*paths)

    with monkeypatch.context() as patched:
        patched.setattr(swapping, "_move", failing)
        with pytest.raises(FormatError, match="nothing is lost"):
            save(model(2.0), tmp_path, max_shard_size=100)
    assert value_by(tmp_path) == 2.0
    assert not hidden(tmp_path)


def test_a_folder_that_cannot_be_finished_says_what_happened(tmp_path, monkeypatch):
    def halted(*_):
        os._exit(FAILED)

    save(model(1.0), tmp_path, max_shard_size=100)
    in_child(lambda: save(model(2.0), tmp_path, max_shard_size=100), lambda: setattr(swapping, "_move", halted))
    with monkeypatch.context() as patched:
        patched.setattr(swapping, "_move", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(FormatError, match=r"(?s)cut short here.*nothing is lost.*Permission denied.*hint: "):
            read_tree(tmp_path)
    assert value_in(tmp_path) == 2.0


# -- beside one another ------------------------------------------------------------------------------------------------


def test_a_stage_that_is_being_written_disturbs_no_reader(tmp_path):
    save(model(1.0), tmp_path)
    with transaction(tmp_path) as held:
        (held.stage / "model.safetensors").write_bytes(b"half")
        assert value_in(tmp_path) == 1.0
        assert (held.stage / "model.safetensors").exists()


def test_the_stage_of_a_dead_run_goes_when_somebody_reads(tmp_path, caplog):
    save(model(1.0), tmp_path)
    (tmp_path / SUFFIX).mkdir()
    (tmp_path / SUFFIX / "model.safetensors").write_bytes(b"half")
    assert value_in(tmp_path) == 1.0
    assert not hidden(tmp_path)
    assert "a run was cut short before it changed anything" in caplog.text


def test_a_forked_child_holds_no_lock(tmp_path):
    lock = Lock(tmp_path, alone=True)
    assert lock.take() is State.HELD
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        lock.give_back()
        again = Lock(tmp_path, alone=True)
        assert again.take() is State.HELD
        again.give_back()
    finally:
        os.write(writing, b"x")
        os.waitpid(child, 0)


def test_a_stage_that_is_tidied_away_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    """Whoever looks for what dead runs left takes an empty stage for it: nobody may go on without the lock then."""
    take, taken = Lock.take, []

    def late(self, patience=0.0):
        if not taken:
            self.folder.rmdir()
        taken.append(self.folder)
        return take(self, patience)

    monkeypatch.setattr(Lock, "take", late)
    with transaction(tmp_path / "out") as held:
        (held.stage / "x").touch()
        assert Lock(held.at.lock, alone=True).take() is State.BUSY
        recover(tmp_path / "out")
        assert (held.stage / "x").exists()


def test_a_lock_is_given_back_on_an_interruption(tmp_path):
    with pytest.raises(KeyboardInterrupt), transaction(tmp_path / "out"):
        raise KeyboardInterrupt
    assert not hidden(tmp_path)
    save(model(1.0), tmp_path / "out")


def test_threads_that_save_to_one_folder_leave_the_work_of_one(tmp_path):
    out = tmp_path / "out"
    threads = [
        threading.Thread(target=save, args=(model(float(at)), out), kwargs={"max_shard_size": 60 + 10 * at})
        for at in range(1, 7)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value_in(out) in range(1, 7)
    assert not hidden(tmp_path)


def writer(verb, base, value):
    """One run of a verb that writes to one place; what it says if it is refused."""
    out = base / "out"
    try:
        if verb == "save":
            save(model(value), out, max_shard_size=100)
        elif verb == "convert":
            convert_checkpoint(base / f"from-{value}", out, SHORTER, force=True)
        else:
            convert_checkpoint(out, None, ConversionMapping([Rename("0", "9")]), in_place=True)
    except TreealignError:
        return


def slowed(verb, base, value):
    import time

    move = swapping._move

    def slow(*paths):
        time.sleep(0.002)
        move(*paths)

    swapping._move = slow
    locking.PATIENCE = 0.05
    writer(verb, base, value)


@pytest.mark.parametrize("pair", [("save", "save"), ("save", "convert"), ("convert", "convert"), ("save", "in place")])
def test_two_writers_at_once_leave_no_mixture(tmp_path, pair):
    for value in (2.0, 3.0):
        save(model(value), tmp_path / f"from-{value}", max_shard_size=60)
    save(model(1.0), tmp_path / "out", max_shard_size=100)
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        runs = [context.Process(target=slowed, args=(verb, tmp_path, 2.0 + at)) for at, verb in enumerate(pair)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
            assert run.exitcode == 0
        tensors = [t for path in (tmp_path / "out").glob("*.safetensors") for t in load_file(path).values()]
        values = {value.item() for tensor in tensors for value in tensor.flatten()}
        assert len(values) == 1
        read_tree(tmp_path / "out")
        assert not hidden(tmp_path)


def test_readers_of_a_folder_that_is_being_replaced_see_one_checkpoint_or_the_other(tmp_path):
    save(model(1.0), tmp_path, max_shard_size=100)
    context = multiprocessing.get_context("fork")

    def writes():
        for at in range(30):
            save(model(2.0 + at), tmp_path, max_shard_size=100 if at % 2 else 60)

    run = context.Process(target=writes)
    run.start()
    while run.is_alive():
        assert len(read_tree(tmp_path).keys) == 6
    run.join()
    assert run.exitcode == 0


# -- what is locked ----------------------------------------------------------------------------------------------------


def test_a_reader_that_comes_as_files_begin_to_change_places_reads_again(tmp_path, monkeypatch):
    """It has looked for a journal the moment before there was one."""
    save(model(1.0), tmp_path / "out", max_shard_size=100)
    begun, go_on, move, recover = threading.Event(), threading.Event(), swapping._move, checkpoints.recover
    writer = threading.Thread(target=save, args=(model(2.0), tmp_path / "out"), kwargs={"max_shard_size": 60})

    def moved(*paths):
        begun.set()
        assert go_on.wait(30)
        move(*paths)

    def recovered(path):
        if begun.is_set():
            go_on.set()
            return recover(path)
        monkeypatch.setattr(swapping, "_move", moved)
        writer.start()
        assert begun.wait(30)
        return []

    monkeypatch.setattr(checkpoints, "recover", recovered)
    checkpoints.open_checkpoint(tmp_path / "out")
    writer.join()
    assert value_in(tmp_path / "out") == 2.0


def test_a_conversion_and_a_save_respect_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "PATIENCE", 0)
    save(model(1.0), tmp_path / "out")
    with locked(tmp_path / "out", alone=True):
        with pytest.raises(FormatError, match="another run"):
            save(model(2.0), tmp_path / "out")
        with pytest.raises(FormatError, match="another run"):
            convert_checkpoint(tmp_path / "out", None, SHORTER, in_place=True)
    assert value_in(tmp_path / "out") == 1.0


def test_a_small_file_is_written_beside_a_checkpoint_that_is_being_written(tmp_path):
    save(model(1.0), tmp_path)
    with transaction(tmp_path), written_whole(tmp_path / "mapping.json") as file:
        file.write(b"{}")
    assert (tmp_path / "mapping.json").read_bytes() == b"{}"


def test_a_child_that_is_forked_while_a_file_is_read_collects_garbage_as_before():
    with collector_paused():
        child = os.fork()
        if not child:
            os._exit(0 if gc.isenabled() else FAILED)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gc.isenabled()


# -- a folder from anywhere --------------------------------------------------------------------------------------------


def journal(folder, **parts):
    (folder / SUFFIX).mkdir(parents=True)
    data = {"format": "treealign.transaction", "version": 1, "goes": {}, "replaced": {}, "comes": {}, "patches": {}}
    (folder / SUFFIX / ".journal.json").write_text(json.dumps({**data, "request": {}, **parts}))


@pytest.mark.parametrize("part", ["goes", "replaced", "comes", "patches"])
@pytest.mark.parametrize("name", ["../../b/x", "/etc/x", "a/../../x", "..", "", "a//b", "C:\\x"])
def test_a_journal_moves_nothing_out_of_its_folder_or_into_it(tmp_path, part, name):
    write(tmp_path / "out" / "model.safetensors", {"a": torch.ones(1)})
    (tmp_path / "b").mkdir()
    journal(tmp_path / "out", **{part: {name: ["AA==", "AA=="] if part == "patches" else [1, 1, 1]}})
    before = snapshot(tmp_path)
    with pytest.raises(FormatError, match="is not in the folder"):
        read_tree(tmp_path / "out")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("link", ["sub", f"{SUFFIX}/sub", f"{SUFFIX}/.old"])
def test_a_journal_follows_no_link(tmp_path, link):
    write(tmp_path / "out" / "model.safetensors", {"a": torch.ones(1)})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_text("mine")
    journal(tmp_path / "out", comes={"sub/x": [1, 1, 1]})
    (tmp_path / "out" / link).symlink_to(tmp_path / "elsewhere")
    before = snapshot(tmp_path)
    with pytest.raises(FormatError, match="are not those"):
        read_tree(tmp_path / "out")
    assert snapshot(tmp_path) == before


def test_a_journal_rewrites_no_file_through_a_link(tmp_path):
    mine = write(tmp_path / "mine.safetensors", {"a": torch.ones(1)})
    start = base64.b64encode(mine.read_bytes()[:8]).decode()
    journal(tmp_path / "out", patches={"model.safetensors": [start, "AAAAAAAAAAA="]})
    (tmp_path / "out" / "model.safetensors").symlink_to(mine)
    before = mine.read_bytes()
    with pytest.raises(FormatError, match="being renamed"):
        read_tree(tmp_path / "out")
    assert mine.read_bytes() == before


@pytest.mark.parametrize("where", ["layout", "index", "beside"])
def test_a_record_has_no_file_written_elsewhere(tmp_path, where):
    write(tmp_path / "in" / "model.safetensors", {"bad.x": torch.ones(2), "y": torch.ones(1)})
    rules = ConversionMapping([PrefixChange(remove="bad")])
    convert_checkpoint(tmp_path / "in", tmp_path / "out", rules)
    path = tmp_path / "out" / "treealign_record.json"
    record = json.loads(path.read_text())
    data = record["conversion"]
    if where == "layout":
        data["layout"]["files"][0]["name"] = "../x.safetensors"
    elif where == "index":
        data["layout"] |= {"index": {}, "index_name": "../x.json"}
    else:
        data["beside"] = {"../x": "x"}
    path.write_text(json.dumps(record))
    with pytest.raises(FormatError, match="no plain names"):
        convert_checkpoint(tmp_path / "out", tmp_path / "back", rules, reverse=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
