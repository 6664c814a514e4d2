"""HDF5: Keras' ``.weights.h5`` and older ``.h5``; the datasets by their paths, numbers where they lie in one piece.

h5py reads it (``pip install h5py``); a path's slashes are written as dots.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, BinaryIO

from treealign.errors import FormatError
from treealign.formats.bounds import refuse_more
from treealign.formats.exports.listed import ListedFile, ListedTensor, listed

_MOST = 10_000  # datasets: h5py visits no more of them in seconds
_DEEPEST = 200
_HINT = "h5py.File(path) reads it: pass {name: dataset[()]}"


def hdf5_of(file: BinaryIO, name: str, size: int) -> ListedFile:
    """The datasets of an open file of `size` bytes; `name` stands for it in errors.

    Raises
    ------
    FormatError
        h5py is not installed, or it cannot read the file.
    """
    try:
        h5py: Any = import_module("h5py")
    except ImportError:
        raise FormatError("HDF5 is read by h5py, which is not installed", where=name, hint="pip install h5py") from None
    found: list[tuple[str, ListedTensor]] = []

    def visit(path: Any, item: Any) -> None:
        refuse_more(len(found), _MOST, "tensors", name)
        refuse_more(_text(path).count("/"), _DEEPEST, "levels of groups", name)
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub":
            plain = item.dtype.newbyteorder("=") == item.dtype and sys.byteorder == "little"
            begin = item.id.get_offset() if plain and item.chunks is None else None
            length = item.id.get_storage_size() if begin is not None else None
            found.append(
                (_text(path).replace("/", "."), ListedTensor(tuple(item.shape), item.dtype.name, begin, length))
            )

    try:
        with h5py.File(file, "r") as opened:
            opened.visititems(visit)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise FormatError("h5py cannot read the file", where=name, facts=[str(error)]) from error
    return listed(name, found, size, hint=_HINT)


def _text(path: Any) -> str:
    """A name: h5py gives one that is no UTF-8 as bytes."""
    return path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)
