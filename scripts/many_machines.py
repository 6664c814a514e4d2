"""Convert on Ray and on MPI, by the lines that the README shows; `scripts/many_machines` fetches what it takes.

Each: the bytes that a run in this process gives; a refusal of a worker passed on; a worker killed midway. Ray makes the
call again. MPI ends the whole job, which must leave the source whole and nothing to load, and the next run does it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from treealign import ConversionMapping, Convert, PrefixChange, convert_checkpoint, operations
from treealign.checkpoint.conversion.moving import Mover
from treealign.errors import FormatError
from treealign.formats.safetensors_header import read_header
from treealign.formats.safetensors_writer import Shard, index_bytes, plan_of

MAPPING = ConversionMapping(
    [PrefixChange(add="model"), Convert("**.qkv{i}", "**.turned{i}", operations.Permute((1, 0)))]
)
README = Path(__file__).parent.parent / "treealign" / "checkpoint" / "README.md"
SHARDS = 8


def documented(word: str) -> dict[str, Any]:
    """The names that the README's lines with this word define."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, Any] = {"__name__": "documented"}
    exec(next(block for block in blocks if word in block), scope)
    return scope


class Deadly(Executor):
    """Another executor, one worker of which dies midway."""

    def __init__(self, inner: Executor, marker: Path) -> None:
        self.inner, self.marker = inner, str(marker)

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        return self.inner.submit(die_once, self.marker, function, *arguments)


def die_once(marker: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The call, but the first process that makes one dies when half of its first tensor is written."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return function(*arguments)
    move = Mover.move

    def half(self: Mover, source: int, span: Any) -> None:
        move(self, source, span._replace(size=span.size // 2))
        os.kill(os.getpid(), signal.SIGKILL)

    Mover.move = half  # type: ignore[method-assign]
    return function(*arguments)


def ready() -> None:
    """Nothing; what it takes is the start of a worker."""


def main() -> None:
    """Both, where they are installed."""
    base = Path(tempfile.mkdtemp())
    try:
        source = write_checkpoint(base / "source")
        start = time.perf_counter()
        convert_checkpoint(source, base / "here", MAPPING)
        size = sum(path.stat().st_size for path in source.iterdir()) / 2**20
        print(f"{SHARDS} shards, {size:.0f} MiB; in this process {time.perf_counter() - start:.2f} s", flush=True)
        on_ray(base)
        if shutil.which("mpirun"):
            on_mpi(base)
        else:
            print("NOT RUN: MPI: no mpirun, and no right to install openmpi-bin", file=sys.stderr)
    finally:
        shutil.rmtree(base)


def on_ray(base: Path) -> None:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    executor = documented("RayExecutor")["RayExecutor"]()
    executor.submit(ready).result()
    print(f"Ray {ray.__version__}, 2 workers: {run(base, executor):.2f} s, the same bytes", flush=True)
    refused(base, executor)
    run(base, Deadly(executor, base / "died"))
    assert (base / "died").exists()
    print("  a refusal is passed on; a worker killed midway: the call is made again, the same bytes", flush=True)
    ray.shutdown()


def run(base: Path, executor: Executor) -> float:
    start = time.perf_counter()
    convert_checkpoint(base / "source", base / "there", MAPPING, executor=executor)
    seconds = time.perf_counter() - start
    assert contents(base / "there") == contents(base / "here"), "other bytes"
    shutil.rmtree(base / "there")
    return seconds


class Disturbed(Executor):
    """Another executor; what a task is made of changes before it begins."""

    def __init__(self, inner: Executor) -> None:
        self.inner = inner

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        for path in arguments[0].stamps:
            os.utime(path)
        return self.inner.submit(function, *arguments)


def refused(base: Path, executor: Executor) -> None:
    try:
        convert_checkpoint(base / "source", base / "there", MAPPING, executor=Disturbed(executor))
    except FormatError as error:
        assert "has changed" in str(error), error
    else:
        raise AssertionError("a source that changed was taken")
    assert not [path.name for path in base.iterdir() if "there" in path.name], "something was left"


def on_mpi(base: Path) -> None:
    import mpi4py

    done = mpirun(base, "whole")
    assert done.returncode == 0, done.stderr
    print(f"MPI, mpi4py {mpi4py.__version__}, mpirun -n 3: {done.stdout.strip()} s, the same bytes", flush=True)
    assert mpirun(base, "killed").returncode != 0
    assert not (base / "there").exists(), "half a checkpoint"
    assert mpirun(base, "whole").returncode == 0
    print(
        "  a refusal is passed on; a worker killed midway ends the job, nothing is left to load, the next one does it"
    )


def mpirun(base: Path, how: str) -> subprocess.CompletedProcess[str]:
    """This file, as the README says it."""
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = ["mpirun", "--oversubscribe", "-n", "3", sys.executable, "-m", "mpi4py.futures", __file__, how, base]
    return subprocess.run(
        list(map(str, command)), env=os.environ | allowed, capture_output=True, text=True, timeout=300, check=False
    )


def as_master(how: str, base: Path) -> None:
    """What the first process of MPI does; the others wait for its calls."""
    (base / "died_of_mpi").unlink(missing_ok=True)
    with documented("MPIPoolExecutor")["executor"] as executor:
        executor.submit(ready).result()
        if how == "killed":
            convert_checkpoint(
                base / "source", base / "there", MAPPING, executor=Deadly(executor, base / "died_of_mpi")
            )
            return
        seconds = run(base, executor)
        refused(base, executor)
    print(f"{seconds:.2f}")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_checkpoint(folder: Path) -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    shards = []
    for number in range(SHARDS):
        name = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        tensors = {f"layers.{number}.qkv{at}": torch.randn(1536, 1024) for at in range(4)}
        tensors |= {f"layers.{number}.w{at}": torch.randn(2048, 1024).half() for at in range(8)}
        save_file(tensors, folder / name, {"format": "pt"})
        shards.append(Shard(name, plan_of(read_header(folder / name)), {"format": "pt"}))
    (folder / "model.safetensors.index.json").write_bytes(index_bytes(shards))
    return folder


if __name__ == "__main__":
    if len(sys.argv) > 1:
        as_master(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
