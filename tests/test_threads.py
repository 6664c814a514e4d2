"""What eight threads do at once is what one does, and nothing of the process is changed."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from dying import FAILED, snapshot
from torch import nn

from treealign import ConversionMapping, Convert, PrefixChange, convert_checkpoint, load, operations, save, suggest
from treealign.formats.transaction import locking, swapping

PARTS = ("q", "k", "v")
RULES = ConversionMapping(
    [
        PrefixChange(add="model"),
        Convert("**.qkv.weight", [f"**.{part}.weight" for part in PARTS], operations.Split(0, (4, 4, 4))),
    ]
)


def built(number):
    layer = {**{part: nn.Linear(4, 4, bias=False) for part in PARTS}, "norm": nn.LayerNorm(4)}
    made = nn.ModuleDict({"model": nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict(layer)])})})
    for at, parameter in enumerate(made.parameters()):
        # no random numbers: the state of these is the process's
        parameter.data = torch.arange(parameter.numel(), dtype=torch.float32).view(parameter.shape) + 100 * number + at
    return made


def original(number):
    """What the model of a number came from."""
    state = built(number).state_dict()
    parts = [state.pop(f"model.layers.0.{part}.weight") for part in PARTS]
    return {"layers.0.qkv.weight": torch.cat(parts), **{k.removeprefix("model."): v for k, v in state.items()}}


def everything(base, number):
    """One run of all verbs: what is suggested, and what is written."""
    folder = base / str(number)
    model = built(number + 100)
    found = suggest(original(number), model)
    result = load(model, original(number), RULES)
    save(model, folder / "saved")
    convert_checkpoint(folder / "saved", folder / "converted", RULES)
    convert_checkpoint(folder / "converted", folder / "back", RULES, reverse=True)
    return [repr(match) for match in found.matches], repr(found.questions), str(result), snapshot(folder)


@pytest.mark.parametrize("threads", [8])
def test_threads_do_what_one_does(tmp_path, threads):
    alone = [everything(tmp_path / "alone", number) for number in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        together = list(pool.map(lambda number: everything(tmp_path / "together", number), range(threads)))
    assert together == alone


def test_nothing_of_the_process_is_changed(tmp_path):
    def state():
        files = [os.fstat(descriptor)[:3] for descriptor in (0, 1, 2)]
        hooks = sys.stdout, sys.stderr, sys.excepthook, warnings.showwarning, sys.getrecursionlimit(), Path.cwd()
        signals = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
        torchs = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed()
        return files, hooks, signals, torchs, dict(os.environ), threading.active_count()

    everything(tmp_path / "first", 0)
    torch.manual_seed(5)
    number, before = torch.random.get_rng_state(), None
    model, held = built(1), original(0)
    torch.random.set_rng_state(number)
    before = state()
    suggest(held, model)
    load(model, held, RULES)
    save(model, tmp_path / "saved")
    convert_checkpoint(tmp_path / "saved", tmp_path / "converted", RULES)
    assert state() == before
    assert torch.equal(torch.random.get_rng_state(), number)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["interrupted", "terminated"])
@pytest.mark.parametrize("at", range(4))
def test_a_signal_while_files_change_places_leaves_one_checkpoint_and_no_lock(tmp_path, monkeypatch, sign, at):
    """SIGINT is taken back by the run itself, SIGTERM is finished by the next to come."""
    monkeypatch.setattr(locking, "PATIENCE", 0)
    old, new = built(0), built(1)
    save(old, tmp_path, max_shard_size=64)
    child = os.fork()
    if not child:
        move, left = swapping._move, [at]

        def interrupted(*paths):
            left[0] -= 1
            if left[0] == -1:
                os.kill(os.getpid(), sign)
            move(*paths)

        swapping._move = interrupted
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            save(new, tmp_path, max_shard_size=64)
        except KeyboardInterrupt:
            os._exit(0)
        os._exit(FAILED)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, -signal.SIGTERM)
    model = built(2)
    load(model, tmp_path)
    wanted = old if sign == signal.SIGINT else new
    assert all(torch.equal(tensor, wanted.state_dict()[key]) for key, tensor in model.state_dict().items())
    assert not list(tmp_path.rglob(".*"))
    save(new, tmp_path)


def test_a_child_that_is_forked_while_others_write_writes_too(tmp_path, monkeypatch):
    """No lock of a thread that is not there in the child blocks it."""
    monkeypatch.setattr(locking, "PATIENCE", 5)
    stop = threading.Event()

    def writes(number):
        while not stop.is_set():
            everything(tmp_path / "threads", number)

    with ThreadPoolExecutor(3) as pool:
        for number in range(3):
            pool.submit(writes, number)
        try:
            for at in range(5):
                child = os.fork()
                if not child:
                    faulthandler.dump_traceback_later(60, exit=True)
                    everything(tmp_path / "children", at)
                    os._exit(0)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            stop.set()
