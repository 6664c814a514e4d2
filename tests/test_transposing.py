"""Tensors in another order of their dimensions: what is copied fast is what is copied element by element."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import strided_pairs
from test_execute import DTYPES, random_bytes, raw

from treealign.mapping.execution import transposing
from treealign.mapping.execution.transposing import contiguous, copy_strided


def memory_of(tensor):
    """All bytes of the storage that a tensor is a view of."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy().tobytes()


def slowly(tensor):
    """The bytes of a tensor in the order of its indices, one element after the other."""
    width = tensor.element_size()
    memory = memory_of(tensor)
    found = bytearray()
    for at in product(*map(range, tensor.shape)):
        begin = (tensor.storage_offset() + sum(i * s for i, s in zip(at, tensor.stride(), strict=True))) * width
        found += memory[begin : begin + width]
    return bytes(found)


def laid_out(layout, dtype, seed=0):
    """A view into random bytes: cut from a larger tensor, and its dimensions in another order."""
    sizes, starts, order, shape = layout
    whole = random_bytes(sizes, dtype, seed).permute(order)
    for dim, (start, size) in enumerate(zip(starts, shape, strict=True)):
        whole = whole.narrow(dim, start, size)
    return whole


@given(layouts=strided_pairs(), dtype=st.sampled_from(DTYPES), narrow=st.sampled_from([1, 2, 16]))
def test_any_strides_are_copied_as_element_by_element(layouts, dtype, narrow):
    target, source = (laid_out(layout, dtype, seed) for seed, layout in enumerate(layouts))
    around = bytearray(memory_of(target))
    expected = slowly(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transposing, "NARROW", narrow)
        patch.setattr(transposing, "PIECE", 64)
        copy_strided(target, source)
    assert slowly(target) == expected
    target.copy_(torch.zeros((), dtype=dtype))
    for at in product(*map(range, target.shape)):
        begin = target.storage_offset() + sum(i * s for i, s in zip(at, target.stride(), strict=True))
        around[begin * target.element_size() : (begin + 1) * target.element_size()] = bytes(target.element_size())
    assert memory_of(target) == bytes(around), "it wrote outside of the target"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((300, 200), (1, 0)),
        ((3, 150, 90), (0, 2, 1)),
        ((64, 48, 3, 3), (2, 3, 1, 0)),
        ((3, 3, 48, 64), (3, 2, 0, 1)),
        ((8, 20, 3, 40), (2, 0, 3, 1)),
        ((2, 3, 20, 5, 17), (4, 2, 0, 3, 1)),
        ((1, 70, 1, 80), (3, 2, 1, 0)),
        ((70, 0), (1, 0)),
        ((5,), (0,)),
    ],
    ids=str,
)
def test_permutations_of_matrices_agree_with_numpy(shape, order, dtype):
    tensor = random_bytes(shape, dtype)
    width = tensor.element_size()
    cells = np.frombuffer(raw(tensor), dtype=f"V{width}").reshape(shape)
    assert raw(contiguous(tensor.permute(order))) == np.ascontiguousarray(cells.transpose(order)).tobytes()


@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float32], ids=str)
def test_a_transposed_part_goes_to_its_place_among_others(dtype, cut):
    part, whole = random_bytes((90, 130), dtype), random_bytes((130, 180) if cut else (260, 90), dtype)
    expected = np.frombuffer(raw(whole), f"V{part.element_size()}").reshape(whole.shape).copy()
    cells = np.frombuffer(raw(part), f"V{part.element_size()}").reshape(90, 130)
    place = whole[:, 90:] if cut else whole[130:]
    (expected[:, 90:] if cut else expected[130:])[:] = cells.T
    copy_strided(place, part.t())
    assert raw(whole) == expected.tobytes()


def test_a_transposed_tensor_is_cast_as_torch_casts():
    tensor = torch.randn(200, 300)
    made = torch.empty(300, 200, dtype=torch.bfloat16)
    copy_strided(made, tensor.t())
    assert torch.equal(made, tensor.to(torch.bfloat16).t())


def test_conjugates_are_resolved_and_the_meta_device_is_left_in_peace():
    tensor = random_bytes((40, 50), torch.complex64).nan_to_num()
    assert torch.equal(contiguous(tensor.t().conj()), tensor.t().conj().resolve_conj())
    assert contiguous(tensor.to("meta").t()).is_meta
