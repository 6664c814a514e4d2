"""Kill real conversions at fifty points each, and see that nothing is lost.

python scripts/faults.py                 fifty points of a conversion, and of a renaming in place
python scripts/faults.py --points 200    more of them
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from treealign import ConversionMapping, Rename
from treealign.errors import FormatError
from treealign.formats.checkpoints import open_checkpoint

MAPPING = ConversionMapping([Rename("layers", "h")])
SHARDS, TENSORS, WIDTH = 8, 8, 1 << 20


def main(
    points: Annotated[int, typer.Option(help="How often to kill each.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Kill conversions and renamings in place at random moments of their run."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        source = write_checkpoint(base / "source")
        MAPPING.to_json(base / "mapping.json")
        moments = random.Random(seed)
        killing("conversion", points, moments, lambda: Conversion(base, source))
        killing("renaming in place", points, moments, lambda: InPlace(base, source))


class Conversion:
    """A run from one folder to another: the source stays, the destination is whole or not there."""

    sign = ".out.treealign-partial"

    def __init__(self, base: Path, source: Path) -> None:
        self.folder, self.source, self.out, self.mapping = base, source, base / "out", base / "mapping.json"
        self.before = digests(source)
        shutil.rmtree(self.out, ignore_errors=True)

    def command(self, *more: str) -> list[str]:
        return verb(self.source, self.out, self.mapping, *more)

    def check(self) -> str:
        assert digests(self.source) == self.before, "the source has changed"
        state = "whole" if self.out.exists() else "absent"
        assert state == "absent" or loads(self.out), "a part was left"
        subprocess.run(self.command("--force"), check=True, stdout=subprocess.DEVNULL)
        assert loads(self.out), "a later run does not do it"
        return state


class InPlace:
    """A renaming in the files: they are as they were, as they should be, or refused until a later run ends it."""

    sign = ".*.treealign-journal"

    def __init__(self, base: Path, source: Path) -> None:
        self.folder, self.mapping = base / "renamed", base / "mapping.json"
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(source, self.folder)
        self.before = digests(self.folder)

    def command(self, *more: str) -> list[str]:
        return verb(self.folder, self.mapping, "--in-place", *more)

    def check(self) -> str:
        state = "renamed" if loads(self.folder) else "refused"
        state = "as it was" if digests(self.folder) == self.before else state
        subprocess.run(self.command(), check=True, stdout=subprocess.DEVNULL)
        assert keys(self.folder) == {key for name in range(SHARDS) for key in names("h", name)}
        subprocess.run(self.command("--reverse"), check=True, stdout=subprocess.DEVNULL)
        assert digests(self.folder) == self.before, "not the files that were there"
        return state


def killing(what: str, points: int, moments: random.Random, begin: Callable[[], Conversion | InPlace]) -> None:
    """Kill at moments spread over the time in which files are written; importing takes longer, and writes nothing."""
    length = statistics.median(writing_time(begin()) for _ in range(3))
    states: Counter[str] = Counter()
    for _ in range(points):
        run = begin()
        with subprocess.Popen(run.command(), stdout=subprocess.DEVNULL) as process:
            wait(run, process)
            time.sleep(moments.uniform(0, length))
            process.send_signal(signal.SIGKILL)
        ended = "killed" if process.returncode == -signal.SIGKILL else "ended before"
        states[f"{ended}, {run.check()}"] += 1
    found = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    print(f"{what}: {points} points over {length:.2f} s, nothing lost; left behind: {found}", flush=True)


def wait(run: Conversion | InPlace, process: subprocess.Popen[bytes]) -> None:
    """Wait until the run begins to write."""
    while process.poll() is None and not any(run.folder.glob(run.sign)):
        time.sleep(0.0005)


def writing_time(run: Conversion | InPlace) -> float:
    with subprocess.Popen(run.command(), stdout=subprocess.DEVNULL) as process:
        wait(run, process)
        start = time.perf_counter()
        process.wait()
    return time.perf_counter() - start


def verb(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "treealign.cli", "convert", *map(str, arguments)]


def loads(folder: Path) -> bool:
    """Whether a loader takes it; what it takes must then be all of it, under one set of names."""
    try:
        found = keys(folder)
    except FormatError:
        return False
    every = [{key for number in range(SHARDS) for key in names(level, number)} for level in ("layers", "h")]
    assert found in every, "a mixture was left"
    return True


def keys(folder: Path) -> set[str]:
    return {entry.key for file in open_checkpoint(folder).files for entry in file.tensors}


def digests(folder: Path) -> dict[str, str]:
    """Of the weights; the index is the same but for its spaces."""
    files = sorted(folder.glob("*.safetensors"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def names(level: str, number: int) -> list[str]:
    return [f"{level}.{number}.w{at}" for at in range(TENSORS)]


def write_checkpoint(folder: Path) -> Path:
    """Eight shards of 16 MB, with an index that transformers would write."""

    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    weight_map = {}
    for number in range(SHARDS):
        name = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        save_file({key: torch.randn(WIDTH).half() for key in names("layers", number)}, folder / name)
        weight_map |= dict.fromkeys(names("layers", number), name)
    content = {"metadata": {"total_size": SHARDS * TENSORS * WIDTH * 2}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    return folder


if __name__ == "__main__":
    typer.run(main)
