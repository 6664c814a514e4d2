"""Flax: the msgpack that `flax.serialization.to_bytes` writes, a tree of dicts whose leaves are arrays.

Format: msgpack's specification; flax `serialization.py` (`_ndarray_to_bytes`: extension 1 holds shape, dtype's name and
bytes; arrays of more than 2**30 bytes come in chunks, `_chunk`).
"""

from __future__ import annotations

from typing import Any, BinaryIO

from treealign.formats.bounds import MAX_KEYS, refuse_more
from treealign.formats.exports.listed import Cursor, ListedFile, ListedTensor, announced, listed

_DEEPEST = 100
_ARRAY = 1
_CHUNKED, _SHAPE, _CHUNKS = "__msgpack_chunked_array__", "shape", "chunks"
_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_BYTES, _TEXTS, _EXTENSIONS = ({base: 1, base + 1: 2, base + 2: 4} for base in (0xC4, 0xD9, 0xC7))
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_HINT = "flax.serialization.msgpack_restore reads it: pass its tree flattened, {'/'.join(path): array}"


def flax_of(file: BinaryIO, name: str, size: int) -> ListedFile:
    """The arrays of an open file of `size` bytes, their paths joined by dots; `name` stands for it in errors.

    Raises
    ------
    FormatError
        It is no msgpack, or ends early.
    """
    found: list[tuple[str, ListedTensor]] = []
    cursor = Cursor(file, name, size)
    _walk(cursor, (), found)
    if cursor.left:
        raise cursor.refusal("not msgpack, or two trees one behind the other")
    return listed(name, found, size, hint=_HINT)


def _walk(cursor: Cursor, path: tuple[str, ...], found: list[tuple[str, ListedTensor]]) -> Any:
    """Pass over one value; what is an array is added, what is small is given back."""
    if len(path) > _DEEPEST:
        raise cursor.refusal("msgpack deeper than any tree of parameters")
    code = cursor.take(1)[0]
    if 0x80 <= code < 0x90 or code in (0xDE, 0xDF):
        return _map(cursor, code & 0xF if code < 0x90 else _length(cursor, 2 << (code - 0xDE)), path, found)
    if 0x90 <= code < 0xA0 or code in (0xDC, 0xDD):
        count = code & 0xF if code < 0xA0 else _length(cursor, 2 << (code - 0xDC))
        refuse_more(count, MAX_KEYS, "items of a list", "a msgpack file")
        return [_walk(cursor, (*path, str(at)), found) for at in range(count)]
    if code in _EXTENSIONS or code in _FIXED_EXTENSIONS:
        return _extension(cursor, code, path, found)
    return _scalar(cursor, code)


def _scalar(cursor: Cursor, code: int) -> Any:
    """A number or a text; bytes are passed over."""
    if code in _FIXED:
        return int.from_bytes(cursor.take(_FIXED[code]), "big", signed=code >= 0xD0)
    if 0xA0 <= code < 0xC0 or code in _TEXTS:
        length = code & 0x1F if code < 0xC0 else _length(cursor, _TEXTS[code])
        return cursor.take(length).decode("utf-8", "replace")
    if code in _BYTES:
        cursor.skip(_length(cursor, _BYTES[code]))
    if code == 0xC1:
        raise cursor.refusal("not msgpack")
    # small numbers stand for themselves, and negative ones; what is left is nothing, false or true
    return code if code < 0x80 else code - 256 if code >= 0xE0 else None


def _length(cursor: Cursor, width: int) -> int:
    return int.from_bytes(cursor.take(width), "big")


def _map(cursor: Cursor, count: int, path: tuple[str, ...], found: list[tuple[str, ListedTensor]]) -> Any:
    refuse_more(count, MAX_KEYS, "entries of a dict", "a msgpack file")
    before, small = len(found), {}
    for _ in range(count):
        key = str(_walk(cursor, (*path, ""), found))
        small[key] = _walk(cursor, (*path, key), found)
    if _CHUNKED in small and len(found) > before:
        # one array in pieces, one behind the other but not side by side in the file
        dtype = found[before][1].dtype
        shape = small[_SHAPE]
        values = [shape.get(str(at)) for at in range(len(shape))] if isinstance(shape, dict) else shape
        found[before:] = [(".".join(path), ListedTensor(announced(values), dtype))]
    return small


def _extension(cursor: Cursor, code: int, path: tuple[str, ...], found: list[tuple[str, ListedTensor]]) -> None:
    length = _length(cursor, _EXTENSIONS[code]) if code in _EXTENSIONS else _FIXED_EXTENSIONS[code]
    kind = cursor.take(1)[0]
    end = cursor.position + length
    if kind == _ARRAY:
        inner: list[tuple[str, ListedTensor]] = []
        if cursor.take(1)[0] != 0x93:
            raise cursor.refusal("an array as flax does not write it")
        shape, dtype = _walk(cursor, (), inner), _walk(cursor, (), inner)
        count = _length(cursor, _BYTES.get(cursor.take(1)[0], 0))
        if cursor.position + count != end:
            raise cursor.refusal("an array as flax does not write it")
        tensor = ListedTensor(announced(shape), str(dtype), cursor.position if count else None, count)
        found.append((".".join(path), tensor))
    cursor.skip(end - cursor.position)
