"""One thread of torch for each task that runs beside others.

As many tasks as there are cores, and each of them with as many threads, would wait for one another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from treealign.formats.forking import ForkedLock, in_forked_children

_lock = ForkedLock()
_inside: list[int] = []  # what to go back to, once for each that is inside


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in the thread that calls and in no other; afterwards as before.

    Threads that begin take over what another has just set, so whoever comes in while others are in here goes back to
    what was there before the first of them.
    """
    import torch

    with _lock:
        _inside.append(_inside[0] if _inside else torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            if _inside:  # not in a child that was forked inside
                torch.set_num_threads(_inside.pop())


def _forked() -> None:
    """A child that was forked meanwhile computes as its parent did before."""
    if _inside:
        import torch

        torch.set_num_threads(_inside[0])
        _inside.clear()


in_forked_children(_forked)
