"""Files that change places as a journal says: forward, as often as it takes, or back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from treealign.formats.flushing import sync_descriptors, sync_folder, write_at
from treealign.formats.safetensors_header import INTERRUPTED
from treealign.formats.transaction.journal import NAME, Journal, is_known

ASIDE = ".old"


def forward(journal: Journal, folder: Path, stage: Path) -> None:
    """Put what goes aside, and let what comes take its place; what has been done already is not done again.

    Raises
    ------
    OSError
        The system refuses.
    """
    with _rewritten(journal, folder, lambda patch: patch[1]):
        for name, held in journal.goes.items():
            if is_known(folder / name, held):
                _move(folder / name, stage / ASIDE / name)
        for name, held in journal.replaced.items():
            if is_known(folder / name, held) and not os.path.lexists(stage / ASIDE / name):
                _put_by(folder / name, stage / ASIDE / name)
        if journal.goes and journal.comes:
            sync_folder(folder)
        for name in journal.comes:
            if os.path.lexists(stage / name):
                _move(stage / name, folder / name)
        _sync(journal, folder)


def back(journal: Journal, folder: Path, stage: Path) -> None:
    """Take everything back, new files into the stage: until the journal is gone, they may be wanted again.

    Raises
    ------
    OSError
        The system refuses.
    """
    with _rewritten(journal, folder, lambda patch: patch[0]):
        for name, held in reversed(list(journal.comes.items())):
            if is_known(folder / name, held):
                _move(folder / name, stage / name)
        for name in reversed([*journal.goes, *journal.replaced]):
            if os.path.lexists(stage / ASIDE / name):
                _move(stage / ASIDE / name, folder / name)
        _sync(journal, folder)


def strangers(journal: Journal, folder: Path, stage: Path) -> list[str]:
    """The files that somebody else has put where the journal speaks of others: they must not be touched.

    Nor must what a link leads to: no transaction makes links, and a folder from anywhere may hold them.
    """
    names = dict.fromkeys([*journal.goes, *journal.replaced, *journal.comes])
    parts = (journal.goes, journal.replaced, journal.comes)
    found = [
        name
        for name in names
        if os.path.lexists(folder / name) and not is_known(folder / name, *(part.get(name) for part in parts))
    ]
    above = dict.fromkeys(base / up for name in names for base in (folder, stage, stage / ASIDE) for up in _above(name))
    found += [str(path) for path in (stage / ASIDE, *above) if path.is_symlink()]
    return found + [name for name, patch in journal.patches.items() if not _is_ours(folder / name, *patch)]


def _above(name: str) -> list[Path]:
    return list(Path(name).parents)[:-1]


def _is_ours(path: Path, before: bytes, after: bytes) -> bool:
    """Whether a file begins as it did before, as it should after, or as it is left in between."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            start = file.read(len(after))
    except OSError:
        return False
    return len(start) == len(after) and (start in (before, after) or start.startswith(INTERRUPTED))


def _move(path: Path, to: Path) -> None:
    try:
        path.replace(to)
    except FileNotFoundError:
        to.parent.mkdir(parents=True, exist_ok=True)
        path.replace(to)


def _put_by(path: Path, to: Path) -> None:
    """Keep a file under another name while it has its own; where there are no such links, it gives up its own."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, to, follow_symlinks=False)
    except (OSError, NotImplementedError):
        _move(path, to)


def _sync(journal: Journal, folder: Path) -> None:
    if journal.goes or journal.comes or journal.replaced:
        for inner in {folder, *((folder / name).parent for name in journal.comes)}:
            sync_folder(inner)


@contextmanager
def _rewritten(journal: Journal, folder: Path, side: Callable[[tuple[bytes, bytes]], bytes]) -> Iterator[None]:
    """Rewrite beginnings: no reader takes the files for its own until all, and what is done inside, is done."""
    with ExitStack() as stack:
        opened = {}
        for name in journal.patches:
            opened[name] = os.open(folder / name, os.O_RDWR | getattr(os, "O_BINARY", 0))
            stack.callback(os.close, opened[name])
        for descriptor in opened.values():
            write_at(descriptor, INTERRUPTED, 0)
        sync_descriptors(opened.values())
        for name, descriptor in opened.items():
            write_at(descriptor, side(journal.patches[name])[8:], 8)
        sync_descriptors(opened.values())
        yield
        for name, descriptor in opened.items():
            write_at(descriptor, side(journal.patches[name])[:8], 0)
        sync_descriptors(opened.values())


def forget(stage: Path) -> None:
    """Let a stage go: its journal first, for what is left without one means nothing."""
    (stage / NAME).unlink(missing_ok=True)
    remove(stage)


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, as far as the system lets; links are not followed."""
    with suppress(OSError):
        for entry in sorted(path.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                remove(entry)
            else:
                with suppress(OSError):
                    entry.unlink()
    with suppress(OSError):
        path.rmdir()
