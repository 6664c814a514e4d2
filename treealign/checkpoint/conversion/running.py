"""All tasks of a conversion, on this machine or on an executor's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TypeAlias

from treealign.checkpoint.conversion.tasks import ShardResult, ShardTask
from treealign.checkpoint.conversion.writing import run_task

# bytes done, bytes in all
Progress: TypeAlias = Callable[[int, int], None]


def run_tasks(
    tasks: Sequence[ShardTask], folder: Path, progress: Progress | None = None, executor: Executor | None = None
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
        Where to run them; by default in two threads, so that one file is flushed to the disk while the next is written.

    Raises
    ------
    FormatError
        As `run_task` does; the first task that failed speaks, and no other is begun.
    """
    count = _Count(sum(task.size for task in tasks), progress)
    if executor is not None:
        results = []
        for result in executor.map(run_task, tasks, repeat(str(folder))):
            results.append(result)
            count.add(result.size)
        return results
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(run_task, task, folder, count.add) for task in tasks]
        try:
            return [future.result() for future in waiting]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


class _Count:
    """Bytes done; threads add to it, and a number that is a moment old does no harm."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.total)
