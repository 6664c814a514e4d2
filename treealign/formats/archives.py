"""Archives of zip, before `zipfile` reads all of their directory: whether they are of a size that anything real has."""

from __future__ import annotations

import os
import struct
import zipfile
from typing import BinaryIO

from treealign.errors import FormatError
from treealign.formats.bounds import MAX_ENTRIES, refuse_more

# APPNOTE 4.3.14 to 4.3.16: the end of the directory, with its size; its 64-bit form before it, and where that stands
_END, _LOCATOR, _END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_END_SIZE, _LOCATOR_SIZE, _COMMENT = 22, 20, 1 << 16
_ENTRY = 400  # bytes of a directory that an entry takes: 46, its name behind that of the file, sizes beyond 4 GiB


def opened_archive(file: BinaryIO, name: str) -> zipfile.ZipFile:
    """An archive whose directory is read.

    Raises
    ------
    FormatError
        It has more entries than anything real.
    zipfile.BadZipFile
        It is none.
    """
    length, entries = _directory(file, file.seek(0, os.SEEK_END))
    refuse_more(entries, MAX_ENTRIES, "entries of an archive", name)
    if length > MAX_ENTRIES * _ENTRY:
        hint = "if this is a real checkpoint, split it: no published one comes near this"
        raise FormatError(f"a directory of {length >> 20:,} MiB in an archive", where=name, hint=hint)
    archive = zipfile.ZipFile(file)
    refuse_more(len(archive.namelist()), MAX_ENTRIES, "entries of an archive", name)
    return archive


def _directory(file: BinaryIO, size: int) -> tuple[int, int]:
    """Bytes of the directory, and its entries, as the end of the file says; 0 where it says nothing."""
    begin = max(0, size - _END_SIZE - _COMMENT - _LOCATOR_SIZE)
    file.seek(begin)
    tail = file.read(size - begin)
    at = tail.rfind(_END)
    if at < 0 or at + _END_SIZE > len(tail):
        return 0, 0
    entries, length = struct.unpack_from("<HI", tail, at + 10)
    if at < _LOCATOR_SIZE or not tail.startswith(_LOCATOR, at - _LOCATOR_SIZE):
        return int(length), int(entries)
    (where,) = struct.unpack_from("<Q", tail, at - _LOCATOR_SIZE + 8)
    file.seek(min(where, size))
    record = file.read(56)
    many, long = struct.unpack_from("<QQ", record, 32) if record.startswith(_END64) and len(record) == 56 else (0, 0)
    lengths, counts = (length if length != 0xFFFFFFFF else 0, long), (entries if entries != 0xFFFF else 0, many)
    return max(map(int, lengths)), max(map(int, counts))
