"""Conversions on an executor: two worker processes beside one, and a dask cluster for the same bytes."""

from __future__ import annotations

import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from speed import MEBIBYTE, Figure

from treealign import ConversionMapping, Convert, PrefixChange, convert_checkpoint, operations

SHARDS, SHARD, ROUNDS = 4, 512 * MEBIBYTE, 5
# half of the bytes are moved, half computed: one matrix in two is transposed
MAPPING = ConversionMapping(
    [PrefixChange(add="model"), Convert("model.{i}.out", "model.{i}.out_t", operations.Permute((1, 0)))]
)
SIDE = 8192


def worker_figures() -> Iterator[Figure]:
    """Wall time of a conversion by one process and by two, turn by turn; then whether all wrote the same."""
    context = get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as base,
        ProcessPoolExecutor(1, context) as one,
        ProcessPoolExecutor(2, context) as two,
    ):
        source = written(Path(base) / "source")
        size = sum(path.stat().st_size for path in source.glob("*.safetensors")) / MEBIBYTE
        pools: dict[str, Executor] = {"one": one, "two": two}
        times: dict[str, list[float]] = {name: [] for name in pools}
        seen = {name: converted(source, Path(base) / name, pool)[1] for name, pool in pools.items()}
        for _ in range(ROUNDS):
            for name, pool in pools.items():
                times[name].append(converted(source, Path(base) / name, pool)[0])
        ratios = sorted(a / b for a, b in zip(times["two"], times["one"], strict=True))
        alone = f"one: {statistics.median(times['one']):.3f} s, ratio {statistics.median(ratios):.2f}"
        label = f"convert {size:,.0f} MiB in {SHARDS} shards, two workers"
        yield Figure(label, statistics.median(times["two"]), "s", f"{alone} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        seconds, seen["dask"] = by_dask(source, Path(base) / "dask")
        same = "the same bytes as theirs" if len(set(seen.values())) == 1 else "OTHER BYTES"
        yield Figure("the same by two workers of dask", seconds, "s", same)


def written(folder: Path) -> Path:
    """Shards of random numbers."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    count = SHARD // (SIDE * SIDE * 2)
    for shard in range(SHARDS):
        numbers = range(shard * count, (shard + 1) * count)
        tensors = {
            f"{at}.{'out' if at % 2 else 'in'}": torch.randint(-(2**15), 2**15, (SIDE, SIDE), dtype=torch.int16)
            for at in numbers
        }
        save_file(tensors, folder / f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors")
    return folder


def converted(source: Path, destination: Path, executor: Executor) -> tuple[float, str]:
    """Seconds, and the SHA-256 of all that was written."""
    shutil.rmtree(destination, ignore_errors=True)
    start = time.perf_counter()
    convert_checkpoint(source, destination, MAPPING, executor=executor)
    seconds = time.perf_counter() - start
    digest = hashlib.sha256()
    for path in sorted(destination.iterdir()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return seconds, digest.hexdigest()


def by_dask(source: Path, destination: Path) -> tuple[float, str]:
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "processes": True, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        return converted(source, destination, client.get_executor())
