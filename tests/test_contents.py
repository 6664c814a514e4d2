"""Operations found by content alone: each kind is applied to random tensors, and must be found again, both ways."""

from __future__ import annotations

import pytest
import torch

from treealign import read_tree
from treealign.align.contents.equal import settle
from treealign.mapping.execution.execute import run
from treealign.mapping.operations import (
    Concat,
    Interleave,
    Keep,
    Parallel,
    Permute,
    Reshape,
    RotaryPermute,
    Select,
    Stack,
)
from treealign.values.contents import open_contents

KINDS = {
    "the same": ((), [(24, 20)]),
    "reshape": ((Reshape((12, 3, 4, 4), (12, 48)),), [(12, 3, 4, 4)]),
    "transpose": ((Permute((1, 0)),), [(24, 20)]),
    "transpose of a square": ((Permute((1, 0)),), [(24, 24)]),
    "transpose of more than the beginnings": ((Permute((1, 0)),), [(300, 240)]),
    "permute a convolution": ((Permute((2, 3, 1, 0)),), [(12, 3, 4, 4)]),
    "transpose each expert": ((Permute((0, 2, 1)),), [(4, 12, 10)]),
    "transpose into heads": ((Permute((1, 0)), Reshape((48, 64), (48, 4, 16))), [(64, 48)]),
    "transpose, a dimension dropped": ((Reshape((12, 10, 1), (12, 10)), Permute((1, 0))), [(12, 10, 1)]),
    "concat of unequal parts": ((Concat(0, (16, 8, 4)),), [(16, 12), (8, 12), (4, 12)]),
    "concat along the last dimension": ((Concat(1, (10, 20)),), [(12, 10), (12, 20)]),
    "concat of depthwise convolutions": ((Concat(0, (16, 4)),), [(16, 1, 6), (4, 1, 6)]),
    "transpose, then concat": ((Permute((1, 0)), Concat(1, (16, 8))), [(16, 12), (8, 12)]),
    "stack": ((Stack(0, 4),), [(12, 10)] * 4),
    "stack of vectors": ((Stack(0, 4),), [(20,)] * 4),
    "stack, then concat": ((Stack(0, 3), Concat(1, (12, 12))), [(12, 10)] * 6),
    "transpose, stack, concat": ((Permute((1, 0)), Stack(0, 3), Concat(2, (12, 12))), [(12, 10)] * 6),
    "stack, concat, turns": ((Stack(0, 3), Concat(1, (12, 12)), Interleave(1, (1, 1))), [(12, 10)] * 6),
    "concat, one row each in turn": ((Concat(0, (12, 12)), Interleave(0, (1, 1))), [(12, 10)] * 2),
    "concat, head by head": ((Concat(0, (32, 32, 32)), Interleave(0, (8, 8, 8))), [(32, 20)] * 3),
    "concat, grouped heads": ((Concat(0, (32, 8, 8)), Interleave(0, (16, 4, 4))), [(32, 20), (8, 20), (8, 20)]),
    "rows by head to q, k, v": ((Interleave(0, (8, 8, 8)),), [(96, 20)]),
    "rotary order": ((RotaryPermute(4, 8),), [(32, 20)]),
    "rotary order of a part of each head": ((RotaryPermute(4, 8, 4),), [(32, 20)]),
    "rotary order, then concat": (
        (Parallel((RotaryPermute(4, 8), RotaryPermute(1, 8), Keep())), Concat(0, (32, 8, 8))),
        [(32, 20), (8, 20), (8, 20)],
    ),
    "select": ((Select(0, ((0, 2, 3), (1, 4, 5))),), [(6, 12, 10)]),
    "any order of rows": ((Select(0, ((3, 1, 0, 4, 2, 6, 5),)),), [(7, 12)]),
    "concat of vectors": ((Concat(0, (16, 8, 4)),), [(16,), (8,), (4,)]),
    "vectors head by head": ((Concat(0, (32, 32)), Interleave(0, (8, 8))), [(32,)] * 2),
    "rotary order of a vector": ((RotaryPermute(4, 8),), [(32,)]),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8)


def drawn(shape, dtype, seed=0):
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (numbers * 40).to(dtype) if dtype == torch.int8 else numbers.to(dtype)


def settled(checkpoint, model):
    """What content settles, as keys and operations."""
    trees = read_tree(checkpoint), read_tree(model)
    with open_contents(checkpoint, model, trees) as contents:
        found = settle(contents)
    return [
        ([trees[0].keys[i] for i in s.left], [trees[1].keys[j] for j in s.right], s.operations)
        for s in sorted(found, key=lambda s: s.left)
    ]


def assert_settles_all(checkpoint, model):
    """One match takes every key of either side, and its operations give the very bytes."""
    [(left, right, operations)] = settled(checkpoint, model)
    assert (sorted(left), sorted(right)) == (sorted(checkpoint), sorted(model))
    given = run(operations, [checkpoint[key] for key in left])
    for tensor, key in zip(given, right, strict=True):
        assert torch.equal(tensor.contiguous().view(torch.uint8), model[key].view(torch.uint8))


def two_sides(kind, dtype=torch.float32):
    operations, shapes = KINDS[kind]
    parts = [drawn(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    made = run(operations, parts)
    return {f"a{n}": t for n, t in enumerate(parts)}, {f"b{n}": t.contiguous() for n, t in enumerate(made)}


@pytest.mark.parametrize("kind", KINDS)
def test_operations_are_found_by_content(kind):
    assert_settles_all(*two_sides(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_operations_are_found_backwards(kind):
    assert_settles_all(*reversed(two_sides(kind)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["the same", "transpose", "stack, then concat", "concat, head by head"])
def test_operations_are_found_in_every_dtype(kind, dtype):
    assert_settles_all(*two_sides(kind, dtype))
