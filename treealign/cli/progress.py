"""A bar on stderr for work that takes a while; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_WORTH_A_BAR = 1 << 28  # bytes; fewer are written before one wonders


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A function to be told of bytes done and bytes in all; None where nobody would see a bar."""
    if not sys.stderr.isatty():
        yield None
        return
    # rich takes longer to import than a small checkpoint to convert, so it waits for a large one
    shown: list[Callable[[int, int], None]] = []
    with _Bar() as bar:

        def tell(done: int, total: int) -> None:
            if total >= _WORTH_A_BAR:
                if not shown:
                    shown.append(bar.start(what))
                shown[0](done, total)

        yield tell


class _Bar:
    def __init__(self) -> None:
        self._stop: Callable[[], None] = lambda: None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def start(self, what: str) -> Callable[[int, int], None]:
        """Show the bar; what is to be told of bytes."""
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        progress = Progress(*columns, console=Console(stderr=True), transient=True)
        task = progress.add_task(what)
        progress.start()
        self._stop = progress.stop
        return lambda done, total: progress.update(task, completed=done, total=total)
