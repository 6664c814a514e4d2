"""Hashes of runs of bytes that compose: that of a tensor follows from those of its rows.

A run of 64-bit words x0 x1 … is hashed to the sum of x_n * a^n modulo 2^64, and a second time with another multiplier
over the words with their bytes reversed (polynomial hashing; Dietzfelbinger et al. 1992). The hash of two runs side by
side is that of the first plus a^length times that of the second, so rows hashed once give slices and whole tensors of
any shape. A difference that one of the two sees only in its low bits, the other sees in its high ones; 128 bits
together, as good as chance for weights. It is no defence against someone who looks for two tensors with one hash.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
WORD = 8  # bytes
LONGEST = 1 << 13  # words hashed at once: 64 KiB, which stays in the cache with its multipliers
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)


def as_words(raw: npt.NDArray[np.uint8]) -> Words:
    """Rows of bytes, (rows, bytes), as rows of words; zeros are added at their ends where needed."""
    rows, size = raw.shape
    if size % WORD:
        padded = np.zeros((rows, -(-size // WORD) * WORD), np.uint8)
        padded[:, :size] = raw
        raw = padded
    return np.ascontiguousarray(raw).view(np.uint64)


def hash_rows(words: Words) -> Words:
    """The hash of each row: (rows, words) to (rows, 2)."""
    rows, width = words.shape
    if width <= LONGEST:
        first, second = (powers[:width] for powers in _powers())
        return np.stack([words @ first, words.byteswap() @ second], axis=1)
    whole = width // LONGEST * LONGEST
    pieces = hash_rows(np.ascontiguousarray(words[:, :whole]).reshape(-1, LONGEST)).reshape(rows, -1, 2)
    joined = join(pieces, LONGEST)
    if whole < width:
        joined = joined + shifted(hash_rows(np.ascontiguousarray(words[:, whole:])), whole)
    return joined


def join(hashes: Words, words: int) -> Words:
    """The hash of consecutive runs of `words` words each: (…, runs, 2) to (…, 2)."""
    count = hashes.shape[-2]
    powers = np.stack([_progression(pow(a, words, 1 << 64), count) for a in _MULTIPLIERS], axis=1)
    joined: Words = (hashes * powers).sum(axis=-2, dtype=np.uint64)
    return joined


def shifted(hashes: Words, words: int) -> Words:
    """What hashes count for in a run that has `words` other words before them."""
    moved: Words = hashes * np.array([pow(a, words, 1 << 64) for a in _MULTIPLIERS], np.uint64)
    return moved


@cache
def _powers() -> tuple[Words, Words]:
    first, second = (_progression(a, LONGEST) for a in _MULTIPLIERS)
    return first, second


def _progression(factor: int, count: int) -> Words:
    steps = np.full(max(count, 1), factor, np.uint64)
    steps[0] = 1
    return np.cumprod(steps, dtype=np.uint64)[:count]
