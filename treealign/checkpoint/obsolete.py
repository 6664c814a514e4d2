"""The checkpoint that a new one replaces in a folder: its files, in the order in which they go."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from treealign.checkpoint.layouts import INDEX, SINGLE
from treealign.checkpoint.record_file import NAME
from treealign.errors import FormatError
from treealign.formats.folders import choose_weights
from treealign.formats.indexes import read_index

# what an earlier conversion has left beside the weights: it speaks of them, and of no others
CONVERSIONS = "treealign_conversion."


def obsolete(folder: Path, written: Iterable[str], *, chosen: bool = True) -> list[str]:
    """The names that the old checkpoint gives up before any file of the new one appears.

    Records and indexes go first, so that no other reader takes a part of the shards for a checkpoint. A single file
    that is replaced by a single file is not among them: one renaming replaces it.

    Parameters
    ----------
    folder : Path
        Where it is.
    written : iterable of str
        The names of the new files.
    chosen : bool
        Whether weights under names of their own go too, where they are what would be read from the folder.
    """
    names = set(written)
    indexes = sorted({INDEX, *(name for name in names if name.endswith(".index.json"))})
    shards = {shard for name in indexes for shard in _shards(folder / name)}
    found = _chosen(folder) if chosen else []
    records = [NAME, *sorted(path.name for path in folder.glob(f"{CONVERSIONS}*"))]
    files = {*shards, *(name for name in found if not name.endswith(".json"))}
    old = [*records, *indexes, *(name for name in found if name.endswith(".json")), *sorted(files), SINGLE]
    kept = {SINGLE} if SINGLE in names and files <= {SINGLE} else set()
    return [name for name in dict.fromkeys(old) if name not in kept and _is_there(folder / name)]


def _chosen(folder: Path) -> list[str]:
    """The weights that would be read from a folder, in safetensors; none where that cannot be told."""
    try:
        choice = choose_weights(folder)
        files = [choice.index, *read_index(choice.index).files] if choice.index else list(choice.files)
    except FormatError:
        return []
    return [Path(file).name for file in files if file.endswith((".safetensors", ".safetensors.index.json"))]


def _shards(index: Path) -> tuple[str, ...]:
    try:
        return tuple(name for name in read_index(index).shards if name.endswith(".safetensors"))
    except FormatError:
        return ()


def _is_there(path: Path) -> bool:
    return path.is_file() or path.is_symlink()
