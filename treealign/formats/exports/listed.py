"""A file of another program's: each tensor by name, shape and dtype, and where its numbers lie, if they lie plainly."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

from treealign.errors import FormatError
from treealign.formats.bounds import MAX_HEADER, MAX_KEYS, refuse_more
from treealign.formats.dtypes import bits_of, safetensors_dtype
from treealign.formats.legible import brief

_CHUNK = 1 << 17
_MOST_DIMENSIONS = 64
_LONG = struct.Struct("<Q")
_STEP = 128  # bytes of a header that one number or text takes as long as


@dataclass(frozen=True)
class ListedTensor:
    """One tensor.

    Attributes
    ----------
    shape : tuple of int, or None
        In torch's order; None where no header tells.
    dtype : str
        As torch spells it; of quantised blocks, as their format does.
    begin : int or None
        The byte of the file at which its numbers begin, little endian and in torch's order; None where they do not lie
        so.
    length : int or None
        The bytes that the file announces for them; None where it announces none, or packs them.
    """

    shape: tuple[int, ...] | None
    dtype: str
    begin: int | None = None
    length: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers; 0 where torch does not know the dtype."""
        return prod(self.shape or ()) * bits_of(self.dtype) // 8 if safetensors_dtype(self.dtype) else 0


@dataclass(frozen=True)
class ListedFile:
    """What a file holds.

    Attributes
    ----------
    path : str
        The file.
    tensors : mapping of str to ListedTensor
        By key, in the order of the file.
    architecture : str
        What the file says it is a model of; empty where it does not.
    hint : str
        How to get at numbers that do not lie plainly.
    taken, ordered : str, bool
        As of a torch file: it is all there is, and its order is none of definition.
    """

    path: str
    tensors: Mapping[str, ListedTensor]
    architecture: str = ""
    hint: str = ""
    taken: str = ""
    ordered: bool = False

    def plain(self, key: str) -> int:
        """Where a tensor's numbers begin.

        Raises
        ------
        FormatError
            They do not lie as they are.
        """
        found = self.tensors[key]
        if found.begin is None or safetensors_dtype(found.dtype) is None:
            what = "of this file only names, shapes and dtypes are read: its numbers do not lie in it as they are"
            raise FormatError(what, where=self.path, facts=[f"{key}: {found.dtype}"], hint=self.hint)
        return found.begin


def listed(
    path: str, found: list[tuple[str, ListedTensor]], size: int, architecture: str = "", hint: str = ""
) -> ListedFile:
    """The file, its tensors checked: no name twice, nothing beyond its end, as many bytes as the shape takes.

    Raises
    ------
    FormatError
        With everything that is wrong.
    """
    refuse_more(len(found), MAX_KEYS, "tensors", path)
    odd = [f"{key}: {brief(one.shape)}" for key, one in found if one.shape is not None and not _is_shape(one.shape)]
    if odd:
        raise FormatError("shapes that no tensor has", where=path, facts=odd[:20], hint="fetch or write it again")
    tensors = dict(found)
    facts = [f"{key} stands in it twice" for key in {key for key, _ in found if len(tensors) < len(found)}]
    facts = facts[:20] if len(tensors) < len(found) else []
    facts += [
        f"{key} ends behind the end of the file"
        for key, one in tensors.items()
        if one.begin is not None and one.begin + one.nbytes > size
    ][:20]
    facts += [
        f"{key} takes {one.nbytes:,} bytes by its shape {list(one.shape or ())}, the file announces {one.length:,}"
        for key, one in tensors.items()
        if one.length is not None and safetensors_dtype(one.dtype) and one.length != one.nbytes
    ][:20]
    if facts:
        raise FormatError("the file is damaged or incomplete", where=path, facts=facts, hint="fetch or write it again")
    return ListedFile(path, tensors, architecture, hint)


def announced(value: Any) -> tuple[Any, ...]:
    """A shape as a file announces it, whatever that is: `listed` refuses what is none."""
    return tuple(value) if isinstance(value, list | tuple) else (None,)


def _is_shape(shape: tuple[Any, ...]) -> bool:
    return len(shape) <= _MOST_DIMENSIONS and all(type(size) is int and 0 <= size < 1 << 63 for size in shape)


class Cursor:
    """Reads numbers and texts one after the other from an open file, in large pieces.

    Raises `FormatError` where the file ends before what it announces, or announces more than any header holds.
    """

    def __init__(self, file: BinaryIO, name: str, size: int, at: int = 0) -> None:
        self._file, self._name, self._size = file, name, size
        self._held, self._begin, self._at = b"", at, at
        self._left_to_do = MAX_HEADER

    @property
    def position(self) -> int:
        """The byte at which it stands."""
        return self._at

    @property
    def left(self) -> int:
        """Bytes to the end of the file."""
        return self._size - self._at

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count < 0 or count > self.left:
            facts = [f"{count:,} bytes are announced at byte {self._at:,}, {max(0, self.left):,} are left"]
            hint = "fetch or write it again"
            raise FormatError("the file is damaged or incomplete", where=self._name, facts=facts, hint=hint)
        self._spend(count)
        start = self._at - self._begin
        if not 0 <= start <= start + count <= len(self._held):
            self._file.seek(self._at)
            self._held, self._begin, start = self._file.read(min(self.left, max(count, _CHUNK))), self._at, 0
            self._spend(len(self._held) >> 4)
        self._at += count
        return self._held[start : start + count]

    def skip(self, count: int) -> None:
        """Pass over bytes without reading them."""
        if count < 0 or count > self.left:
            self.take(count)
        self._spend(0)
        self._at += count

    def skip_text(self) -> None:
        """Pass over a text and the 8 bytes that say how long it is."""
        (count,) = _LONG.unpack(self.take(8))
        if count > self.left:
            self.take(count)
        self._at += count

    def _spend(self, count: int) -> None:
        self._left_to_do -= count + _STEP
        if self._left_to_do < 0:
            raise self.refusal(f"a header of more than {MAX_HEADER >> 20:,} MiB", "if this is a real file, split it")

    def number(self, kind: str) -> int:
        """A number, little endian, as `struct` spells its kind."""
        (value,) = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))
        return int(value)

    def refusal(self, what: str, hint: str = "") -> FormatError:
        """An error that says where in the file it stands."""
        return FormatError(what, where=self._name, facts=[f"at byte {self._at:,}"], hint=hint)
