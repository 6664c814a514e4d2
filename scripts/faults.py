"""Kill everything that writes, at random points of real runs, and see that nothing is lost and nothing stays behind.

python scripts/faults.py                 a hundred points of each writer
python scripts/faults.py --points 20     fewer of them
python scripts/faults.py --only save     one of them

`tests/test_transaction.py` kills before every single call to the system; this kills where the clock says.
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
LEVELS = ("layers", "h", "saved")
SAVE = """
import sys, torch
from torch import nn
from treealign import save
model = nn.Module()
model.saved = nn.ModuleList(nn.ParameterDict({f"w{at}": torch.zeros(1 << 20) for at in range(8)}) for _ in range(8))
save(model, sys.argv[1], max_shard_size=1 << 25)
"""


def main(
    points: Annotated[int, typer.Option(help="How often to kill each.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    only: Annotated[str, typer.Option(help="The writer, by its name.")] = "",
) -> None:
    """Kill every writer at random moments of its run."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        source = write_checkpoint(base / "source")
        MAPPING.to_json(base / "mapping.json")
        moments = random.Random(seed)
        for kind in (Conversion, Replacement, Save, InPlace, Lock, Repair):
            if only in kind.name:
                killing(kind.name, points, moments, lambda kind=kind: kind(base, source))


class Writer:
    """A run that writes to `out`; what is there is the old or the new at once, and a later run does it all."""

    name = ""
    sign = "out/.treealign-partial"  # by which it is seen to write

    def __init__(self, base: Path, source: Path) -> None:
        self.folder, self.source, self.out, self.mapping = base, source, base / "out", base / "mapping.json"
        shutil.rmtree(self.out, ignore_errors=True)
        self.prepare()
        self.before = self.state()

    def prepare(self) -> None:
        """What is there before."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def state(self) -> str:
        """Which of the states is there, as a reader finds it now."""
        return found_level(self.out)

    def check(self) -> str:
        state = self.state()
        assert not hidden(self.folder), f"{hidden(self.folder)} stays"
        assert state in (self.before, self.after()), f"{state} was left"
        subprocess.run(self.command(), check=True, capture_output=True)
        assert self.state() == self.after(), "a later run does not do it"
        assert not hidden(self.folder)
        return state

    def after(self) -> str:
        return "h"


class Conversion(Writer):
    """From one folder to another that is not there: the source stays, the result is whole or absent."""

    name, sign = "convert", ".out.treealign-partial"

    def command(self) -> list[str]:
        return verb(self.source, self.out, self.mapping, "--force")


class Replacement(Conversion):
    """Over a checkpoint that is there."""

    name, sign = "convert --force", "out/.treealign-partial"

    def prepare(self) -> None:
        shutil.copytree(self.source, self.out)


class Save(Writer):
    """A model over a checkpoint that is there."""

    name = "save"

    def prepare(self) -> None:
        shutil.copytree(self.source, self.out)

    def command(self) -> list[str]:
        return [sys.executable, "-c", SAVE, str(self.out)]

    def after(self) -> str:
        return "saved"


class InPlace(Writer):
    """A renaming in the files themselves, and back again by the reverse."""

    name = "convert --in-place"

    def prepare(self) -> None:
        shutil.copytree(self.source, self.out)
        self.digests = digests(self.out)

    def command(self) -> list[str]:
        return verb(self.out, self.mapping, "--in-place")

    def check(self) -> str:
        state = super().check()
        subprocess.run([*self.command(), "--reverse"], check=True, capture_output=True)
        assert digests(self.out) == self.digests, "not the files that were there"
        return state


class Lock(Writer):
    """A lock over another one."""

    name, sign = "lock", "out/.treealign.lock.treealign-partial"

    def prepare(self) -> None:
        self.out.mkdir()
        self.lock = self.out / "treealign.lock"
        subprocess.run(self.command(), check=True, capture_output=True)
        text = self.lock.read_text()
        self.new = text
        self.lock.write_text(f"{text}\n")

    def command(self) -> list[str]:
        return [sys.executable, "-m", "treealign.cli", "lock", str(self.source), "-o", str(self.lock)]

    def state(self) -> str:
        subprocess.run([*self.command(), "--check"], check=False, capture_output=True)  # a reader
        return "new" if self.lock.read_text() == self.new else "old"

    def after(self) -> str:
        return "new"


class Repair(Writer):
    """References in a file, respelled by an audit."""

    name, sign = "audit --write", "out/.code.py.treealign-partial"

    def prepare(self) -> None:
        self.out.mkdir()
        (self.out / "code.py").write_text(
            "\n".join(f'x{at} = model.get_parameter("layers.{at}.w0")' for at in range(8))
        )

    def command(self) -> list[str]:
        old, new = self.source, self.folder / "renamed"
        if not new.exists():
            subprocess.run(verb(old, new, self.mapping), check=True, capture_output=True)
        code = [
            f"import sys; sys.argv[1:] = ['audit', {str(old)!r}, {str(new)!r}, '--scan', {str(self.out)!r}, '--write']"
        ]
        code += ["from treealign.cli import main", "try: main()", "except SystemExit as end: sys.exit(end.code == 2)"]
        return [sys.executable, "-c", "\n".join(code)]

    def state(self) -> str:
        text = (self.out / "code.py").read_text()
        assert ("layers" in text) != ('"h.' in text), "a mixture was left"
        return "old" if "layers" in text else "new"

    def check(self) -> str:
        state = self.state()
        subprocess.run(self.command(), check=True, capture_output=True)
        assert self.state() == "new"
        assert not hidden(self.folder)
        return state


def killing(what: str, points: int, moments: random.Random, begin: Callable[[], Writer]) -> None:
    """Kill at moments spread over the time in which files are written; importing takes longer, and writes nothing."""
    length = statistics.median(writing_time(begin()) for _ in range(3))
    states: Counter[str] = Counter()
    for _ in range(points):
        run = begin()
        with subprocess.Popen(run.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            wait(run, process)
            time.sleep(moments.uniform(0, length))
            process.send_signal(signal.SIGKILL)
        ended = "killed" if process.returncode == -signal.SIGKILL else "ended before"
        states[f"{ended}, {run.check()}"] += 1
    found = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    print(f"{what}: {points} points over {length:.2f} s, nothing lost; left behind: {found}", flush=True)


def wait(run: Writer, process: subprocess.Popen[bytes]) -> None:
    """Wait until the run begins to write."""
    while process.poll() is None and not (run.folder / run.sign).exists():
        time.sleep(0.0005)


def writing_time(run: Writer) -> float:
    with subprocess.Popen(run.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait(run, process)
        start = time.perf_counter()
        process.wait()
    return time.perf_counter() - start


def hidden(folder: Path) -> list[Path]:
    """What a run has left behind."""
    return [path for path in folder.rglob(".*") if "treealign" in path.name]


def found_level(folder: Path) -> str:
    """The names under which a checkpoint is there, all of it; absent where nothing is, or no weights."""
    try:
        found = keys(folder)
    except FormatError as error:
        assert not folder.exists() or "no weights" in str(error), str(error)
        return "absent"
    every = {level: {key for number in range(SHARDS) for key in names(level, number)} for level in LEVELS}
    return next((level for level, wanted in every.items() if found == wanted), "a mixture")


def verb(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "treealign.cli", "convert", *map(str, arguments)]


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
