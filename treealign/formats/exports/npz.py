"""NumPy's ``.npz``, in which MLX and JAX programs keep weights: an archive of arrays by name.

Format: numpy `lib/format.py`; an entry that is stored, not deflated, lies in the archive as it is.
"""

from __future__ import annotations

import tokenize
import zipfile
from typing import BinaryIO

from treealign.errors import FormatError
from treealign.formats.archives import opened_archive
from treealign.formats.bounds import refuse_more
from treealign.formats.exports.listed import ListedFile, ListedTensor, listed

_HINT = "dict(numpy.load(path)) reads them: pass that"
# numpy parses headers as Python
_DAMAGED = (
    *(zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError),
    *(SyntaxError, TypeError, tokenize.TokenError, RecursionError, MemoryError),
)
_MOST = 20_000  # arrays: numpy reads the header of no more of them in seconds
_LOCAL = 30  # bytes of an entry's own header before its name


def npz_of(file: BinaryIO, name: str, size: int) -> ListedFile:
    """The arrays of an open file of `size` bytes; `name` stands for it in errors.

    Raises
    ------
    FormatError
        It is damaged, or holds objects that are no numbers.
    """
    try:
        with opened_archive(file, name) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            refuse_more(len(entries), _MOST, "arrays of an archive", name)
            found = [_array(archive, entry, file) for entry in entries]
    except _DAMAGED as error:
        raise FormatError("numpy's arrays cannot be read", where=name, facts=[str(error)]) from error
    return listed(name, found, size, hint=_HINT)


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, file: BinaryIO) -> tuple[str, ListedTensor]:
    import numpy as np

    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, turned, dtype = read(member)
        header = member.tell()
    key = entry.filename.removesuffix(".npy")
    if dtype.hasobject or dtype.kind not in "fiubcV":
        raise ValueError(f"{key} holds {dtype}")
    file.seek(entry.header_offset + 26)
    lengths = file.read(4)
    start = entry.header_offset + _LOCAL + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    plain = entry.compress_type == zipfile.ZIP_STORED and dtype.isnative and not (turned and len(shape) > 1)
    # bfloat16 is no dtype of numpy: it is written as two bytes of anything
    spelled = "bfloat16" if dtype.kind == "V" and dtype.itemsize == 2 else dtype.name
    return key, ListedTensor(tuple(shape), spelled, start + header if plain else None, entry.file_size - header)
