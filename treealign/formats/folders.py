"""Folders of weights: which of the files in one is the checkpoint."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

from treealign.errors import FormatError
from treealign.formats.distributed_metadata import METADATA
from treealign.formats.indexes import Index, is_plain_name, read_index

_SUFFIXES = (
    *((".safetensors",), (".bin", ".pt", ".pth", ".ckpt"), (".gguf",)),
    *((".npz",), (".msgpack",), (".h5",), (".onnx",), (".nemo",)),
)
# what the libraries call the weights of a whole model; these go before any other name
_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model", "flax_model", "tf_model", "model_weights")
# what trainers write beside the weights, in the same formats
NOT_WEIGHTS = (
    *("training_args", "optim", "scheduler", "rng_state", "scaler", "random_states", "sampler", "dl_state_dict"),
    "custom_checkpoint",
)
_SECOND = re.compile(rf"(?:{'|'.join(_STEMS)})_[0-9]+")
_NUMBERED = re.compile(r"(.*?)-?([0-9]{1,9})-of-([0-9]{1,9})(\.[a-z]+)", re.DOTALL)


class SeveralError(FormatError):
    """A folder with more than one checkpoint; `facts` are the names of what it could be."""


@dataclass(frozen=True)
class Choice:
    """What a folder's checkpoint is: an index, or files that make it up without one."""

    index: str | None
    files: tuple[str, ...]


def choose_weights(folder: str | os.PathLike[str]) -> Choice:
    """The checkpoint in a folder.

    Safetensors go before torch files of the same folder, and the names that libraries give to a whole model before
    others. A complete set of numbered shards needs no index. Where there is none of these, the metadata of a
    distributed checkpoint stands for it.

    Raises
    ------
    FormatError
        If there is no checkpoint, or more than one that it could be.
    """
    base = Path(folder)
    try:
        names = sorted(path.name for path in base.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise FormatError(f"cannot read the folder: {error.strerror}", where=str(base)) from error
    choice = choose_among(names, str(base), lambda name: read_index(base / name))
    distributed = _distributed(base) if choice is None else []
    if len(distributed) == 1:
        return Choice(None, (str(distributed[0]),))
    if distributed:
        hint = "pass the folder that is meant"
        names = [path.parent.name for path in distributed]
        raise FormatError("several distributed checkpoints in this folder", where=str(base), facts=names, hint=hint)
    if choice is None:
        raise FormatError("no weights in this folder", where=str(base), facts=_contents(base), hint=_absence_hint(base))
    index = None if choice.index is None else str(base / choice.index)
    return Choice(index, tuple(str(base / name) for name in choice.files))


def named_in(folder: str | os.PathLike[str], name: str) -> str | None:
    """The file or index of a folder that is called so, with its ending or without; safetensors before torch files."""
    endings = [end for suffixes in _SUFFIXES for suffix in suffixes for end in (f"{suffix}.index.json", suffix)]
    names = [f"{name}{end}" for end in ("", *endings)] if is_plain_name(name) else []
    there = (str(Path(folder) / one) for one in names if one.endswith(tuple(endings)))
    return next((one for one in there if Path(one).is_file()), None)


def _distributed(base: Path) -> list[Path]:
    """The metadata of a distributed checkpoint: the folder's own, or else of those in it, as accelerate leaves them."""
    if (base / METADATA).is_file():
        return [base / METADATA]
    return sorted(path for path in base.glob(f"*/{METADATA}") if not path.parent.name.startswith((*NOT_WEIGHTS, ".")))


def choose_among(names: Sequence[str], base: str, read: Callable[[str], Index]) -> Choice | None:
    """As `choose_weights`, for a folder that is wherever `base` says, with files of these names.

    `read` gives the index of a name. The names in the choice are plain; None where the folder has no weights.
    """
    for suffixes in _SUFFIXES:
        weights = [name for name in names if name.endswith(suffixes) and not name.startswith(NOT_WEIGHTS)]
        indexes = [name for name in names if name.endswith(tuple(f"{suffix}.index.json" for suffix in suffixes))]
        if weights or indexes:
            return _choose(base, weights, indexes, suffixes, read)
    return None


def _choose(
    base: str, weights: Sequence[str], indexes: Sequence[str], suffixes: Sequence[str], read: Callable[[str], Index]
) -> Choice:
    usual = {f"{stem}{suffix}{end}" for stem in _STEMS for suffix in suffixes for end in ("", ".index.json")}
    preferred = [name for name in (*indexes, *weights) if name in usual]
    # accelerate numbers the models of one run: the first has no number
    preferred += [name for name in weights if preferred and _SECOND.fullmatch(Path(name).stem)]
    candidates: Sequence[str] = preferred or [*indexes, *_outside(weights, map(read, indexes))]
    sets = _numbered_sets(candidates)
    if len(sets) == 1 and len(candidates) == sum(map(len, sets.values())):
        if not all(starmap(_is_complete, sets.items())):
            hint = "fetch the other shards, or pass the files one by one"
            raise FormatError("no whole checkpoint in this folder", where=base, facts=candidates, hint=hint)
        return Choice(None, tuple(candidates))
    if len(candidates) != 1:
        hint = "pass the file or index that is meant"
        raise SeveralError("more than one checkpoint in this folder", where=base, facts=candidates, hint=hint)
    only = candidates[0]
    return Choice(only, ()) if only in indexes else Choice(None, (only,))


def _outside(weights: Sequence[str], indexes: Iterable[Index]) -> list[str]:
    """The files that no index claims."""
    claimed = {shard for index in indexes for shard in index.shards}
    return [name for name in weights if name not in claimed]


def _numbered_sets(names: Sequence[str]) -> dict[tuple[str, int, str], set[int]]:
    """The numbers that are there of each set ``x-00001-of-0000N``, by what the names of a set share."""
    sets: dict[tuple[str, int, str], set[int]] = {}
    for name in names:
        found = _NUMBERED.fullmatch(name)
        if found:
            stem, number, total, suffix = found.groups()
            sets.setdefault((stem, int(total), suffix), set()).add(int(number))
    return sets


def _is_complete(shared: tuple[str, int, str], numbers: set[int]) -> bool:
    total = shared[1]
    # counted, not enumerated: the total is whatever a file name says
    return len(numbers) == total and max(numbers) - min(numbers) == total - 1 and min(numbers) in (0, 1)


def _contents(base: Path) -> list[str]:
    names = sorted(path.name + "/" * path.is_dir() for path in base.iterdir())
    return [f"it holds {', '.join(names[:10])}{', …' if len(names) > 10 else ''}" if names else "it is empty"]


def _absence_hint(base: Path) -> str:
    if any(base.glob("*.distcp")):
        return (
            "its metadata is absent: were all processes done when it was written? Those that saved alone cannot be read"
        )
    return f"pass the folder or file that holds the weights ({', '.join(end for ends in _SUFFIXES for end in ends)})"
