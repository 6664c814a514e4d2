"""All tasks of a conversion, on this machine or on an executor's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from treealign.checkpoint.conversion.tasks import ShardResult, ShardTask
from treealign.checkpoint.conversion.writing import run_task, run_task_beside_others
from treealign.checkpoint.executors import Call, gather
from treealign.errors import TreealignError
from treealign.formats.flushing import flush_all
from treealign.formats.transaction.transaction import refusals

# bytes done, bytes in all
Progress: TypeAlias = Callable[[int, int], None]


def run_tasks(
    tasks: Sequence[ShardTask],
    folder: Path,
    progress: Progress | None = None,
    executor: Executor | None = None,
    *,
    alone: bool = False,
) -> list[ShardResult]:
    """Run all tasks, and give their results in the order of the tasks.

    Parameters
    ----------
    tasks : sequence of ShardTask
        One a file.
    folder : Path
        Where to.
    progress : callable, optional
        Told how many bytes are done, and how many there are.
    executor : Executor, optional
        Where to run them; a task whose worker dies is run again. By default in two threads, and all files are flushed
        to the disk together at the end.
    alone : bool
        Whether to run them in the thread that calls, one after the other: tensors of a model may be gathered from other
        processes, or still be on their way on a stream of this thread, and a program that ends starts no threads.

    Raises
    ------
    FormatError
        As `run_task` does; the first task that failed speaks, and no other is begun.
    TreealignError
        The workers die, or do not write where this process reads.
    """
    count = _Count(sum(task.size for task in tasks), progress)
    if executor is not None:
        calls = [Call(task.name, run_task_beside_others, (task.anywhere, str(folder.absolute()))) for task in tasks]
        gathered: list[ShardResult] = gather(executor, calls, lambda result: count.add(result.size))
        _refuse_elsewhere(tasks, folder)
        return gathered
    run = run_task_beside_others if len(tasks) > 1 else run_task
    if alone:
        return [run_task(task, folder, count.add) for task in tasks]
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(run, task, folder, count.add, flush=False) for task in tasks]
        try:
            results = [future.result() for future in waiting]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            count.stopped = True
            raise
    with refusals(folder):
        flush_all([folder / task.name for task in tasks])
    return results


def _refuse_elsewhere(tasks: Sequence[ShardTask], folder: Path) -> None:
    """Refuse what workers wrote to a folder of their own that has the same name."""
    absent = [task.name for task in tasks if not _has(folder / task.name, task.size)]
    if absent:
        hint = "every worker has to see the same files under the same paths"
        raise TreealignError("the workers wrote to other places", where=str(folder), facts=absent[:20], hint=hint)


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


class _Count:
    """Bytes done; threads add to it, and a number that is a moment old does no harm."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress
        self.stopped = False

    def add(self, count: int) -> None:
        if self.stopped:
            raise TreealignError("another file could not be written, or the run was interrupted")
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.total)
