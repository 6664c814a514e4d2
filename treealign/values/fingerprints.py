"""Fingerprints of tensors: one pass over the bytes of a checkpoint, in pieces that fit the cache.

Rows are hashed whole. Of the lines along other dimensions, which a transposed copy has as rows, only the first elements
are: enough to find what corresponds, at a few percent of the cost; what was found that way is read again to be sure.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from treealign.align.contents.fingerprints import Elements, Fingerprint, Hashes, Sizes
from treealign.checkpoint.sources import Source
from treealign.mapping.execution.transposing import contiguous
from treealign.tree.keytree import KeyTree, Leaf
from treealign.values.hashing import WORD, as_words, hash_rows, join, shifted

Bytes = npt.NDArray[np.uint8]
PIECE = 1 << 19  # bytes read and hashed at a time
BEGINNING = 32  # elements of a line
SHORT = 64  # elements below which a row is too short to be worth a hash
SMALL = 1 << 16  # elements of a tensor that is looked at in all ways
MOST_VALUES = 4096  # elements of either end that are looked at for whether they tell
MOST_SLABS = 8192  # places where beginnings lie
LONGEST_ROW = 1 << 25  # bytes; longer ones are not told apart
FEW_VALUES = 4  # a tensor with fewer different elements says nothing about itself
NARROW = ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")


@dataclass(frozen=True)
class Stored:
    """The bytes of one tensor, to be read in part: `read(begin, end)` gives them, until it is called again."""

    shape: Sizes
    dtype: str
    nbytes: int
    read: Callable[[int, int], Bytes]


def widened(checkpoint: KeyTree, model: KeyTree) -> bool:
    """Whether floats have to be compared as float32: where the two sides do not hold as much of each dtype."""
    return _dtypes(checkpoint) != _dtypes(model)


def fingerprints(source: Source, tree: KeyTree, *, wide: bool) -> list[Fingerprint | None]:
    """One for each leaf of `tree`, read from `source`; None for what it does not hold, and for second names of a leaf.

    Files are read in the order in which tensors lie in them.
    """
    found: dict[str, Fingerprint | None] = {}
    buffer = np.empty(PIECE, np.uint8)
    wanted = [key for key in tree.keys if key not in tree.tied and key in source.tree]
    for key in source.in_order(wanted):
        found[key] = fingerprint(stored(source, key, buffer), wide=wide)
    return [found.get(key) for key in tree.keys]


def stored(source: Source, key: str, buffer: Bytes) -> Stored:
    """A tensor of a source; `buffer` holds what is read from files."""
    leaf: Leaf = source.tree.leaf(key)
    shape, dtype, size = leaf.shape or (), leaf.dtype or "", source.nbytes(key)
    held = source.in_memory(key)
    if held is not None or not source.is_whole(key):
        raw = _bytes_of(source.read(key) if held is None else held)
        return Stored(shape, dtype, size, lambda begin, end: raw[begin:end])

    def read(begin: int, end: int) -> Bytes:
        room = buffer[: end - begin] if end - begin <= len(buffer) else np.empty(end - begin, np.uint8)
        source.read_part(key, begin, room)
        return room

    return Stored(shape, dtype, size, read)


def in_memory(tensor: torch.Tensor) -> Stored:
    """A tensor as it stands; of a view that is not contiguous, rows are copied as they are read."""
    shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    row = tensor.nbytes // max(len(tensor), 1) if shape else 0
    if tensor.is_contiguous() or not 0 < row <= PIECE:
        raw = _bytes_of(tensor)
        return Stored(shape, dtype, len(raw), lambda begin, end: raw[begin:end])

    def read(begin: int, end: int) -> Bytes:
        first, last = begin // row, -(-end // row)
        return _bytes_of(_compact(tensor[first:last]))[begin - first * row : end - first * row]

    return Stored(shape, dtype, tensor.nbytes, read)


def _compact(view: torch.Tensor) -> torch.Tensor:
    """A copy of a view with its numbers as they lie in memory: torch transposes that many times as fast."""
    order = sorted(range(view.ndim), key=lambda d: -view.stride()[d])
    return contiguous(view.permute(order)).permute([order.index(d) for d in range(view.ndim)])


def fingerprint(tensor: Stored, *, wide: bool = False) -> Fingerprint:
    """Read a tensor once, and keep what identifies it.

    Parameters
    ----------
    tensor : Stored
        Any dtype, any shape.
    wide : bool
        Hash floats narrower than float32 as float32, which holds each of them exactly.
    """
    wide = wide and tensor.dtype in NARROW
    tensor = _widened(tensor) if wide else tensor
    width = tensor.nbytes // max(prod(tensor.shape), 1)
    fixed = _fixed(tensor.shape)
    line = tensor.shape[-1] * width if tensor.shape else 0
    hashed = _hashed(tensor, prod(tensor.shape[fixed:]) * width, width, line)
    telling = _tells(_numbers(hashed.ends, tensor.dtype))
    beginnings = _beginnings(tensor, width, hashed.first) if telling else {}
    vector = sum(size != 1 for size in tensor.shape) == 1 and prod(tensor.shape) <= SMALL and telling
    elements = _elements(tensor.read(0, tensor.nbytes), width) if vector else None
    return Fingerprint(tensor.dtype, tensor.shape, hashed.whole, hashed.rows, fixed, beginnings, telling, elements)


def whole_hash(tensor: Stored, *, wide: bool) -> tuple[int, int]:
    """`Fingerprint.whole` alone."""
    tensor = _widened(tensor) if wide and tensor.dtype in NARROW else tensor
    row = tensor.nbytes // max(prod(tensor.shape[:1]), 1)
    return _hashed(tensor, max(row, 1), 1).whole


def _dtypes(tree: KeyTree) -> Counter[str]:
    counts: Counter[str] = Counter()
    for leaf in tree.leaves:
        if leaf.key not in tree.tied and leaf.dtype and "float" in leaf.dtype:
            counts[leaf.dtype] += prod(leaf.shape or ())
    return counts


def _bytes_of(tensor: torch.Tensor) -> Bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    raw: Bytes = flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, np.uint8)
    return raw


def _widened(tensor: Stored) -> Stored:
    """The same numbers in float32."""
    kind = getattr(torch, tensor.dtype)
    factor = 4 // kind.itemsize

    def read(begin: int, end: int) -> Bytes:
        narrow = torch.from_numpy(tensor.read(begin // factor, end // factor)).view(kind)
        return _bytes_of(narrow.to(torch.float32))

    return Stored(tensor.shape, "float32", tensor.nbytes * factor, read)


def _fixed(shape: Sizes) -> int:
    """How many leading dimensions rows run over: all but the last, fewer where rows would be short."""
    fixed = max(len(shape) - 1, 0)
    while fixed and prod(shape) > SMALL and prod(shape[fixed:]) < SHORT:
        fixed -= 1
    return fixed


def _hashed(tensor: Stored, row: int, width: int, lines: int = 0) -> _Hashed:
    """One pass; `row` is the size of a row in bytes, `lines` that of a line along the last dimension, 0 for none."""
    rows: list[Hashes] = []
    ends: list[Bytes] = []
    first: list[Bytes] = []
    whole: Hashes = np.zeros(2, np.uint64)
    for begin, piece in _pieces(tensor, row):
        if begin == 0 or begin + len(piece) == tensor.nbytes:
            at = 0 if begin == 0 else max(len(piece) // width - MOST_VALUES, 0) * width
            ends.append(piece[at : at + MOST_VALUES * width].copy())
        if row <= LONGEST_ROW:
            rows.append(hash_rows(as_words(piece.reshape(-1, row))))
        if lines and row <= LONGEST_ROW:
            first.append(piece.reshape(-1, lines)[:, : BEGINNING * width].copy())
        if row % WORD or row > LONGEST_ROW:
            whole = whole + shifted(_flat(piece), begin // WORD)
    hashes: Hashes = np.concatenate(rows) if rows else np.zeros((0, 2), np.uint64)
    if row % WORD == 0 and row <= LONGEST_ROW and len(hashes):
        whole = join(hashes, row // WORD)
    return _Hashed(hashes, (int(whole[0]), int(whole[1])), _together(ends), _together(first))


class _Hashed(NamedTuple):
    """Hashes of rows and of the whole, the first and last elements, and the beginnings of lines."""

    rows: Hashes
    whole: tuple[int, int]
    ends: Bytes
    first: Bytes


def _together(parts: list[Bytes]) -> Bytes:
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)


def _flat(piece: Bytes) -> Hashes:
    """The hash of a run of bytes."""
    hashes: Hashes = hash_rows(as_words(piece.reshape(1, -1)))[0]
    return hashes


def _pieces(tensor: Stored, row: int) -> Iterator[tuple[int, Bytes]]:
    """The bytes in order, in pieces of whole rows and of whole words."""
    least = row if row % WORD == 0 else row * WORD
    step = PIECE if row > LONGEST_ROW else max(PIECE // least, 1) * least if row else 0
    for begin in range(0, tensor.nbytes, step) if step else ():
        yield begin, tensor.read(begin, min(begin + step, tensor.nbytes))


def _beginnings(tensor: Stored, width: int, last: Bytes) -> Mapping[int, Hashes]:
    """Hashes of the beginnings of all lines, along the dimensions where lines are long enough to be few."""
    size, rank = prod(tensor.shape), len(tensor.shape)
    axes = [a for a, n in enumerate(tensor.shape) if n > 1 and (n >= SHORT or size <= SMALL)]
    axes = [a for a in axes if prod(tensor.shape[:a]) <= MOST_SLABS or a == rank - 1]
    found = {a: _first(tensor, a, width) for a in axes if a < rank - 1}
    if rank - 1 in axes and len(last):
        found[rank - 1] = last
    return {axis: _lines(first, tensor, axis) for axis, first in found.items()}


def _first(tensor: Stored, axis: int, width: int) -> Bytes:
    """The first elements of all lines along a dimension that is not the last: (lines, elements * width).

    They lie together, so little is read again.
    """
    before, length, after = prod(tensor.shape[:axis]), tensor.shape[axis], prod(tensor.shape[axis + 1 :])
    kept = min(length, BEGINNING)
    slab, part = length * after * width, kept * after * width
    found = np.empty((before, after, kept, width), np.uint8)
    for at in range(before):
        found[at] = tensor.read(at * slab, at * slab + part).reshape(kept, after, width).transpose(1, 0, 2)
    return found.reshape(before * after, kept * width)


def _lines(first: Bytes, tensor: Stored, axis: int) -> Hashes:
    hashes = hash_rows(as_words(first))
    tag = zlib.crc32(f"{tensor.dtype} {tensor.shape[axis]}".encode())
    mixed: Hashes = hashes[:, 0] + hashes[:, 1] * np.uint64(0xD6E8FEB86659FD93) + np.uint64(tag)
    return mixed


def _elements(raw: Bytes, width: int) -> Elements:
    """Elements as numbers that are equal where the bytes are."""
    if width in (1, 2, 4, 8):
        return raw.copy().view(f"u{width}")
    return as_words(raw.reshape(-1, width))[:, 0]


def _numbers(raw: Bytes, dtype: str) -> npt.NDArray[np.float64]:
    kind = getattr(torch, dtype, torch.uint8)
    try:
        numbers: npt.NDArray[np.float64] = torch.from_numpy(raw).view(kind).to(torch.float64).numpy()
    except (RuntimeError, TypeError):  # dtypes that torch cannot compute with
        numbers = raw.astype(np.float64)
    return numbers


def _tells(numbers: npt.NDArray[np.float64]) -> bool:
    """Whether numbers say whose they are: not few different ones, and not counted off."""
    with np.errstate(all="ignore"):
        known = numbers[np.isfinite(numbers)]
        if len(np.unique(known)) < FEW_VALUES:
            return False
        steps = np.diff(known)
        return not np.allclose(steps, steps[0], rtol=1e-3, atol=0)
