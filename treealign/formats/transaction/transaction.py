"""How everything is written: staged under a lock, flushed, and put in place as a whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from treealign.errors import FormatError
from treealign.formats.flushing import sync_folder
from treealign.formats.transaction.journal import Journal, Patch, known_of
from treealign.formats.transaction.locking import State, locked
from treealign.formats.transaction.recovering import between, end, has_journal, recover
from treealign.formats.transaction.stages import SUFFIX, Stage, beside, inside, stages_around
from treealign.formats.transaction.swapping import back, forget, forward, remove


@contextmanager
def refusals(where: os.PathLike[str] | str) -> Iterator[None]:
    """What the system says no to, in our words."""
    try:
        yield
    except OSError as error:
        reason, named = error.strerror or str(error), str(error.filename or "")
        # the stage is our own affair
        place = os.fspath(where) if SUFFIX in named or not named else named
        raise FormatError(f"cannot write: {reason}", where=place) from error


@dataclass(frozen=True)
class Transaction:
    """Files that are being written for a folder, and take their places there on `commit`.

    Attributes
    ----------
    at : Stage
        The hidden folder to write into, and the folder that the files are for.
    fresh : Path or None
        A folder that is not there yet: it appears at once, with all that is in the stage.
    finished : tuple of mapping
        What had been asked of runs that were cut short here, and was finished before this one began.
    """

    at: Stage
    fresh: Path | None = None
    finished: tuple[Mapping[str, Any], ...] = ()
    owner: int = field(default_factory=os.getpid)

    @property
    def stage(self) -> Path:
        """The folder to write into, under the names that the files are to have."""
        return self.at.path

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A file to write into, flushed to the disk on leaving."""
        # not tempfile: it would leave the file readable by its owner only
        with (self.stage / name).open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def commit(
        self,
        names: Iterable[str],
        *,
        obsolete: Iterable[str] = (),
        patches: Mapping[str, Patch] | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        """Put files that are complete and on the disk in their places.

        Parameters
        ----------
        names : iterable of str
            Their names, in the order in which they are to appear.
        obsolete : iterable of str
            Names of files of the folder that go, in this order, before any of the others appears. A file whose name
            stands only among `names` is replaced in one step.
        patches : mapping of str to Patch, optional
            Files of the folder that are rewritten at their beginning.
        request : mapping, optional
            What a later run has to know that finishes this one.

        Raises
        ------
        OSError
            The system refuses; the folder is as it was.
        FormatError
            It refuses even to bring that about; the next run finishes this one.
        """
        if self.fresh is not None:
            self._appear(self.fresh)
            return
        comes, goes = known_of(self.stage, names), known_of(self.at.folder, obsolete)
        replaced = known_of(self.at.folder, (name for name in comes if name not in goes))
        if len(comes) == 1 and not goes and not patches:
            self._rename(*comes)
            return
        journal = Journal(goes, replaced, comes, patches or {}, request or {})
        journal.write(self.stage)
        try:
            forward(journal, self.at.folder, self.stage)
        except BaseException:
            self._take_back(journal)
            raise
        forget(self.stage)

    def _rename(self, name: str) -> None:
        """One renaming needs no journal."""
        (self.stage / name).replace(self.at.folder / name)
        sync_folder(self.at.folder)

    def _take_back(self, journal: Journal) -> None:
        try:
            back(journal, self.at.folder, self.stage)
        except OSError as error:
            raise between(self.at, error.strerror or str(error)) from error
        forget(self.stage)

    def _appear(self, folder: Path) -> None:
        for inner in (path for path in self.stage.rglob("*") if path.is_dir()):
            sync_folder(inner)
        sync_folder(self.stage)
        self.stage.rename(folder)
        sync_folder(folder.parent)


@contextmanager
def transaction(
    destination: str | os.PathLike[str],
    *,
    single: bool = False,
    mode: int = 0o777,
    siblings: Literal["", "shared", "alone"] = "",
    patience: float | None = None,
) -> Iterator[Transaction]:
    """Write to a destination, and nobody else meanwhile; what was not committed is gone at the end.

    Parameters
    ----------
    destination : path
        A folder, there or not; or a file.
    single : bool
        Whether it is a file.
    mode : int
        Permissions of a folder that is made, before the umask.
    siblings : str
        Of a file: how the lock of its folder is held, so that nobody replaces what is in it.
    patience : float, optional
        Seconds to wait for another run that writes there.

    Raises
    ------
    FormatError
        Another run is writing there, the system refuses to write, or a run was cut short there and cannot be finished.
    """
    path = Path(destination)
    with refusals(path), ExitStack() as stack:
        held = _hold(path, stack, single, mode, siblings, patience)
        try:
            yield held
        finally:
            # a forked child must not clear away what its parent is writing; a journal is for the next run
            if held.owner == os.getpid() and not has_journal(held.at):
                remove(held.stage)


def _hold(path: Path, stack: ExitStack, single: bool, mode: int, siblings: str, patience: float | None) -> Transaction:
    """Take the locks, and make an empty stage; again where what is there has changed meanwhile."""
    finished: list[Mapping[str, Any]] = []
    if single and not siblings and not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    while True:
        finished += recover(path)
        fresh = None if single or path.is_dir() else path
        stage = beside(path) if single or fresh else inside(path)
        if fresh or siblings:
            path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as attempt:
            if siblings:
                attempt.enter_context(locked(path.parent, alone=siblings == "alone", patience=patience))
            if stage.lock == stage.path:
                stage.path.mkdir(mode=mode | 0o700, exist_ok=True)
            lock = attempt.enter_context(locked(stage.lock, alone=True, patience=patience))
            if lock.state is State.ABSENT:  # somebody has tidied it away, empty as it was
                continue
            if lock.state is State.UNKNOWN:
                finished += filter(None, [end(stage)])
            elif _is_taken(stage) or any(has_journal(other) for other in stages_around(path)):
                continue
            stage.path.mkdir(mode=mode | 0o700, exist_ok=True)
            # from here on a folder holds something, and none can be renamed over it
            if lock.stands and (fresh is None or not fresh.is_dir()):
                stack.push(attempt.pop_all())
                return Transaction(stage, fresh, tuple(finished))
            if stage.lock != stage.path:
                stage.path.rmdir()


def _is_taken(stage: Stage) -> bool:
    """Whether there is something in a stage that somebody has left since it was looked at."""
    return stage.path.is_dir() and any(stage.path.iterdir())
