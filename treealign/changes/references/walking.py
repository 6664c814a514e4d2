"""The files below the paths to scan, read whole; whatever cannot be read is listed with the reason."""

from __future__ import annotations

import io
import os
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

from treealign.changes.results import Skipped
from treealign.errors import TreealignError
from treealign.formats.transaction.recovering import recover
from treealign.formats.transaction.stages import SUFFIX

TEXTS = (".py", ".pyi", ".ipynb", ".json", ".yaml", ".yml", ".toml")
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
LARGEST = 16 << 20  # bytes of a text: settings and sources are smaller
_PASSED = frozenset(["__pycache__", "node_modules"])


def files_below(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str | Skipped]:
    """Files of the kinds that hold names, in order of their names; folders that are links are not followed.

    Raises
    ------
    TreealignError
        One of the paths does not exist.
    """
    listed = [os.fspath(path) for path in paths]
    absent = [path for path in listed if not os.path.lexists(path)]
    if absent:
        raise TreealignError("there is no such file or folder", where=", ".join(absent), hint="check the spelling")
    seen: set[str] = set()
    for path in listed:
        for file in _below(path) if Path(path).is_dir() else [path]:
            name = file.file if isinstance(file, Skipped) else file
            real = os.path.realpath(name)
            if real not in seen:
                seen.add(real)
                yield file


def _below(folder: str) -> Iterator[str | Skipped]:
    root = os.path.realpath(folder)
    refused: list[Skipped] = []
    for here, folders, files in os.walk(folder, onerror=lambda error: refused.append(_refused(error))):
        if any(name.endswith(SUFFIX) for name in folders):
            recover(here)  # what a repair that was killed has left
        folders[:] = sorted(name for name in folders if name not in _PASSED and not name.startswith("."))
        yield from refused
        refused.clear()
        for name in sorted(files):
            path = os.path.join(here, name)  # noqa: PTH118  a Path for each of thousands of files takes its time
            if name.endswith(TEXTS + WEIGHTS):
                yield _outside(path, root) or path
    yield from refused


def _refused(error: OSError) -> Skipped:
    return Skipped(str(error.filename), error.strerror or "cannot be read")


def _outside(path: str, root: str) -> Skipped | None:
    """A link that leads out of the folder: what is there was not asked about."""
    if not os.path.islink(path):  # noqa: PTH114
        return None
    inside = os.path.realpath(path).startswith(root + os.sep)
    return None if inside else Skipped(path, "a link that leads out of the scanned folder")


def read_text(path: str) -> str | Skipped:
    """The text of a file, line ends as they are; or why it has none."""
    try:
        if not Path(path).is_file():
            return Skipped(path, "not a regular file")
        with Path(path).open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        return Skipped(path, error.strerror or "cannot be read")
    if len(raw) > LARGEST:
        return Skipped(path, f"larger than {LARGEST >> 20} MiB")
    if b"\0" in raw[:8192]:
        return Skipped(path, "binary")
    return decoded(raw, path)


def decoded(raw: bytes, path: str) -> str | Skipped:
    """Bytes as text, in the encoding that a Python source declares."""
    try:
        encoding = encoding_of(raw, path)
        return raw.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        return Skipped(path, f"not text: {error}")


def encoding_of(raw: bytes, path: str) -> str:
    """The encoding of a text; raises `SyntaxError` where a source declares one that does not exist."""
    if path.endswith((".py", ".pyi")):
        return tokenize.detect_encoding(io.BytesIO(raw).readline)[0]
    return "utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8"
