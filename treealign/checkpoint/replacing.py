"""Replacing the checkpoint in a folder: the old one or the new one is there, whole, and never a mixture.

The new files are written beside the old ones first. Then the old record and index go, then the old shards are put aside
one by one, then the new files take their names, the index and the record last. A process that is killed on the way
leaves the old checkpoint, or the new one, or a set of shards that is not complete and that no reader takes for one; all
that it had written and put aside is still there under names that begin with a dot.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from treealign.checkpoint.record_file import NAME
from treealign.errors import FormatError
from treealign.formats.atomic import Staging, staging, sync_folder, written_whole
from treealign.formats.folders import choose_weights
from treealign.formats.indexes import read_index
from treealign.mapping.layout import INDEX, SINGLE

# which files are changing places, and that they have done so
_SWAPPING, _DROPPING = "swapping.json", "dropping.json"


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


def replace_with(folder: Path, stage: Path, names: Sequence[str]) -> None:
    """Let files that are complete take the place of the checkpoint in a folder.

    Parameters
    ----------
    folder : Path
        Where they are to be.
    stage : Path
        Where they are, on the same file system; what `end_interrupted` needs is written there.
    names : sequence of str
        Their names below both, in the order in which they are to appear.

    Raises
    ------
    OSError
        The system refuses; the folder is as it was.
    """
    old = dict.fromkeys([*_obsolete(folder, set(names)), *_chosen(folder), *names])
    aside = _Aside(folder, f".{secrets.token_hex(6)}.old")
    present = [name for name in old if _is_there(folder / name)]
    swap = {"suffix": aside.suffix, "old": present, "new": list(names)}
    with written_whole(stage / _SWAPPING) as file:
        file.write(json.dumps(swap).encode())
    try:
        aside.put(present)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).replace(folder / name)
        for inner in {(folder / name).parent for name in names}:
            sync_folder(inner)
    except BaseException:
        _take_back(aside, names)
        raise
    (stage / _SWAPPING).replace(stage / _DROPPING)
    aside.drop()


def end_interrupted(folder: Path, stage: Path) -> None:
    """Bring back the checkpoint that a run was replacing when it was killed, or forget it if it was replaced."""
    swapping, dropping = stage / _SWAPPING, stage / _DROPPING
    for path in (swapping, dropping):
        if path.exists():
            swap = json.loads(path.read_bytes())
            aside = _Aside(folder, swap["suffix"])
            aside.names = swap["old"]
            if path == swapping:
                _take_back(aside, swap["new"])
            else:
                aside.drop()


def _take_back(aside: _Aside, names: Sequence[str]) -> None:
    for name in names:
        if name not in aside.names:
            with suppress(OSError):
                (aside.folder / name).unlink()
    aside.restore()


def _chosen(folder: Path) -> list[str]:
    """The weights that would be read from a folder, in safetensors; none where that cannot be told."""
    try:
        choice = choose_weights(folder)
        files = [choice.index, *read_index(choice.index).files] if choice.index else list(choice.files)
    except FormatError:
        return []
    return [Path(file).name for file in files if file.endswith((".safetensors", ".safetensors.index.json"))]


class _Aside:
    """Files that have given up their names."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder, self.suffix, self.names = folder, suffix, list[str]()

    def _hidden(self, name: str) -> Path:
        path = self.folder / name
        return path.with_name(f".{path.name}{self.suffix}")

    def put(self, names: Sequence[str]) -> None:
        self.names = list(names)
        for name in names:
            (self.folder / name).rename(self._hidden(name))

    def restore(self) -> None:
        for name in reversed(self.names):
            with suppress(OSError):
                self._hidden(name).replace(self.folder / name)

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
