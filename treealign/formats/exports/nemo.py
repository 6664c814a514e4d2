"""NeMo's ``.nemo``: an archive of tar with a config and the weights, a torch file or a folder of a distributed one."""

from __future__ import annotations

import os
import tarfile
from typing import BinaryIO

from treealign.errors import FormatError
from treealign.formats.exports.listed import ListedFile, ListedTensor, listed
from treealign.formats.remote.ranged import RangedFile
from treealign.formats.remote.torch_ranges import read_torch_ranges

_WEIGHTS = "model_weights.ckpt"
_MOST = 10_000  # entries to look through
_LARGEST = 1 << 20  # bytes of a header


def nemo_of(file: BinaryIO, name: str, size: int) -> ListedFile:
    """The weights in an open file of `size` bytes; `name` stands for it in errors.

    Raises
    ------
    FormatError
        It has no weights that a header tells of, or they cannot be read.
    """
    hint = f"unpack it (tar -xf) and pass {_WEIGHTS}, or the folder with the weights"
    names: list[str] = []
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]  # it only reads
            for _, entry in zip(range(_MOST), archive, strict=False):
                names.append(entry.name)
                if os.path.basename(entry.name) == _WEIGHTS and entry.isfile():  # noqa: PTH119  a name in an archive
                    start, length = entry.offset_data, entry.size
                    return _torch(file, f"{name}/{_WEIGHTS}", start, length, name, size, hint)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise FormatError("tar cannot read the archive", where=name, facts=[str(error)], hint=hint) from error
    shown = ", ".join(names[:10])
    raise FormatError(f"no {_WEIGHTS} in the archive", where=name, facts=[f"it holds {shown}"], hint=hint)


class _Headers:
    """A file of which tar reads headers, none of them larger than any real one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        """The next bytes.

        Raises
        ------
        tarfile.ReadError
            They are too many.
        """
        if not 0 <= count <= _LARGEST:
            raise tarfile.ReadError(f"a header of {count:,} bytes")
        return self._file.read(count)


def _torch(file: BinaryIO, inner: str, start: int, length: int, name: str, size: int, hint: str) -> ListedFile:
    def fetch(begin: int, end: int) -> bytes:
        file.seek(start + begin)
        return file.read(end - begin)

    found = read_torch_ranges(RangedFile(inner, length, fetch))
    kinds = {key: (tuple(one.shape), str(one.dtype).removeprefix("torch.")) for key, one in found.tensors.items()}
    tensors = [(key, ListedTensor(*kind)) for key, kind in kinds.items()]
    return listed(name, tensors, size, hint=hint)
