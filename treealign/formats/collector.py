"""Python's cycle collector, out of the way while a large file is read."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from treealign.formats.forking import ForkedLock, in_forked_children

_lock = ForkedLock()
_inside: list[bool] = []  # whether it was on when each of those came that are inside


@contextmanager
def collector_paused() -> Iterator[None]:
    """Several objects are made for each tensor, none of them garbage; looking through them triples the time.

    The first of several threads turns it off, and the last turns it on again.
    """
    with _lock:
        _inside.append(_inside[0] if _inside else gc.isenabled())
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            if _inside and _inside.pop() and not _inside:
                gc.enable()


def _forked() -> None:
    """Nobody is inside in a child but the thread that forked, if it is."""
    if _inside and _inside[0]:
        gc.enable()
    _inside.clear()


in_forked_children(_forked)
