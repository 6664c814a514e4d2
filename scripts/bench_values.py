"""Time `suggest(values=True)` beside plain reading of the same two files, in one run.

    python scripts/bench_values.py --megabytes 600

An original checkpoint in bfloat16 and converted copies of it under meaningless names are written: renamed alone; q, k,
v and gate, up fused; every matrix transposed. Plain reading brings both files into memory as whole, once each. Reading
into one small buffer again and again, which no loader can do, is shown besides. All comes from the page cache, the
hardest case: from a disk, reading takes longer and comparing does not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from treealign import suggest

HIDDEN, INNER, VOCABULARY = 2048, 5632, 32_000
SHAPES = {
    "q": (HIDDEN, HIDDEN),
    "k": (HIDDEN // 4, HIDDEN),
    "v": (HIDDEN // 4, HIDDEN),
    "o": (HIDDEN, HIDDEN),
    "gate": (INNER, HIDDEN),
    "up": (INNER, HIDDEN),
    "down": (HIDDEN, INNER),
}
Tensors = dict[str, torch.Tensor]


def original(megabytes: int) -> Tensors:
    """A decoder of as many layers as it takes."""
    layer = sum(a * b for a, b in SHAPES.values()) * 2
    layers = max((megabytes * 2**20 - VOCABULARY * HIDDEN * 2) // layer, 1)
    numbers = torch.Generator().manual_seed(0)
    made = {"embed": torch.randn(VOCABULARY, HIDDEN, generator=numbers).bfloat16()}
    for n in range(layers):
        for name, shape in SHAPES.items():
            made[f"layers.{n}.{name}"] = torch.randn(shape, generator=numbers).bfloat16()
        made[f"layers.{n}.norm"] = torch.ones(HIDDEN).bfloat16()
    return made


def renamed(tensors: Tensors) -> Tensors:
    words = {name: f"w{n}" for n, name in enumerate([*SHAPES, "norm", "embed", "layers", "qkv", "gate_up"])}
    return {".".join(words.get(s, s) for s in key.split(".")): t for key, t in tensors.items()}


def fused(tensors: Tensors) -> Tensors:
    made = dict(tensors)
    for parts, whole in ((("q", "k", "v"), "qkv"), (("gate", "up"), "gate_up")):
        for key in [key for key in tensors if key.endswith(f".{parts[0]}")]:
            stem = key.removesuffix(parts[0])
            made[stem + whole] = torch.cat([made.pop(stem + part) for part in parts])
    return made


def transposed(tensors: Tensors) -> Tensors:
    return {key: t.T.contiguous() if t.ndim == 2 else t for key, t in tensors.items()}


CONVERSIONS: dict[str, Callable[[Tensors], Tensors]] = {"renamed": dict, "fused": fused, "transposed": transposed}


def read_plainly(path: Path) -> None:
    path.read_bytes()


def read_through(path: Path) -> None:
    buffer = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def timed(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def compare(name: str, files: tuple[Path, Path], rounds: int) -> None:
    size = sum(path.stat().st_size for path in files)
    jobs: dict[str, Callable[[], object]] = {
        "plain reading": lambda: [read_plainly(path) for path in files],
        "reading into one buffer": lambda: [read_through(path) for path in files],
        "suggest(values=True)": lambda: suggest(*files, values=True),
    }
    times: dict[str, list[float]] = {job: [] for job in jobs}
    for _ in range(rounds):
        for job, run in jobs.items():
            times[job].append(timed(run))
    found = suggest(*files, values=True)
    certain = sum(m.certain for m in found.matches if m.evidence[0].startswith("equal content"))
    print(f"{name}: {size / 1e9:.2f} GB, {certain} of {len(found.matches)} matches settled by content")
    plain = statistics.median(times["plain reading"])
    for job, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"    {job:<24} {middle:6.2f} s  {size / middle / 1e9:5.2f} GB/s  {plain / middle:6.0%} of plain reading")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        before = original(options.megabytes)
        save_file(before, Path(folder) / "original.safetensors")
        for name, convert in CONVERSIONS.items():
            after = Path(folder) / f"{name}.safetensors"
            save_file(renamed(convert(before)), after)
            compare(name, (after, Path(folder) / "original.safetensors"), options.rounds)
            after.unlink()


if __name__ == "__main__":
    main()
