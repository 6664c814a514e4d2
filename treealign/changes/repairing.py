"""Write the new spelling where a reference lost its meaning: as a unified diff, or into the files, format kept.

Only what was checked is replaced: the new spelling means the same tensors, the old one stands in the source exactly
once at its place, and the file can still be parsed.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from treealign.changes.references.judging import Judge
from treealign.changes.references.resolving import Resolver
from treealign.changes.references.respelling import respelled
from treealign.changes.references.scanning import references_in
from treealign.changes.references.walking import WEIGHTS, encoding_of, read_text
from treealign.changes.results import Reference, Skipped
from treealign.changes.translation import Translation
from treealign.errors import TreealignError
from treealign.formats.atomic import written_whole

CERTAIN = 0.85
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True)
class FileRepair:
    """One file with its references respelled.

    Attributes
    ----------
    file : str
        Its path.
    before, after : str
        Its text, line ends as they are.
    references : tuple of Reference
        What is respelled.
    """

    file: str
    before: str
    after: str
    references: tuple[Reference, ...]

    @property
    def diff(self) -> str:
        """The unified diff."""
        before, after = (_LINE.findall(text) for text in (self.before, self.after))
        name = self.file.lstrip("/")
        lines = difflib.unified_diff(before, after, f"a/{name}", f"b/{name}")
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def repairs(
    translation: Translation, references: Iterable[Reference], min_certainty: float = CERTAIN
) -> tuple[FileRepair, ...]:
    """The repair of each file in which something can be respelled with certainty.

    The files are read again, so that a repair fits what stands in them at this moment. `min_certainty` can only raise
    the bound: what is worth listing is not yet worth writing.
    """
    files = dict.fromkeys(
        r.file for r in references if r.changed and r.new is not None and not r.file.endswith(WEIGHTS)
    )
    judge = Judge(Resolver(translation), max(min_certainty, CERTAIN))
    found = (_repair(file, judge) for file in files)
    return tuple(repair for repair in found if repair is not None)


def _repair(file: str, judge: Judge) -> FileRepair | None:
    before = read_text(file)
    if isinstance(before, Skipped):
        return None
    references = [found for found in references_in(before, file, judge) if isinstance(found, Reference)]
    after, done = before, []
    for reference in sorted(references, key=lambda one: one.span, reverse=True):
        start, stop = reference.span
        if not reference.changed or start == stop or reference.new is None:
            continue
        text = respelled(after[start:stop], reference.old, reference.new, reference.reader)
        if text is not None:
            after = after[:start] + text + after[stop:]
            done.append(reference)
    still_read = not any(isinstance(found, Skipped) for found in references_in(after, file, judge))
    return FileRepair(file, before, after, tuple(done[::-1])) if done and still_read else None


def write_repairs(found: Sequence[FileRepair], force: bool = False) -> tuple[Skipped, ...]:
    """Write repaired files, each whole or not at all; those that changed meanwhile are left alone and returned.

    Raises
    ------
    TreealignError
        A git tree around them holds changes that are not committed, and `force` is not given.
    """
    dirty = [] if force else [line for folder in _folders(found) for line in _uncommitted(folder)]
    if dirty:
        hint = "commit or stash them, so that the repair can be looked at and taken back; or pass --force"
        raise TreealignError("the git tree holds changes that are not committed", facts=dirty[:20], hint=hint)
    return tuple(skipped for repair in found for skipped in _write(repair))


def _write(repair: FileRepair) -> Iterator[Skipped]:
    path = Path(os.path.realpath(repair.file))
    try:
        raw, mode = path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
        encoding = encoding_of(raw, repair.file)
        if raw.decode(encoding) != repair.before:
            yield Skipped(repair.file, "changed meanwhile")
            return
        with written_whole(path) as file:
            file.write(repair.after.encode(encoding))
        path.chmod(mode)
    except (OSError, UnicodeError, SyntaxError) as error:
        yield Skipped(repair.file, getattr(error, "strerror", None) or str(error))


def _folders(found: Iterable[FileRepair]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for repair in found:
        path = os.path.realpath(repair.file)
        top = _git(str(Path(path).parent), "rev-parse", "--show-toplevel")
        if top:
            folders.setdefault(top[0], []).append(path)
    return folders


def _uncommitted(folder: str) -> list[str]:
    return [f"{folder}: {line.strip()}" for line in _git(folder, "status", "--porcelain", "--untracked-files=no")]


def _git(folder: str, *arguments: str) -> list[str]:
    """The lines that git answers with; none where there is no git, or no tree of it."""
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
