"""Kill everything that writes, and let two write at once: nothing is lost, nothing is mixed, nothing stays behind.

python scripts/faults.py                 all of it, as tables
python scripts/faults.py --points 20     fewer random points of each writer
python scripts/faults.py --runs 0        no pairs of writers

Each writer runs in a child of this process, which has imported everything. It is killed at random points of its time,
and before each call by which it renames, links or removes. Then the checkpoint is read, or any writer is run: it has to
be the old or the new one as a whole (`either` where what comes next leaves the same of both). Then two writers of every
pair begin at once, their renames slowed down: what is left is what one of them leaves, or both one after the other.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import load_file
from torch import nn

import treealign
from treealign import ConversionMapping, Rename, TreealignError
from treealign.changes.locking import read_lock, write_lock
from treealign.cli.verbs import app
from treealign.errors import FormatError
from treealign.formats.transaction import locking, swapping
from treealign.formats.transaction.recovering import recover
from treealign.formats.transaction.stages import SUFFIX

MAPPING = ConversionMapping([Rename("layers", "h")])
SHARDS, TENSORS, WIDTH = 6, 4, 1 << 14
CALLS = ("rename", "replace", "link", "unlink", "remove", "rmdir")
REFUSED, KILLED, BROKEN = 3, 9, 1
State = tuple[object, ...]


def main(
    points: Annotated[int, typer.Option(help="How often to kill each writer at random.")] = 100,
    runs: Annotated[int, typer.Option(help="How often to run two at once, of each pair.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    only: Annotated[str, typer.Option(help="A writer, by its name.")] = "",
) -> None:
    """Kill every writer, then let each two write at once."""
    torch.set_num_threads(1)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        place = Place(base)
        kinds = "old | new | either"
        print(f"| killed | at random | {kinds} | at calls | {kinds} |\n{'|---' * 9}|", flush=True)
        for writer in WRITERS:
            if only in writer:
                at_random, everywhere = random_kills(place, writer, points, chance), kills_at_calls(place, writer)
                names = ("old", "new", "either")
                columns = [
                    " | ".join(map(str, (n.total(), *(n[name] for name in names)))) for n in (at_random, everywhere)
                ]
                print(f"| {writer} | {' | '.join(columns)} |", flush=True)
        count = killed_saved_failed(place)
        print(f"\nkilled, then saved, then failed: {count} points, and what was saved is there", flush=True)
        if runs:
            columns = ["two at once", "runs", "both did it", "one was refused", "both were"]
            print(f"\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
        for pair in PAIRS if runs else ():
            if any(only in writer for writer in pair):
                counts = Counter(two_at_once(place, pair, chance) for _ in range(runs))
                print(f"| {' + '.join(pair)} | {runs} | {counts[0]} | {counts[1]} | {counts[2]} |", flush=True)


class Place:
    """A folder to write to, and what is written there."""

    def __init__(self, base: Path) -> None:
        self.base, self.out, self.start = base, base / "place" / "out", base / "start"
        treealign.save(model("layers", 1.0), base / "source", max_shard_size=TENSORS * WIDTH * 4)
        treealign.convert_checkpoint(base / "source", base / "renamed", MAPPING)
        shutil.copytree(base / "source", self.start)
        write_lock(self.start / "treealign.lock", {"m": treealign.read_tree(base / "renamed")})
        lines = [f'x{at} = model.get_parameter("layers.{at}.w0")\n' for at in range(SHARDS)]
        (self.start / "code.py").write_text("".join(lines))

    def reset(self, *, empty: bool = False) -> None:
        """What is there before: a checkpoint under its first names, a lock, a file of code; or nothing."""
        shutil.rmtree(self.out.parent, ignore_errors=True)
        self.out.parent.mkdir()
        if not empty:
            shutil.copytree(self.start, self.out)

    def state(self) -> State:
        """What a reader finds: names and value of the checkpoint, the lock, the code."""
        try:
            keys = frozenset(treealign.read_tree(self.out).keys)
        except FormatError as error:
            if self.out.exists() and "no weights" not in str(error):
                raise
            keys = frozenset()
        files = [load_file(path) for path in self.out.glob("*.safetensors")]
        held = {key: float(value) for file in files for key, tensor in file.items() for value in tensor.unique()}
        assert held.keys() == keys, "files that are not of the checkpoint"
        levels = {key.partition(".")[0] for key in keys}
        assert len(keys) in (0, SHARDS * TENSORS), "a part of a checkpoint"
        assert len(levels) <= 1, "names of two checkpoints"
        assert len(set(held.values())) <= 1, "numbers of two checkpoints"
        lock, code = self.out / "treealign.lock", self.out / "code.py"
        locked = sorted(read_lock(lock)["m"].keys)[0].partition(".")[0] if lock.exists() else None
        text = code.read_text() if code.exists() else ""
        assert not ("layers" in text and '"h.' in text), "a file of code half written"
        return (*levels, *set(held.values()), locked, "layers" in text, self.hidden())

    def hidden(self) -> tuple[str, ...]:
        """What is left behind; reading the lock and the code recovers nothing, so that these are told by `settle`."""
        return tuple(str(path) for path in self.out.parent.rglob(f"*{SUFFIX}"))


def model(level: str, value: float) -> nn.Module:
    made = nn.Module()
    layers = ({f"w{at}": torch.full((WIDTH,), value) for at in range(TENSORS)} for _ in range(SHARDS))
    setattr(made, level, nn.ModuleList(map(nn.ParameterDict, layers)))
    return made


def save(place: Place, value: float = 2.0) -> None:
    treealign.save(model("saved", value), place.out, max_shard_size=3 * WIDTH * 4)


def convert(place: Place) -> None:
    treealign.convert_checkpoint(place.base / "source", place.out, MAPPING, force=True)


def in_place(place: Place) -> None:
    treealign.convert_checkpoint(place.out, None, MAPPING, in_place=True)


def lock(place: Place) -> None:
    write_lock(place.out / "treealign.lock", {"m": treealign.read_tree(place.base / "source")})


def audit(place: Place) -> None:
    arguments = ["audit", place.base / "source", place.base / "renamed", "--scan", place.out, "--write"]
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        found = app(list(map(str, arguments)), standalone_mode=False)
    if found not in (None, 0, 1):
        raise RuntimeError(f"audit ends with {found}")


# the name, what it does, and whether it begins with nothing
WRITERS: dict[str, tuple[Callable[[Place], None], bool]] = {
    "save": (save, False),
    "save to nothing": (save, True),
    "convert": (convert, True),
    "convert --force": (convert, False),
    "convert --in-place": (in_place, False),
    "audit --write": (audit, False),
    "lock": (lock, False),
}

EMPTY, FULL = ([name for name, (_, empty) in WRITERS.items() if empty is wanted] for wanted in (True, False))
PAIRS = [pair for names in (FULL, EMPTY) for pair in itertools.combinations_with_replacement(names, 2)]


def begin(place: Place, writer: str, prepare: Callable[[], None] = lambda: None) -> int:
    """A child that runs a writer; its process."""
    child = os.fork()
    if child:
        return child
    status = BROKEN
    try:
        prepare()
        WRITERS[writer][0](place)
        status = 0
    except TreealignError:
        status = REFUSED
    except BaseException as error:
        os.write(2, f"{writer}: {error!r}\n".encode())
    finally:
        os._exit(status)


def end(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def done(place: Place, *writers: str, empty: bool) -> State:
    """What writers leave, one after the other, of a checkpoint or of nothing."""
    place.reset(empty=empty)
    for writer in writers:
        assert end(begin(place, writer)) in (0, REFUSED)
    return place.state()


def both_states(place: Place, writer: str) -> tuple[State, State]:
    """Before and after a writer."""
    empty = WRITERS[writer][1]
    return done(place, empty=empty), done(place, writer, empty=empty)


def states_followed(place: Place, writer: str, following: str) -> tuple[State, State]:
    """What another writer leaves of what was there before a writer, and of what is there after it."""
    if (writer, following) not in FOLLOWED:
        empty = WRITERS[writer][1]
        before, after = (done(place, *some, following, empty=empty) for some in ((), (writer,)))
        FOLLOWED[writer, following] = before, after
    return FOLLOWED[writer, following]


def judged(place: Place, writer: str, states: tuple[State, State], at: int) -> str:
    """Old or new, as the next to come finds it: a reader, the same writer, or any other, which may come first."""
    following = [writer, *WRITERS][at % (len(WRITERS) + 1)]
    if at % 2:
        found, told = followed(place, following), states_followed(place, writer, following)
        assert found in told, f"{writer}: {following} left {found} after it, which is none of {told}"
        return "either" if told[0] == told[1] else "new" if found == told[1] else "old"
    settle(place)
    found = place.state()
    assert found in states, f"{writer}: {found} was left"
    assert not followed(place, following)[-1], f"{place.hidden()} stays"
    return "new" if found == states[1] else "old"


def followed(place: Place, following: str) -> State:
    """What a writer leaves of what there is."""
    assert end(begin(place, following)) in (0, REFUSED)
    settle(place)
    return place.state()


def settle(place: Place) -> None:
    """Whoever reads or writes what a run was at ends it: a checkpoint by its folder, other files each by its own."""
    for path in (place.out, place.out / "code.py", place.out / "treealign.lock"):
        recover(path)


def random_kills(place: Place, writer: str, points: int, chance: random.Random) -> Counter[str]:
    """Kill at moments spread over the time that it takes."""
    states, found = both_states(place, writer), Counter[str]()
    length = statistics.median(taken(place, writer) for _ in range(5)) if points else 0.0
    for at in range(points):
        place.reset(empty=WRITERS[writer][1])
        child = begin(place, writer)
        time.sleep(chance.uniform(0, length))
        os.kill(child, signal.SIGKILL)
        end(child)
        found[judged(place, writer, states, at)] += 1
    return found


def taken(place: Place, writer: str) -> float:
    place.reset(empty=WRITERS[writer][1])
    start = time.perf_counter()
    end(begin(place, writer))
    return time.perf_counter() - start


def kills_at_calls(place: Place, writer: str) -> Counter[str]:
    """Kill before the first call that renames, links or removes, the second, and so on until it comes to its end."""
    states, found = both_states(place, writer), Counter[str]()
    for at in itertools.count():
        place.reset(empty=WRITERS[writer][1])
        status = end(begin(place, writer, lambda at=at: dying_before(at)))
        assert status in (0, -signal.SIGKILL), f"{writer} ends with {status}"
        if not status:
            return found
        found[judged(place, writer, states, at)] += 1
    raise AssertionError


def dying_before(call: int) -> None:
    left = [call]

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return called

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def killed_saved_failed(place: Place) -> int:
    """A conversion is killed, a model is saved there, another conversion fails: what was saved last is there."""
    for at in itertools.count():
        place.reset()
        status = end(begin(place, "convert --force", lambda at=at: dying_before(at)))
        save(place, 5.0)
        try:
            treealign.convert_checkpoint(place.base / "source", place.out, MAPPING, force=True, dtype="none")
        except TreealignError:
            state = place.state()
        assert state[:2] == ("saved", 5.0), state
        assert not state[-1], state
        if not status:
            return at
    raise AssertionError


def two_at_once(place: Place, pair: tuple[str, ...], chance: random.Random) -> int:
    """Let two begin at once; how many were refused."""
    empty = all(WRITERS[writer][1] for writer in pair)
    if pair not in ALLOWED:
        orders = ((), pair[:1], pair[1:], pair, pair[::-1])
        ALLOWED[pair] = [done(place, *order, empty=empty) for order in orders]
    place.reset(empty=empty)
    seeds = [chance.random() for _ in pair]
    children = [begin(place, writer, lambda s=s: slowed(s)) for writer, s in zip(pair, seeds, strict=True)]
    ends = [end(child) for child in children]
    assert set(ends) <= {0, REFUSED}, f"{pair} end with {ends}"
    settle(place)
    refused = ends.count(REFUSED)
    # two that have no patience may each find the other one at work
    allowed = ALLOWED[pair][:1] if refused == 2 else ALLOWED[pair][1:]
    assert place.state() in allowed, f"{pair}: {place.state()}, which is none of {allowed}"
    return refused


FOLLOWED: dict[tuple[str, str], tuple[State, State]] = {}
ALLOWED: dict[tuple[str, ...], list[State]] = {}


def slowed(seed: float) -> None:
    chance, move = random.Random(seed), swapping._move
    time.sleep(chance.uniform(0, 0.02))

    def slow(*paths: Path) -> None:
        time.sleep(chance.uniform(0, 0.004))
        move(*paths)

    swapping._move = slow
    locking.PATIENCE = chance.choice((0.05, 10.0))


if __name__ == "__main__":
    typer.run(main)
