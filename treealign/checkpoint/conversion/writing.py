"""`run_task`: one file of the result, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from treealign.checkpoint.conversion.computing import computed
from treealign.checkpoint.conversion.moving import Advance, Mover
from treealign.checkpoint.conversion.tasks import ShardResult, ShardTask
from treealign.checkpoint.conversion.threads import one_thread
from treealign.checkpoint.conversion.verifying import forget, holds
from treealign.checkpoint.readers import Reader
from treealign.errors import FormatError
from treealign.formats.flushing import sync_folder, write_at
from treealign.formats.stamps import refuse_changed
from treealign.formats.transaction.transaction import refusals


def run_task(
    task: ShardTask, folder: str | os.PathLike[str], advance: Advance = lambda _: None, *, flush: bool = True
) -> ShardResult:
    """Write one file of a conversion into a folder.

    Independent of all other tasks, and idempotent: a file that has its name is complete, and is not written again; the
    file appears under its name only when it is on the disk.

    Parameters
    ----------
    task : ShardTask
        What to write.
    folder : path
        Where to.
    advance : callable
        Told of bytes as they are written.
    flush : bool
        Whether the file is to be on the disk before it has its name. Without, the caller sees to that.

    Raises
    ------
    FormatError
        A source has changed or cannot be read, the system refuses to write, or what was written reads otherwise.
    """
    path = Path(folder) / task.name
    with refusals(path):
        if not path.exists():
            # what is to be read again must be on the disk first
            _write(task, path, advance, flush or task.verify)
        return ShardResult(task.name, task.size, verified(task, path) if task.verify else "")


def run_task_beside_others(
    task: ShardTask, folder: str | os.PathLike[str], advance: Advance = lambda _: None, *, flush: bool = True
) -> ShardResult:
    """`run_task` where other cores are busy with other tasks: what it computes, it computes in one thread."""
    with one_thread() if task.computations else nullcontext():
        return run_task(task, folder, advance, flush=flush)


@contextmanager
def written(path: Path, mode: int, *, flush: bool = True) -> Iterator[int]:
    """A descriptor to write by; the file takes its name on leaving, once it is on the disk, and only if all went well.

    The mode is what `cp` would give: that of the source, less the umask.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, mode)
    try:
        try:
            yield descriptor
            if flush:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if flush:
        sync_folder(path.parent)


def _write(task: ShardTask, path: Path, advance: Advance, flush: bool) -> None:
    refuse_changed(task.stamps)
    with written(path, task.mode, flush=flush) as target, Reader() as reader:
        write_at(target, task.header, 0)
        advance(len(task.header))
        mover = Mover(target, advance)
        for span in task.spans:
            mover.move(reader.descriptor(span.path), span)
        for computation in task.computations:
            for at, data in computed(computation, reader):
                write_at(target, data, at)
                advance(data.nbytes)
        # empty tensors at the end, or none at all
        os.ftruncate(target, task.size)
        refuse_changed(task.stamps)


def verified(task: ShardTask, path: Path) -> str:
    """The SHA-256 of a file, read again from the disk, that holds what it was made of.

    Raises
    ------
    FormatError
        It holds something else; it is gone then.
    """
    with path.open("rb") as file, Reader() as reader:
        forget(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not holds(task, file.fileno(), reader):
            path.unlink()
            raise FormatError("what was written reads otherwise", where=str(path), hint="is the disk failing?")
    return digest
