"""Bytes on the disk: written at their place, and flushed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

_CHUNK = 1 << 26


def write_at(descriptor: int, data: Any, at: int) -> None:
    """Write all of a buffer at a place of a file."""
    view = memoryview(data)
    done = 0
    while done < view.nbytes:
        done += os.pwrite(descriptor, view[done : done + _CHUNK], at + done)


def sync_folder(folder: Path) -> None:
    """Make the new name itself survive a crash, where the system lets a folder be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_descriptors(descriptors: Iterable[int]) -> None:
    """Flush open files together: the disk then has to be waited for once."""
    wanted = list(descriptors)
    if wanted:
        with ThreadPoolExecutor(min(len(wanted), 16)) as threads:
            list(threads.map(getattr(os, "fdatasync", os.fsync), wanted))


def flush_all(paths: Sequence[Path]) -> None:
    """Flush files to the disk together, which takes less than one after the other."""
    if len(paths) == 1:
        return _flush(paths[0])
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(_flush, paths))
    return None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
