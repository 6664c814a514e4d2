"""The journal of a renaming in place: all that is needed to finish it, or to take it back, after any crash.

While headers are rewritten, every file begins with eight bytes that no reader takes for the length of a header; only
when all headers and the index are on the disk do the files become readable again, and each is then whole and new. A
crash leaves files as they were, or files that are refused, and the journal with which a later run ends it.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from treealign.checkpoint.conversion.finishing import write_file
from treealign.checkpoint.conversion.moving import write_at
from treealign.errors import FormatError
from treealign.formats.atomic import sync_folder
from treealign.formats.safetensors_header import INTERRUPTED

SUFFIX = ".treealign-journal"
FORMAT = "treealign.journal"
VERSION = 1


@dataclass(frozen=True)
class Change:
    """The beginning of a file, or the whole of a small one (None where there is none): before and after."""

    before: bytes | None
    after: bytes | None

    @property
    def undone(self) -> Change:
        """The change back."""
        return Change(self.after, self.before)


@dataclass(frozen=True)
class Journal:
    """A renaming in place.

    Attributes
    ----------
    folder : Path
        Where the files are.
    headers : mapping of str to Change
        Name of a file of weights to its header, of one length before and after.
    files : mapping of str to Change
        Small files: the index, and records.
    moves : mapping of str to str
        Files that get another name.
    request : mapping
        The mapping and the direction.
    """

    folder: Path
    headers: Mapping[str, Change]
    files: Mapping[str, Change]
    moves: Mapping[str, str] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The journal's own file."""
        return self.folder / f".{next(iter(self.headers))}{SUFFIX}"

    @property
    def undone(self) -> Journal:
        """The way back."""
        return Journal(
            self.folder,
            {name: change.undone for name, change in self.headers.items()},
            {name: change.undone for name, change in self.files.items()},
            {after: before for before, after in reversed(list(self.moves.items()))},
        )

    def write(self) -> None:
        """Put it on the disk."""
        data = {
            "format": FORMAT,
            "version": VERSION,
            "headers": {name: _to_data(change) for name, change in self.headers.items()},
            "files": {name: _to_data(change) for name, change in self.files.items()},
            "moves": dict(self.moves),
            "request": dict(self.request),
        }
        write_file(self.path, json.dumps(data).encode())

    def carry_out(self) -> None:
        """Make all changes; may be called again after it was cut short.

        Raises
        ------
        OSError
            The system refuses. The journal is still there.
        """
        with self._opened() as descriptors:
            for descriptor in descriptors.values():
                write_at(descriptor, INTERRUPTED, 0)
            _sync(descriptors)
            for name, descriptor in descriptors.items():
                write_at(descriptor, (self.headers[name].after or b"")[8:], 8)
            _sync(descriptors)
            self._change_files()
            for name, descriptor in descriptors.items():
                write_at(descriptor, (self.headers[name].after or b"")[:8], 0)
            _sync(descriptors)

    def remove(self) -> None:
        """It is done: forget the journal."""
        self.path.unlink(missing_ok=True)
        sync_folder(self.folder)

    def _change_files(self) -> None:
        for before, after in self.moves.items():
            if (self.folder / before).exists() and not (self.folder / after).exists():
                (self.folder / before).replace(self.folder / after)
        for name, change in self.files.items():
            path = self.folder / name
            held = path.read_bytes() if path.exists() else None
            if change.after is None:
                path.unlink(missing_ok=True)
            elif change.after != held:
                write_file(path, change.after, 0o666 if held is None else path.stat().st_mode & 0o777)
        sync_folder(self.folder)

    @contextmanager
    def _opened(self) -> Iterator[dict[str, int]]:
        with ExitStack() as stack:
            descriptors = {}
            for name in self.headers:
                descriptors[name] = os.open(self.folder / name, os.O_RDWR | getattr(os, "O_BINARY", 0))
                stack.callback(os.close, descriptors[name])
            yield descriptors


def _sync(descriptors: Mapping[str, int]) -> None:
    """Flush files to the disk, together: the disk then has to be waited for once."""
    with ThreadPoolExecutor(min(len(descriptors), 16) or 1) as threads:
        list(threads.map(getattr(os, "fdatasync", os.fsync), descriptors.values()))


def pending(folder: Path) -> list[Journal]:
    """The journals of renamings in a folder that were cut short.

    Raises
    ------
    FormatError
        A journal cannot be read, or its files are not what they were.
    """
    return [_read(path) for path in sorted(folder.glob(f".*{SUFFIX}"))]


def _read(path: Path) -> Journal:
    try:
        data = json.loads(path.read_bytes())
        if (data["format"], data["version"]) != (FORMAT, VERSION):
            raise FormatError(f"no journal, or not of version {VERSION}", where=str(path))
        journal = Journal(
            path.parent,
            {name: _from_data(change) for name, change in data["headers"].items()},
            {name: _from_data(change) for name, change in data["files"].items()},
            data["moves"],
            data["request"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError("the journal of a renaming cannot be read", where=str(path), facts=[repr(error)]) from error
    _refuse_others(journal)
    return journal


def _refuse_others(journal: Journal) -> None:
    """Refuse a journal whose files have been replaced since: what they hold would be overwritten."""
    others = [name for name, change in journal.headers.items() if not _is_ours(journal.folder / name, change)]
    if others:
        raise FormatError(
            "these files are not those that were being renamed",
            where=str(journal.path),
            facts=others,
            hint="if they were replaced on purpose, delete the journal",
        )


def _is_ours(path: Path, change: Change) -> bool:
    """Whether a file begins as it did before, as it should after, or as it is left in between."""
    before, after = change.before or b"", change.after or b""
    try:
        with path.open("rb") as file:
            start = file.read(len(after))
    except OSError:
        return False
    return len(start) == len(after) and (start in (before, after) or start.startswith(INTERRUPTED))


def _to_data(change: Change) -> list[str | None]:
    return [None if text is None else base64.b64encode(text).decode() for text in (change.before, change.after)]


def _from_data(data: Any) -> Change:
    before, after = (None if text is None else base64.b64decode(text) for text in data)
    return Change(before, after)
