"""One table of the formats of which headers are read: what reads each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, TypeAlias

from treealign.errors import FormatError
from treealign.formats.detect import Kind
from treealign.formats.exports.flax import flax_of
from treealign.formats.exports.gguf import gguf_of
from treealign.formats.exports.hdf5 import hdf5_of
from treealign.formats.exports.listed import ListedFile
from treealign.formats.exports.nemo import nemo_of
from treealign.formats.exports.npz import npz_of
from treealign.formats.exports.onnx import onnx_of

Lister: TypeAlias = Callable[[BinaryIO, str, int], ListedFile]

# a new format is one module and one line, and what it is known by in `detect`
LISTERS: Mapping[Kind, Lister] = {
    Kind.GGUF: gguf_of,
    Kind.ONNX: onnx_of,
    Kind.MSGPACK: flax_of,
    Kind.HDF5: hdf5_of,
    Kind.NPZ: npz_of,
    Kind.NEMO: nemo_of,
}


def read_listed(path: str | os.PathLike[str], kind: Kind) -> ListedFile:
    """What a file of one of these kinds holds.

    Raises
    ------
    FormatError
        It cannot be read, or is damaged.
    """
    name = os.fspath(path)
    try:
        with Path(name).open("rb") as file:
            return LISTERS[kind](file, name, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise FormatError(f"cannot read the file: {error.strerror or error}", where=name) from error
