"""What is shown on stderr while work takes a while: a bar, after two seconds; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import Any

AFTER = 2.0  # seconds; what is done sooner needs no bar


class Waiting:
    """One bar for whatever is being done: it moves, or counts once somebody knows how much there is to do.

    It is started by a timer, since importing what draws it takes longer than a small checkpoint takes to read.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self.text, self._timer = "working", Timer(AFTER, self._show)
        self._shown: Any = None
        self._timer.daemon = True

    def start(self) -> None:
        """Count the seconds from now on."""
        self._timer.start()

    def stop(self) -> None:
        """Take the bar away, for good."""
        self._timer.cancel()
        with self._lock:
            shown, self._shown = self._shown, None
        if shown is not None:
            shown.stop()

    def tell(self, done: int, total: int) -> None:
        """How much is done, of how much."""
        if self._shown is not None:
            self._shown.update(0, description=self.text, completed=done, total=total)

    def talk(self, text: str) -> None:
        """Say something above the bar, which is about that from now on."""
        self.text = text.partition("\n")[0][:40]
        if self._shown is None:
            print(text, file=sys.stderr)
        else:
            self._shown.console.out(text, highlight=False)
            self._shown.update(0, description=self.text, total=None)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(bar_width=None), TaskProgressColumn(), TimeElapsedColumn())
        shown = Progress(*columns, console=Console(stderr=True), transient=True)
        shown.add_task(self.text, total=None)
        with self._lock:
            if self._timer.finished.is_set() is False:
                self._shown = shown
                shown.start()


_waiting: list[Waiting] = []


@contextmanager
def waiting() -> Iterator[None]:
    """Show a bar while what is in here takes longer than two seconds."""
    if not sys.stderr.isatty():
        yield
        return
    _waiting.append(Waiting())
    _waiting[-1].start()
    try:
        yield
    finally:
        stop_waiting()


def stop_waiting() -> None:
    """Take the bar away: something is printed, or asked."""
    while _waiting:
        _waiting.pop().stop()


def talk(text: str) -> None:
    """Print on stderr, above the bar where one is shown."""
    if _waiting:
        _waiting[-1].talk(text)
    else:
        print(text, file=sys.stderr)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A function to be told of work done and work in all; None where nobody would see a bar."""
    if not _waiting:
        yield None
        return
    _waiting[-1].text = what
    yield _waiting[-1].tell
