"""The journal of a transaction: which files go, which come, what is rewritten in place, and by what each is known."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from treealign.errors import FormatError
from treealign.formats.flushing import sync_folder, write_at
from treealign.formats.indexes import is_plain_name
from treealign.formats.legible import legible
from treealign.formats.stamps import Stamp
from treealign.formats.texts import read_bounded

NAME = ".journal.json"
FORMAT = "treealign.transaction"
VERSION = 1
_LARGEST = 1 << 28  # bytes: it holds headers twice


class Patch(NamedTuple):
    """The beginning of a file, before and after; both have one length."""

    before: bytes
    after: bytes


@dataclass(frozen=True)
class Journal:
    """What a transaction does to the files of a folder.

    Attributes
    ----------
    goes : mapping of str to Stamp
        Names that are given up before any file comes, in this order.
    replaced : mapping of str to Stamp
        Names at which another file takes the place of the present one at once.
    comes : mapping of str to Stamp
        Names of the new files, in the order in which they appear.
    patches : mapping of str to Patch
        Files that are rewritten at their beginning.
    request : mapping
        What was asked for, where a later run has to know it.
    """

    goes: Mapping[str, Stamp] = field(default_factory=dict)
    replaced: Mapping[str, Stamp] = field(default_factory=dict)
    comes: Mapping[str, Stamp] = field(default_factory=dict)
    patches: Mapping[str, Patch] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)

    def write(self, stage: Path) -> None:
        """Put it into the stage, whole, and on the disk: from now on the transaction is finished by whoever comes."""
        data = {
            "format": FORMAT,
            "version": VERSION,
            **{part: dict(getattr(self, part)) for part in ("goes", "replaced", "comes", "request")},
            "patches": {name: [base64.b64encode(side).decode() for side in two] for name, two in self.patches.items()},
        }
        content = json.dumps(data).encode()
        descriptor = os.open(stage / f"{NAME}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            write_at(descriptor, content, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        (stage / f"{NAME}.tmp").replace(stage / NAME)
        sync_folder(stage)


def is_known(path: Path, *kinds: Stamp | None) -> bool:
    """Whether a path is one of these files."""
    try:
        return Stamp.of(path.lstat()) in kinds
    except (FileNotFoundError, NotADirectoryError):
        return False


def known_of(folder: Path, names: Iterable[str]) -> dict[str, Stamp]:
    """What the files of these names that are in a folder are known by."""
    there = (name for name in dict.fromkeys(names) if os.path.lexists(folder / name))
    return {name: Stamp.of((folder / name).lstat()) for name in there}


def read_journal(stage: Path) -> Journal | None:
    """The journal in a stage; None where there is none.

    Raises
    ------
    FormatError
        It cannot be read.
    """
    path = stage / NAME
    try:
        data = json.loads(read_bounded(path, _LARGEST))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, str(error)) from error
    try:
        if (data["format"], data["version"]) != (FORMAT, VERSION):
            raise _unreadable(path, f"no journal, or not of version {VERSION}")
        return _from_data(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, repr(error)) from error


def _from_data(data: Mapping[str, Any]) -> Journal:
    goes, replaced, comes = (
        {name: Stamp(*map(int, one)) for name, one in data[part].items()} for part in ("goes", "replaced", "comes")
    )
    patches = {name: Patch(*map(base64.b64decode, two)) for name, two in data["patches"].items()}
    for name in (*goes, *replaced, *comes, *patches):
        _refuse_elsewhere(name)
    return Journal(goes, replaced, comes, patches, dict(data["request"]))


def _refuse_elsewhere(name: str) -> None:
    """A folder from anywhere may hold a journal: whoever reads the folder moves no file out of it, or into it.

    Raises
    ------
    ValueError
        The name leads out of the folder.
    """
    if not all(map(is_plain_name, name.split("/"))):
        raise ValueError(f"{legible(name)} is not in the folder")


def _unreadable(path: Path, reason: str) -> FormatError:
    hint = f"look at the files in {path.parent}, put back what belongs beside it, and remove that folder"
    return FormatError(
        "the journal of a run that was cut short is unreadable", where=str(path), facts=[reason], hint=hint
    )
