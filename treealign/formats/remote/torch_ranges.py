"""Torch files on another machine: the pickle is fetched, the data is not.

A torch file is a zip archive: a pickle with names, shapes and dtypes, and one member of data for each storage. The
pickle is put into an archive of its own, with data members of no length, and torch reads that as it reads any file.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from typing import Any

from treealign.errors import FormatError
from treealign.formats.archives import opened_archive
from treealign.formats.remote.ranged import RangedFile
from treealign.formats.torch_files import TorchFile, loaded_safely, torch_file

_DAMAGED = "the file is damaged or incomplete: fetch or write it again"
# beside the pickle, what torch looks at before it reads it
_SMALL = ("data.pkl", "byteorder", "version", ".format_version", ".storage_alignment")


def read_torch_ranges(file: RangedFile) -> TorchFile:
    """The state dict of a torch file, its tensors without data.

    Raises
    ------
    FormatError
        As `read_torch_file`; or if a tensor is longer than the data that the file has for it.
    """
    try:
        with opened_archive(file, file.url) as archive:  # type: ignore[arg-type]  # a RawIOBase reads as a BinaryIO does
            hollow, sizes = _without_data(archive)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, KeyError, EOFError) as error:
        raise FormatError("torch cannot load the file", where=file.url, facts=[str(error)], hint=_DAMAGED) from error
    loaded = loaded_safely(file.url, lambda: _load(hollow))
    found = torch_file(file.url, loaded)
    _refuse_short(found, sizes)
    return found


def _without_data(archive: zipfile.ZipFile) -> tuple[io.BytesIO, list[int]]:
    """The archive without the contents of its data members, and their sizes."""
    hollow, sizes = io.BytesIO(), []
    with zipfile.ZipFile(hollow, "w", zipfile.ZIP_STORED) as made:
        for member in archive.infolist():
            folder, _, name = member.filename.rpartition("/")
            if name in _SMALL:
                made.writestr(member.filename, archive.read(member))
            elif folder.endswith("/data"):
                made.writestr(member.filename, b"")
                sizes.append(member.file_size)
    return hollow, sizes


def _load(hollow: io.BytesIO) -> Any:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    hollow.seek(0)
    # the mode in which torch makes storages of the right size and reads nothing into them
    with FakeTensorMode():
        return torch.load(hollow, map_location="cpu", weights_only=True)


def _refuse_short(found: TorchFile, sizes: list[int]) -> None:
    """Refuse storages for which the file has no data of their length."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in found.tensors.values()}
    missing = (Counter(storages.values()) - Counter(sizes)).total()
    if missing:
        facts = [f"{missing} of {len(storages)} tensors have no data of their length"]
        raise FormatError("torch cannot load the file", where=found.path, facts=facts, hint=_DAMAGED)
