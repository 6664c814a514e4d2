"""Why a folder holds more than one checkpoint, told by what is in its files: asked only when the folder is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from treealign.errors import FormatError
from treealign.formats.indexes import read_index
from treealign.formats.parallel import PLAN

Shapes = Mapping[str, tuple[int, ...]]
_MOST_FILES = 64
_HINT = "pass the file or index that is meant, or FOLDER#NAME"


def why_several(folder: str, names: Sequence[str], read: Callable[[str], Shapes]) -> FormatError:
    """The refusal of a folder with these candidates, with its cause where that can be told.

    Parameters
    ----------
    folder : str
        The folder.
    names : sequence of str
        The files and indexes that could be its checkpoint.
    read : callable
        The keys of a file with their shapes; may raise `FormatError`.
    """
    base, what = Path(folder), "more than one checkpoint in this folder"
    stale = [line for name in names if name.endswith(".index.json") for line in _stale(base / name)]
    if stale:
        hint = f"the index is of other files: delete it, or {_HINT}"
        return FormatError(what, where=folder, facts=[*names, *stale], hint=hint)
    held = _held(base, [name for name in names if not name.endswith(".index.json")], read)
    shared = set.intersection(*map(set, held.values())) if len(held) > 1 else set()
    split = next((key for key in next(iter(held.values()), {}) if key in shared and _cut(held, key)), None)
    key = split or next((key for key in next(iter(held.values()), {}) if key in shared), None)
    if key is None:
        return FormatError(what, where=folder, facts=list(names), hint=_HINT)
    facts = [f"{name}: {key} {list(shapes[key])}" for name, shapes in held.items()]
    if split is None or any(len(shapes) != len(shared) for shapes in held.values()):
        return FormatError(what, where=folder, facts=[*facts, f"{len(shared)} keys are in each of them"], hint=_HINT)
    return FormatError(
        "shards of tensors, not of a checkpoint: each file has a piece of every tensor, under the same names",
        where=folder,
        facts=[*facts, f"{len(shared)} keys are in each of them"],
        hint=f"tensor parallelism wrote them: {PLAN} beside them is to say of each key along which dimension it was "
        "cut, or null for copies; if they are checkpoints each, " + _HINT,
    )


def _held(base: Path, names: Sequence[str], read: Callable[[str], Shapes]) -> dict[str, Shapes]:
    held: dict[str, Shapes] = {}
    for name in names[:_MOST_FILES]:
        try:
            held[name] = read(str(base / name))
        except FormatError:
            continue
    return held


def _cut(held: Mapping[str, Shapes], key: str) -> bool:
    """Whether pieces of one tensor may stand under the key: matrices, for whole copies of small ones are in each."""
    shapes = [shapes[key] for shapes in held.values()]
    return len(shapes[0]) > 1 and all(len(shape) == len(shapes[0]) for shape in shapes)


def _stale(index: Path) -> list[str]:
    try:
        found = read_index(index)
    except FormatError:
        return []
    absent = found.absent()
    listed = ", ".join(absent[:5]) + ", …" * (len(absent) > 5)
    return [f"{index.name}: {len(absent)} of its {len(found.shards)} shards are absent: {listed}"] if absent else []
