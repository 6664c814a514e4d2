"""Replacing the checkpoint in a folder: the old one or the new one is there, whole, and never a mixture.

The new files are written beside the old ones first. Then the old record and index go, then the old shards are put aside
one by one, then the new files take their names, the index and the record last. A process that is killed on the way
leaves the old checkpoint, or the new one, or a set of shards that is not complete and that no reader takes for one; all
that it had written and put aside is still there under names that begin with a dot.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from treealign.checkpoint.record_file import NAME
from treealign.errors import FormatError
from treealign.formats.atomic import Staging, staging
from treealign.formats.indexes import read_index
from treealign.mapping.layout import INDEX, SINGLE


@contextmanager
def replaced(folder: Path, names: Iterable[str]) -> Iterator[Staging]:
    """Files to write, by `Staging.open`; they take the place of the checkpoint in the folder on leaving.

    Parameters
    ----------
    folder : Path
        Made if it is absent.
    names : iterable of str
        The files that will be written.

    Raises
    ------
    FormatError
        The system refuses to write; the folder is then as it was.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FormatError(f"cannot write: {error.strerror}", where=str(folder)) from error
    aside = _Aside(folder, f".{secrets.token_hex(6)}.old")
    written = set(names)
    fresh = {name for name in written if not _is_there(folder / name)}
    try:
        with staging(folder) as stage:
            yield stage
            aside.put(_obsolete(folder, written))
    except BaseException:
        for name in fresh:
            with suppress(OSError):
                (folder / name).unlink()
        aside.restore()
        raise
    aside.drop()


class _Aside:
    """Files that have given up their names."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder, self.suffix, self.names = folder, suffix, list[str]()

    def _hidden(self, name: str) -> Path:
        return self.folder / f".{name}{self.suffix}"

    def put(self, names: Iterable[str]) -> None:
        for name in names:
            (self.folder / name).rename(self._hidden(name))
            self.names.append(name)

    def restore(self) -> None:
        for name in reversed(self.names):
            with suppress(OSError):
                self._hidden(name).rename(self.folder / name)

    def drop(self) -> None:
        for name in self.names:
            with suppress(OSError):
                self._hidden(name).unlink()


def _obsolete(folder: Path, written: set[str]) -> list[str]:
    """The files of the old checkpoint, in the order in which they go.

    A single file that is replaced by a single file stays until then: one renaming replaces it.
    """
    indexes = sorted({INDEX, *(name for name in written if name.endswith(".index.json"))})
    shards = {shard for name in indexes for shard in _shards(folder / name)}
    old = [NAME, *indexes, *sorted(shards), SINGLE]
    kept = {SINGLE} if SINGLE in written and not shards else set()
    return [name for name in dict.fromkeys(old) if name not in kept and _is_there(folder / name)]


def _shards(index: Path) -> tuple[str, ...]:
    try:
        return tuple(name for name in read_index(index).shards if name.endswith(".safetensors"))
    except FormatError:
        return ()


def _is_there(path: Path) -> bool:
    return path.is_file() or path.is_symlink()
