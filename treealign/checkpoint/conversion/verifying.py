"""Files read again from the disk and held against what they were made of."""

from __future__ import annotations

import os
from contextlib import suppress

from treealign.checkpoint.conversion.computing import computed
from treealign.checkpoint.conversion.tasks import ShardTask, Span
from treealign.checkpoint.readers import Reader

_PIECE = 1 << 24


def forget(descriptor: int) -> None:
    """Let the system drop what it holds of a file in memory, so that it is read from the disk."""
    with suppress(OSError, AttributeError):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def holds(task: ShardTask, descriptor: int, reader: Reader) -> bool:
    """Whether a file holds what its task says."""
    if os.fstat(descriptor).st_size != task.size or os.pread(descriptor, len(task.header), 0) != task.header:
        return False
    if not all(_same(descriptor, reader.descriptor(span.path), span) for span in task.spans):
        return False
    return all(
        os.pread(descriptor, _PIECE, at + done)[: data.nbytes - done] == data[done : done + _PIECE]
        for computation in task.computations
        for at, data in computed(computation, reader)
        for done in range(0, data.nbytes, _PIECE)
    )


def _same(written: int, source: int, span: Span) -> bool:
    return all(
        os.pread(written, size, span.at + done) == os.pread(source, size, span.begin + done)
        for done in range(0, span.size, _PIECE)
        for size in [min(_PIECE, span.size - done)]
    )
