"""ONNX: the initialisers of a graph, read off protobuf's wire format; their numbers are passed over.

Format: onnx `onnx.proto3` (ModelProto.graph = 7, GraphProto.initializer = 5, TensorProto) and protobuf's encoding of
fields. What an exporter folds (a transposed weight under a number for a name) only its numbers tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from treealign.formats.exports.listed import Cursor, ListedFile, ListedTensor, listed

_GRAPH, _INITIALIZER, _NODES_GRAPH = 7, 5, 6
_DIMS, _TYPE, _FLOATS, _NAME, _RAW, _DOUBLES = 1, 2, 4, 8, 9, 10
_MOST_DIMENSIONS = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# TensorProto.DataType
_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
}
_HINT = "onnx.load(path) reads them all, those in files beside it too: pass {name: onnx.numpy_helper.to_array(tensor)}"


def onnx_of(file: BinaryIO, name: str, size: int) -> ListedFile:
    """The initialisers of an open file of `size` bytes; `name` stands for it in errors.

    Raises
    ------
    FormatError
        It is no protobuf message, or ends early.
    """
    cursor = Cursor(file, name, size)
    found: list[tuple[str, ListedTensor]] = []
    for field, kind, length in _fields(cursor, size):
        if (field, kind) == (_GRAPH, _BYTES):
            end = cursor.position + length
            for inner, form, count in _fields(cursor, end):
                if (inner, form) == (_INITIALIZER, _BYTES):
                    found.append(_tensor(cursor, cursor.position + count))
                elif form == _BYTES:
                    cursor.skip(count)
        elif kind == _BYTES:
            cursor.skip(length)
    return listed(name, found, size, hint=_HINT)


def _fields(cursor: Cursor, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message up to `end`: number, wire type, and length or value; bytes are left for the caller."""
    while cursor.position < end:
        tag = _varint(cursor)
        field, kind = tag >> 3, tag & 7
        if not field:
            raise cursor.refusal("not a message of protobuf")
        if kind in (_VARINT, _BYTES):
            value = _varint(cursor)
            if kind == _BYTES and cursor.position + value > end:
                raise cursor.refusal("the file is damaged or incomplete", "fetch or write it again")
            yield field, kind, value
        elif kind in (_FIXED64, _FIXED32):
            cursor.skip(8 if kind == _FIXED64 else 4)
            yield field, kind, 0
        else:
            raise cursor.refusal("not a message of protobuf")


def _varint(cursor: Cursor) -> int:
    value = shift = 0
    while True:
        byte = cursor.take(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7
        if shift > 63:
            raise cursor.refusal("not a message of protobuf")


def _tensor(cursor: Cursor, end: int) -> tuple[str, ListedTensor]:
    name, code = "", 0
    begin: int | None = None
    length: int | None = None
    shape: list[int] = []
    for field, kind, value in _fields(cursor, end):
        if field == _DIMS and kind == _BYTES:
            stop = cursor.position + value
            while cursor.position < stop and len(shape) < _MOST_DIMENSIONS:
                shape.append(_varint(cursor))
            if cursor.position != stop:
                raise cursor.refusal(f"a tensor of more than {_MOST_DIMENSIONS} dimensions")
        elif field == _DIMS:
            shape.append(value)
        elif field == _TYPE:
            code = value
        elif (field, kind) == (_NAME, _BYTES):
            name = cursor.take(value).decode("utf-8", "replace")
        elif kind == _BYTES:
            if field in (_RAW, _FLOATS, _DOUBLES) and value:
                begin, length = cursor.position, value
            cursor.skip(value)
    return name, ListedTensor(tuple(shape), _TYPES.get(code, f"type {code}"), begin, length)
