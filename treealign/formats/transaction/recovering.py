"""What a run that was killed has left: finished where it was complete, forgotten where it was not, and said."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from treealign.errors import FormatError
from treealign.formats.legible import printable
from treealign.formats.transaction import locking
from treealign.formats.transaction.journal import NAME, Journal, read_journal
from treealign.formats.transaction.locking import Lock, State
from treealign.formats.transaction.stages import Stage, refuse_unnamable, stages_around
from treealign.formats.transaction.swapping import forget, forward, remove, strangers

_say = logging.getLogger("treealign").warning


def recover(path: str | os.PathLike[str]) -> list[Mapping[str, Any]]:
    """Before something is read or written: end what a run that was killed has begun there; wait for one that is at it.

    Returns
    -------
    list of mapping
        What had been asked of the runs that are finished now.

    Raises
    ------
    FormatError
        Files are between their old and their new places and this process cannot move them: what happened, and what
        finishes it. Or the journal cannot be read, or speaks of files that others have replaced since;
        or the path is none.
    """
    refuse_unnamable(place := Path(os.fspath(path)))
    found = [_recover(stage) for stage in stages_around(place)]
    return [request for request in found if request is not None]


def _recover(stage: Stage) -> Mapping[str, Any] | None:
    lock = Lock(stage.lock, alone=True)
    try:
        state, late = lock.take(), time.monotonic() + locking.PATIENCE
        # files change places only while there is a journal: what is still being written disturbs nobody
        while state not in (State.HELD, State.ABSENT) and has_journal(stage):
            if state is State.UNKNOWN or time.monotonic() > late:
                busy = state is State.BUSY
                raise between(stage, "that run may still be at work" if busy else "there are no locks here")
            state = lock.ask_again()
        return end(stage) if state is State.HELD and lock.stands else None
    except OSError as error:
        if has_journal(stage):
            raise between(stage, error.strerror or str(error)) from error
    finally:
        lock.give_back()
    return None


def has_journal(stage: Stage) -> bool:
    """Whether the files of a stage are changing places."""
    return (stage.path / NAME).exists()


def is_changing(path: str | os.PathLike[str]) -> bool:
    """Whether files are changing places there: what is read in that moment may be of two checkpoints."""
    return any(map(has_journal, stages_around(Path(path))))


def end(stage: Stage) -> Mapping[str, Any] | None:
    """End what a dead run has left in a stage whose lock is held.

    Returns
    -------
    mapping or None
        What was asked of that run, where it is finished now.

    Raises
    ------
    FormatError
        Its journal cannot be read, or speaks of files that others have replaced since.
    OSError
        The system refuses.
    """
    if not stage.path.is_dir():
        return None
    journal = read_journal(stage.path)
    if journal is None:
        if any(stage.path.iterdir()):
            _say("%s: a run was cut short before it changed anything; what it had written is gone", _named(stage))
        remove(stage.path)
        return None
    others = strangers(journal, stage.folder, stage.path)
    if others:
        raise _replaced(stage, journal, others)
    forward(journal, stage.folder, stage.path)
    forget(stage.path)
    _say("%s: a run was cut short while files changed places; it is finished now", _named(stage))
    return journal.request


def _named(stage: Stage) -> str:
    return printable(str(stage.folder))


def _replaced(stage: Stage, journal: Journal, others: list[str]) -> FormatError:
    was = "being renamed" if journal.patches else "changing places"
    return FormatError(
        f"these files are not those that were {was} when a run was cut short",
        where=str(stage.folder),
        facts=others[:50],
        hint=f"if they were replaced on purpose, remove {stage.path}: it holds what that run wrote and what was there",
    )


def between(stage: Stage, reason: str) -> FormatError:
    """That files are neither at their old nor at their new places, and what finishes it."""
    return FormatError(
        "a run was cut short here while files changed places",
        where=str(stage.folder),
        facts=[f"nothing is lost: old and new files are in {stage.path}", reason],
        hint="read or write this checkpoint by treealign once more, where files may be moved: that finishes it",
    )
