"""Keep what native code prints off stdout, which carries data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_silence() -> Iterator[None]:
    """Send what is written to file descriptor 1 nowhere meanwhile.

    HiGHS in scipy 1.17 prints a line of debugging from C++ whatever its options say; Python's own streams are left
    alone, since they write to the descriptor only when flushed, and are flushed first.
    """
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # stdout is closed: nothing to protect
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
