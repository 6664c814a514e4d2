"""Tensor-parallel shards: files that each hold a piece of every tensor under the same names, joined by a plan.

The pieces do not say along which dimension they were cut. A plan does: ``tp_plan.json`` beside them, which maps keys,
with ``*`` for one level, to the dimension, or to null for what each file has a copy of (``{"layers.*.wq.weight": 0,
"norm.weight": null}``); or the code of the library whose names and shapes they have (`parallel.json`). What no plan
speaks of is refused, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from treealign.errors import FormatError
from treealign.formats.distributed import Chunk, DistributedFolder, DistributedTensor
from treealign.formats.legible import legible
from treealign.formats.texts import read_bounded

PLAN = "tp_plan.json"
_NUMBER = re.compile(r"[0-9]{1,9}")
_MOST_FACTS, _MOST_RANKS = 20, 4096


@dataclass(frozen=True)
class Piece:
    """What one file has of a tensor; `dtype` as torch spells it."""

    shape: tuple[int, ...]
    dtype: str


Pieces = Mapping[str, Piece]


def join_shards(folder: Path, names: Sequence[str], read: Callable[[str], Pieces]) -> DistributedFolder | None:
    """The whole tensors of a folder of shards; None where its files are none, or nothing says how to join them.

    Parameters
    ----------
    folder : Path
        The folder.
    names : sequence of str
        Its files.
    read : callable
        What a file holds, by key; may raise `FormatError`.

    Raises
    ------
    FormatError
        The plan beside the files cannot be read, does not speak of a key, or does not fit the pieces.
    """
    ranked = _by_rank(names) if len(names) <= _MOST_RANKS else []
    if not ranked:
        return None
    stated = _stated(folder / PLAN)
    if stated is None and not any(fnmatchcase(name, known["files"]) for known in _known() for name in ranked):
        return None
    held = {name: read(name) for name in ranked}
    first = held[ranked[0]]
    if any(pieces.keys() != first.keys() for pieces in held.values()):
        return None
    dims = _dims_stated(stated, first, folder / PLAN) if stated is not None else _dims_known(ranked, first)
    if dims is None:
        return None
    faults = [fault for key, dim in dims.items() for fault in _faults(key, dim, [held[name][key] for name in ranked])]
    if faults:
        raise FormatError("these pieces cannot be joined", where=str(folder), facts=faults[:_MOST_FACTS])
    tensors = {key: _joined(key, dims[key], folder, {name: held[name][key] for name in ranked}) for key in first}
    return DistributedFolder(str(folder), "", tensors, (), PLAN if stated is not None else "")


def _by_rank(names: Sequence[str]) -> list[str]:
    """The files by the one number in which their names differ; none where that is no series from 0 or 1."""
    for at in range(max((len(_NUMBER.findall(name)) for name in names), default=0)):
        ranks = {int(numbers[at]): name for name in names if len(numbers := _NUMBER.findall(name)) > at}
        alike = {_without(name, at) for name in names}
        if len(alike) == 1 and sorted(ranks) in (list(range(len(names))), list(range(1, len(names) + 1))):
            return [ranks[rank] for rank in sorted(ranks)] if len(names) > 1 else []
    return []


def _without(name: str, at: int) -> str:
    """A name without one of its numbers."""
    found = list(_NUMBER.finditer(name))
    return f"{name[: found[at].start()]}#{name[found[at].end() :]}" if at < len(found) else name


def _stated(path: Path) -> dict[str, int | None] | None:
    try:
        plan = json.loads(read_bounded(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(plan, dict) or not all(dim is None or type(dim) is int for dim in plan.values()):
        raise _unreadable(path, "it is to map keys to the dimension along which they were cut, null for copies")
    return plan


def _unreadable(path: Path, reason: str) -> FormatError:
    return FormatError("the plan of tensor-parallel shards cannot be read", where=str(path), facts=[reason])


def _dims_stated(plan: Mapping[str, int | None], pieces: Pieces, path: Path) -> dict[str, int | None]:
    found = {key: [dim for pattern, dim in plan.items() if _matches(pattern, key)] for key in pieces}
    unsaid = [legible(key) for key, dims in found.items() if len(set(dims)) != 1]
    if unsaid:
        what = "the plan does not say of these, or says in two ways, along which dimension they were cut"
        raise FormatError(what, where=str(path), facts=unsaid[:_MOST_FACTS], hint=f"add {unsaid[0]!r} to {path.name}")
    return {key: dims[0] for key, dims in found.items()}


def _dims_known(names: Sequence[str], pieces: Pieces) -> dict[str, int | None] | None:
    """By the code of a library: the keys are all its own, and what is joined has the model's width where it should."""
    for known in _known():
        width = pieces[known["width"]].shape if known["width"] in pieces else ()
        dims = {key: _dim(known["plan"], key, piece, (len(names), *width)) for key, piece in pieces.items()}
        if all(fnmatchcase(name, known["files"]) for name in names) and all(len(one) == 1 for one in dims.values()):
            return {key: one[0] for key, one in dims.items()}
    return None


def _dim(plan: Mapping[str, Any], key: str, piece: Piece, count_and_width: tuple[int, ...]) -> list[int | None]:
    rule: Any = next((dims for pattern, dims in plan.items() if _matches(pattern, key)), {"cut": []})
    if rule is None:
        return [None]
    if len(piece.shape) != 2 or len(count_and_width) != 2:
        return []
    count, width = count_and_width
    return [dim for dim in rule["cut"] if piece.shape[rule["width"]] * (count if dim == rule["width"] else 1) == width]


def _matches(pattern: str, key: str) -> bool:
    left, right = pattern.split("."), key.split(".")
    return len(left) == len(right) and all(one in ("*", other) for one, other in zip(left, right, strict=True))


def _faults(key: str, dim: int | None, pieces: Sequence[Piece]) -> list[str]:
    first = pieces[0]
    rest = [(*piece.shape[:dim], *piece.shape[dim + 1 :]) if dim is not None else piece.shape for piece in pieces]
    if dim is not None and not 0 <= dim < len(first.shape):
        return [f"{legible(key)}: {list(first.shape)} has no dimension {dim}"]
    if len({(len(piece.shape), piece.dtype) for piece in pieces}) > 1 or len(set(rest)) > 1:
        return [f"{legible(key)}: {', '.join(f'{piece.dtype} {list(piece.shape)}' for piece in pieces)}"]
    return []


def _joined(key: str, dim: int | None, folder: Path, pieces: Pieces) -> DistributedTensor:
    first = next(iter(pieces.values()))
    chunks, at, zeros = [], 0, (0,) * len(first.shape)
    for name, piece in pieces.items():
        offsets = zeros if dim is None else (*zeros[:dim], at, *zeros[dim + 1 :])
        chunks.append(Chunk(offsets, piece.shape, str(folder / name), 0, 0, key))
        at += 0 if dim is None else piece.shape[dim]
    if dim is None:
        return DistributedTensor(key, first.shape, first.dtype, (chunks[0],), tuple(chunks[1:]))
    return DistributedTensor(key, (*first.shape[:dim], at, *first.shape[dim + 1 :]), first.dtype, tuple(chunks))


@cache
def _known() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(resources.files(__package__).joinpath("parallel.json").read_text("utf-8"))
    return found
