"""Torch files (``.pt``, ``.bin``, ``.pth``, ``.ckpt``): pickles, of which only tensors are loaded; no code is run."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treealign.errors import FormatError
from treealign.formats.archives import opened_archive
from treealign.formats.bounds import MAX_INFLATED
from treealign.formats.detect import HINTS, Kind, detect
from treealign.formats.state_dicts import is_tensor, single_state_dict

_GLOBAL = re.compile(r"GLOBAL (\S+)")
# torch calls it with whatever number the file says, and fills as many bytes
_ROOM = re.compile(rb"c(?:builtins|__builtin__)\nbytearray\n")
_PICKLED = 1 << 26  # bytes at the start of a file of before torch 1.6 in which its pickles are


@dataclass(frozen=True)
class TorchFile:
    """The state dict of a torch file.

    Attributes
    ----------
    path : str
        The file.
    taken : str
        Where in the file the state dict was: ``['state_dict']``, or nothing where it is the whole file.
    tensors : dict of str to torch.Tensor
        In the order of the file; mapped into memory where the format allows it.
    ordered : bool
        Whether that order is one of definition: it is where torch marked the dict as a module's, and where the keys
        do not merely stand in alphabetical order.
    ignored : tuple of str
        Entries beside the tensors that are none.
    """

    path: str
    taken: str
    tensors: Mapping[str, Any]
    ordered: bool
    ignored: tuple[str, ...]


def read_torch_file(path: str | os.PathLike[str], part: str = "") -> TorchFile:
    """Load the tensors of a torch file, on the CPU; of several state dicts, those of the one that `part` names.

    Raises
    ------
    FormatError
        If it is no torch file, holds objects other than tensors and plain containers, or has no state dict or more
        than one.
    """
    name = os.fspath(path)
    kind = detect(name)
    if kind not in (Kind.TORCH_ZIP, Kind.TORCH_LEGACY):
        raise FormatError(f"not a torch file but {kind.value}", where=name, hint=HINTS.get(kind, ""))
    if kind is Kind.TORCH_ZIP and not zipfile.is_zipfile(name):
        facts = ["cut short: the list of what is in the archive, which stands at its end, is not there"]
        raise FormatError("torch cannot load the file", where=name, facts=facts, hint="fetch or write it again")
    with suppress(OSError, ValueError, zipfile.BadZipFile):  # torch says what is wrong with it
        if kind is Kind.TORCH_ZIP:
            _refuse_inflated(name)
        _refuse_room(name, zipped=kind is Kind.TORCH_ZIP)
    return torch_file(name, loaded_safely(name, lambda: _load(name, mapped=kind is Kind.TORCH_ZIP)), part)


def _refuse_inflated(name: str) -> None:
    """Refuse an archive of too many entries, or one that unpacks to much more than it is: torch never compresses.

    Raises
    ------
    FormatError
        With both sizes, or with both counts.
    """
    size = Path(name).stat().st_size
    with Path(name).open("rb") as file, opened_archive(file, name) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > size + MAX_INFLATED:
        facts = [f"{size:,} bytes unpack to {unpacked:,}; torch does not compress what it saves"]
        raise FormatError("a torch file that was compressed", where=name, facts=facts, hint="save it again by torch")


def _refuse_room(name: str, *, zipped: bool) -> None:
    """Refuse pickles that have torch make room for as many bytes as they like.

    Raises
    ------
    FormatError
        A pickle names `bytearray`.
    """
    if zipped:
        with zipfile.ZipFile(name) as archive:
            pickles = [archive.read(one) for one in archive.namelist() if one.rpartition("/")[2] == "data.pkl"]
    else:
        with Path(name).open("rb") as file:
            pickles = [file.read(_PICKLED)]
    if any(map(_ROOM.search, pickles)):
        raise _refusal(name, "GLOBAL bytearray")


def torch_file(name: str, loaded: Any, part: str = "") -> TorchFile:
    """The one state dict in what a file held; `name` stands for the file in errors."""
    taken, state = single_state_dict(name, loaded, part)
    tensors = {key: value for key, value in state.items() if is_tensor(value)}
    ordered = hasattr(state, "_metadata") or list(tensors) != sorted(tensors)
    ignored = tuple(key for key in state if key not in tensors)
    return TorchFile(name, taken, tensors, ordered, ignored)


def loaded_safely(name: str, load: Callable[[], Any]) -> Any:
    """What `load` gives, which has torch load tensors and nothing else; a refusal where torch refuses."""
    try:
        return load()
    except Exception as error:
        raise _refusal(name, str(error)) from error


def _load(name: str, mapped: bool) -> Any:
    import torch

    return torch.load(name, map_location="cpu", weights_only=True, mmap=mapped)


def _refusal(name: str, reason: str) -> FormatError:
    forbidden = sorted(set(_GLOBAL.findall(reason)))
    if forbidden:
        return FormatError(
            "the file pickles objects that are no tensors",
            where=name,
            facts=[found.rstrip(".") for found in forbidden],
            hint="loading them would run code from the file; load it yourself if you trust it and pass its state dict",
        )
    if "TorchScript" in reason or "torch.jit" in reason:
        hint = "load it with torch.jit.load and pass the state_dict() of what that returns"
        return FormatError("a TorchScript archive, not a state dict", where=name, hint=hint)
    first = reason.strip().splitlines()[0] if reason.strip() else "no reason given"
    return FormatError("torch cannot load the file", where=name, facts=[first], hint="fetch or write it again")
