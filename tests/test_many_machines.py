"""Conversions on executors: processes die, a dask cluster loses a worker, and the result is the same to the byte."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import many_machines
import pytest
import torch
from weights import write_shards

from treealign import ConversionMapping, Convert, PrefixChange, TreealignError, convert_checkpoint, operations
from treealign.checkpoint.conversion.moving import Mover
from treealign.checkpoint.executors import ATTEMPTS, Call, gather
from treealign.errors import FormatError

MAPPING = ConversionMapping(
    [
        PrefixChange(add="model"),
        Convert("model.{i}.qkv", ["model.{i}.q", "model.{i}.k"], operations.Split(0, (6, 2))),
        Convert("model.{i}.out", "model.{i}.out_t", operations.Permute((1, 0))),
    ]
)


@pytest.fixture
def source(tmp_path):
    torch.manual_seed(0)
    parts = [
        {f"{i}.qkv": torch.randn(8, 3), f"{i}.out": torch.randn(2, 600), f"{i}.n": torch.randn(9)} for i in range(6)
    ]
    return write_shards(tmp_path / "source", parts)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def die_once(marker: str, function: Any, *arguments: Any) -> Any:
    """The call, but the first process that makes one dies when half of its first file is written."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return function(*arguments)
    move = Mover.move

    def half(self: Mover, source: int, span: Any) -> None:
        move(self, source, span._replace(size=span.size // 2))
        os.kill(os.getpid(), signal.SIGKILL)

    Mover.move = half
    return function(*arguments)


class Deadly(Executor):
    """Another executor, one worker of which dies midway."""

    def __init__(self, inner: Executor, marker: Path) -> None:
        self.inner, self.marker = inner, str(marker)

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        return self.inner.submit(die_once, self.marker, function, *arguments, **named)


@pytest.fixture(scope="module")
def cluster():
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "processes": True, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options, silence_logs=50) as cluster, Client(cluster) as client:
        yield client


def test_a_dask_cluster_writes_the_same_bytes(source, tmp_path, cluster):
    convert_checkpoint(source, tmp_path / "here", MAPPING)
    convert_checkpoint(source, tmp_path / "there", MAPPING, executor=cluster.get_executor())
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_dask_cluster_that_loses_a_worker_midway_writes_the_same_bytes(source, tmp_path, cluster):
    convert_checkpoint(source, tmp_path / "here", MAPPING)
    before = set(cluster.run(os.getpid).values())
    deadly = Deadly(cluster.get_executor(), tmp_path / "died")
    convert_checkpoint(source, tmp_path / "there", MAPPING, executor=deadly)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    cluster.wait_for_workers(2, timeout=60)
    assert len(before & set(cluster.run(os.getpid).values())) == 1


def test_relative_paths_mean_the_same_on_every_worker(source, tmp_path, cluster, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert_checkpoint("source", "there", MAPPING, executor=cluster.get_executor())
    assert (tmp_path / "there" / "model.safetensors.index.json").exists()


def test_a_pool_whose_process_dies_is_an_error_that_leaves_nothing_behind(source, tmp_path):
    before = contents(source)
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(TreealignError, match="the workers of the executor do not do it"),
    ):
        convert_checkpoint(source, tmp_path / "there", MAPPING, executor=Deadly(pool, tmp_path / "died"))
    assert contents(source) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["died", "source"]


def test_a_refusal_of_a_task_is_passed_on_and_nothing_is_left(source, tmp_path, monkeypatch):
    from treealign.checkpoint.conversion import running

    def touched(task: Any, folder: str) -> Any:
        os.utime(source / "model-00001-of-00006.safetensors", (1, 1))
        return written(task, folder)

    written = running.run_task_beside_others
    monkeypatch.setattr(running, "run_task_beside_others", touched)
    with ThreadPoolExecutor(2) as pool, pytest.raises(FormatError, match="has changed"):
        convert_checkpoint(source, tmp_path / "there", MAPPING, executor=pool)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_workers_that_write_elsewhere_are_found_out(source, tmp_path):
    class Elsewhere(ThreadPoolExecutor):
        def submit(self, function: Any, /, task: Any, folder: str) -> Future[Any]:
            (tmp_path / "own").mkdir(exist_ok=True)
            return super().submit(function, task, str(tmp_path / "own"))

    with Elsewhere(1) as pool, pytest.raises(TreealignError, match="under the same paths"):
        convert_checkpoint(source, tmp_path / "there", MAPPING, executor=pool)
    assert not (tmp_path / "there").exists()


class Machines(ThreadPoolExecutor):
    """Machines that see the same files, and number them in their own way."""

    def submit(self, function: Any, /, task: Any, folder: str) -> Future[Any]:
        return super().submit(numbered_otherwise, function, task, folder)


def numbered_otherwise(function: Any, task: Any, folder: str) -> Any:
    stamps = {path: stamp._replace(inode=stamp.inode and 7) for path, stamp in task.stamps.items()}
    return function(replace(task, stamps=stamps), folder)


def test_a_machine_that_numbers_files_otherwise_does_its_tasks(source, tmp_path):
    convert_checkpoint(source, tmp_path / "here", MAPPING)
    with Machines(1) as pool:
        convert_checkpoint(source, tmp_path / "there", MAPPING, executor=pool)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


class Flaky:
    """Fails as often as it is told to, then gives what it got."""

    def __init__(self, failures: int, error: BaseException) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, value: int) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return value


def test_a_call_that_comes_to_nothing_is_made_again():
    flaky = Flaky(ATTEMPTS - 1, OSError("connection lost"))
    with ThreadPoolExecutor(1) as pool:
        assert gather(pool, [Call("a", flaky, (1,)), Call("b", abs, (-2,))]) == [1, 2]


def test_a_call_that_comes_to_nothing_each_time_is_an_error_with_the_reason():
    with ThreadPoolExecutor(1) as pool, pytest.raises(TreealignError, match="OSError: connection lost"):
        gather(pool, [Call("a", Flaky(99, OSError("connection lost")), (1,))])


def test_what_a_call_refuses_is_not_tried_again():
    flaky = Flaky(99, FormatError("damaged"))
    with ThreadPoolExecutor(1) as pool, pytest.raises(FormatError, match="damaged"):
        gather(pool, [Call("a", flaky, (1,))])
    assert flaky.calls == 1


@pytest.mark.parametrize("executor", ["MPIPoolExecutor", "RayExecutor"])
def test_the_page_shows_the_lines_that_the_script_runs(executor):
    assert f"{executor}(" in many_machines.README.read_text(encoding="utf-8")
