"""GGUF: the header of llama.cpp's files, names, shapes and types of quantisation; no tensor is read.

Format: ggml `docs/gguf.md`, versions 2 and 3. The package `gguf` maps the whole file, so that a remote one would have
to be fetched; its tables of types and their sizes are held against this module's in a test.
"""

from __future__ import annotations

from typing import BinaryIO

from treealign.errors import FormatError
from treealign.formats.bounds import MAX_KEYS, MAX_METADATA, refuse_more
from treealign.formats.exports.listed import Cursor, ListedFile, ListedTensor, listed

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 7: "?", 10: "Q", 11: "q"}
_TEXT, _LIST = 8, 9
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_DEEPEST = 4
_ALIGNMENT, _ARCHITECTURE = _ASKED = ("general.alignment", "general.architecture")
_MOST_DIMENSIONS = 8
PLAIN = {0: "float32", 1: "float16", 24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "float64", 30: "bfloat16"}
# blocks of a type: how many numbers, in how many bytes (gguf 0.19 `constants.py`, GGML_QUANT_SIZES)
BLOCKS = {
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
_HINT = "transformers turns blocks into numbers: from_pretrained(folder, gguf_file=name); pass that model's state dict"


def gguf_of(file: BinaryIO, name: str, size: int) -> ListedFile:
    """The header of an open file of `size` bytes; `name` stands for it in errors.

    Raises
    ------
    FormatError
        It is no GGUF of version 2 or 3, is damaged, or ends before its tensors do.
    """
    cursor = Cursor(file, name, size)
    magic, version = cursor.take(4), cursor.number("I")
    if magic != b"GGUF" or version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3)
        why = "its numbers are big endian" if swapped else f"it says version {version}"
        raise FormatError(f"not a GGUF file that is read here: {why}", where=name, hint="versions 2 and 3 are read")
    count, pairs = cursor.number("Q"), cursor.number("Q")
    refuse_more(count, MAX_KEYS, "tensors", name)
    refuse_more(pairs, MAX_METADATA, "entries of metadata", name)
    said = dict(pair for pair in (_pair(cursor) for _ in range(pairs)) if pair[0] in _ASKED)
    found = [_tensor(cursor) for _ in range(count)]
    alignment = said.get(_ALIGNMENT)
    step = alignment if isinstance(alignment, int) and alignment > 0 else 32
    start = -(-cursor.position // step) * step
    short = [key for key, _, offset, length in found if start + offset + length > size]
    if short:
        facts = [f"{key} ends behind the end of the file" for key in short[:20]]
        raise FormatError("the file is damaged or incomplete", where=name, facts=facts, hint="fetch or write it again")
    tensors = [
        (key, ListedTensor(shape, dtype, start + offset if dtype in PLAIN.values() else None))
        for key, (shape, dtype), offset, _ in found
    ]
    return listed(name, tensors, size, str(said.get(_ARCHITECTURE) or ""), _HINT)


def _pair(cursor: Cursor) -> tuple[str, str | int | None]:
    return _text(cursor), _value(cursor, cursor.number("I"))


def _text(cursor: Cursor) -> str:
    return cursor.take(cursor.number("Q")).decode("utf-8", "replace")


def _value(cursor: Cursor, kind: int, depth: int = 0) -> str | int | None:
    """A text or number; lists are passed over."""
    if kind == _TEXT:
        return _text(cursor)
    if kind in _NUMBERS:
        return cursor.number(_NUMBERS[kind])
    if kind in _WIDTHS:  # a number with a fraction: nothing here asks for one
        cursor.skip(_WIDTHS[kind])
        return None
    if kind != _LIST or depth > _DEEPEST:
        raise cursor.refusal(f"metadata of an unknown type, {kind}", "was it written by a newer version?")
    inner, length = cursor.number("I"), cursor.number("Q")
    if inner in _WIDTHS:
        cursor.skip(_WIDTHS[inner] * length)
        return None
    refuse_more(length, cursor.left // 8, "items are announced of a list", "a GGUF file")
    for _ in range(length):
        if inner == _TEXT:
            cursor.skip_text()
        else:
            _value(cursor, inner, depth + 1)
    return None


def _tensor(cursor: Cursor) -> tuple[str, tuple[tuple[int, ...], str], int, int]:
    """Name, shape and dtype, and where its bytes begin and how many these are."""
    name, dimensions = _text(cursor), cursor.number("I")
    if dimensions > _MOST_DIMENSIONS:
        raise cursor.refusal(f"{name} has {dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))[::-1]  # ggml counts the innermost first
    kind, offset = cursor.number("I"), cursor.number("Q")
    tensor = ListedTensor(shape, PLAIN.get(kind, ""))
    if kind in PLAIN:
        return name, (shape, tensor.dtype), offset, tensor.nbytes
    if kind not in BLOCKS:
        return name, (shape, f"type {kind}"), offset, 0
    dtype, numbers, nbytes = BLOCKS[kind]
    elements = 1
    for one in shape:
        elements *= one
    return name, (shape, dtype), offset, elements // numbers * nbytes
