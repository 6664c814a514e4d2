"""Locks of threads that a forked child does not inherit held: whoever held them is not there any more."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from types import TracebackType


class ForkedLock:
    """A lock of threads; in a forked child it is free."""

    def __init__(self) -> None:
        self._lock = Lock()
        in_forked_children(self._renew)

    def _renew(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()


def in_forked_children(act: Callable[[], None]) -> None:
    """Do something in every child of this process as soon as it is forked, where the system forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=act)
