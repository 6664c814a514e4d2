"""Operations on tensors: the same bytes back, the shapes that were promised, no memory beyond the result."""

from __future__ import annotations

import weakref
from math import prod
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from releases import need_rule
from strategies import operations_and_shapes
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import core_model_loading

from treealign import ConversionMapping, Convert
from treealign.errors import MappingError
from treealign.mapping import execution
from treealign.mapping.execution import execute
from treealign.mapping.operations import (
    Concat,
    Deinterleave,
    FoldWeightNorm,
    Interleave,
    Join,
    Keep,
    NegativeLog,
    Pad,
    Parallel,
    Permute,
    Reorder,
    Reshape,
    RotaryPermute,
    RotaryUnpermute,
    Select,
    Split,
    Stack,
    Trim,
    UnfoldWeightNorm,
    Unstack,
    invert,
    output_shapes,
)

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu),
    *(torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64, torch.bool, torch.complex64),
]


def random_bytes(shape, dtype=torch.float32, seed=0):
    """Any bytes at all: NaNs with payloads, infinities, bools that are neither 0 nor 1."""
    size = torch.empty((), dtype=dtype).element_size()
    raw = torch.randint(0, 256, (prod(shape) * size,), dtype=torch.uint8, generator=torch.manual_seed(seed))
    return raw.view(dtype).view(shape)


def dense(tensor):
    """A clone in one piece; by bytes, for torch may make 1 of a bool that is 2."""
    cells = tensor.view(torch.uint8) if tensor.element_size() == 1 else tensor
    return cells.clone(memory_format=torch.contiguous_format).view(tensor.dtype)


def raw(tensor):
    # a dimension of size 1 may have any stride and count as contiguous; only a clone has strides to be viewed as bytes
    return dense(tensor).flatten().view(torch.uint8).numpy().tobytes()


def as_bytes(tensors):
    return [(tensor.shape, tensor.dtype, raw(tensor)) for tensor in tensors]


def rows(tensor):
    return tensor[:, 0].tolist()


def numbered(count, width=1):
    return torch.arange(count)[:, None].expand(count, width).contiguous()


# -- round trips ------------------------------------------------------------------------------------------------------


@given(operations_and_shapes(), st.sampled_from(DTYPES), st.integers(0, 2**32))
def test_every_byte_comes_back(case, dtype, seed):
    sequence, shapes = case
    tensors = [random_bytes(shape, dtype, seed + at) for at, shape in enumerate(shapes)]
    before = as_bytes(tensors)
    there = execute.run(sequence, tensors)
    assert as_bytes(execute.run(invert(sequence), there)) == before
    assert as_bytes(tensors) == before


@given(operations_and_shapes(), st.sampled_from(["cpu", "meta"]))
def test_shapes_are_those_that_plain_ints_promised(case, device):
    sequence, shapes = case
    there = execute.run(sequence, [torch.empty(shape, dtype=torch.bfloat16, device=device) for shape in shapes])
    assert [(tuple(t.shape), t.dtype, t.device.type) for t in there] == [
        (shape, torch.bfloat16, device) for shape in output_shapes(sequence, shapes)
    ]


@given(operations_and_shapes())
def test_expected_tensors_are_those_that_come(case):
    sequence, shapes = case
    tensors = [torch.empty(shape, dtype=torch.int16) for shape in shapes]
    there, promised = execute.run(sequence, tensors), execute.expected(sequence, tensors)
    assert [(t.shape, t.dtype) for t in there] == [(t.shape, t.dtype) for t in promised]


@given(operations_and_shapes())
def test_operations_at_once_do_what_they_do_one_by_one(case):
    sequence, shapes = case
    tensors = one_by_one = [random_bytes(shape, seed=at) for at, shape in enumerate(shapes)]
    for operation in sequence:
        one_by_one = execute.run((operation,), one_by_one)
    assert as_bytes(execute.run(sequence, tensors)) == as_bytes(one_by_one)


@given(operations_and_shapes(), st.sampled_from(DTYPES))
def test_results_left_in_place_are_those_that_run_gives(case, dtype):
    sequence, shapes = case
    tensors = [random_bytes(shape, dtype, at) for at, shape in enumerate(shapes)]
    outputs = [torch.empty(shape, dtype=dtype) for shape in output_shapes(sequence, shapes)]
    execute.run_into(sequence, iter(tensors), outputs)
    assert as_bytes(outputs) == as_bytes(execute.run(sequence, tensors))


def test_no_operations_give_the_tensors_themselves():
    tensor = random_bytes((2, 3))
    assert execute.run((), [tensor]) == [tensor]


def test_the_door_below_runs_the_executor():
    (left, right) = execution.run((Split(0, (1, 2)),), [numbered(3)])
    assert (rows(left), rows(right)) == ([0], [1, 2])


# -- each kind against indices written out ----------------------------------------------------------------------------


@pytest.mark.parametrize(("dims", "shape"), [((2, 0, 1), (2, 3, 4)), ((1, 0), (3, 2))])
def test_permute_is_that_of_torch(dims, shape):
    tensor = random_bytes(shape, torch.int32)
    assert torch.equal(execute.run((Permute(dims),), [tensor])[0], tensor.permute(dims))


def test_stack_and_concat_are_those_of_torch():
    experts = [random_bytes((4, 3), torch.int32, at) for at in range(6)]
    (fused,) = execute.run((Stack(0, 3), Concat(1, (4, 4))), experts)
    assert torch.equal(fused, torch.cat([torch.stack(experts[:3]), torch.stack(experts[3:])], dim=1))


def test_select_deals_slices_out_in_the_order_of_its_indices():
    first, second = execute.run((Select(0, ((2, 0), (1, 3))),), [numbered(4)])
    assert (rows(first), rows(second)) == ([2, 0], [1, 3])


def test_join_puts_slices_in_the_places_of_its_indices():
    (joined,) = execute.run((Join(0, ((2, 0), (1, 3))),), [numbered(4)[[2, 0]], numbered(4)[[1, 3]]])
    assert rows(joined) == [0, 1, 2, 3]


def test_reorder_takes_what_its_order_says():
    tensors = [numbered(n) for n in (1, 2, 3)]
    assert [len(t) for t in execute.run((Reorder((2, 0, 1)),), tensors)] == [3, 1, 2]


def interleaved_rows(blocks, turns):
    """Where each row of the parted order stands in the mixed one, written out row by row."""
    order = []
    for part, block in enumerate(blocks):
        for turn in range(turns):
            order += [turn * sum(blocks) + sum(blocks[:part]) + row for row in range(block)]
    return order


@pytest.mark.parametrize(("blocks", "turns"), [((1, 1), 4), ((2, 2, 2), 3), ((4, 1, 1), 2), ((3,), 2), ((1, 1), 1)])
def test_interleaved_rows_part_as_written_out(blocks, turns):
    mixed = numbered(sum(blocks) * turns, 2)
    (parted,) = execute.run((Deinterleave(0, blocks),), [mixed])
    assert rows(parted) == interleaved_rows(blocks, turns)


def test_gate_and_up_alternate_along_any_dimension():
    mixed = torch.tensor([[0, 10, 1, 11, 2, 12]])
    assert execute.run((Deinterleave(1, (1, 1)),), [mixed])[0].tolist() == [[0, 1, 2, 10, 11, 12]]
    assert execute.run((Interleave(1, (1, 1)),), [torch.tensor([[0, 1, 10, 11]])])[0].tolist() == [[0, 10, 1, 11]]


def test_deinterleave_is_a_transpose_of_turns():
    tensor = random_bytes((3, 8, 2), torch.int32)
    theirs = tensor.reshape(3, 4, 2, 2).transpose(1, 2).reshape(3, 8, 2)
    assert torch.equal(execute.run((Deinterleave(1, (1, 1)),), [tensor])[0], theirs)


def half_split_rows(heads, head_dim, rotary, start):
    """Where each row of the half-split order stands in the interleaved one, written out row by row."""
    order = []
    for head in range(heads):
        pairs = [start + row for row in range(rotary)]
        mine = [*range(start), *pairs[0::2], *pairs[1::2], *range(start + rotary, head_dim)]
        order += [head * head_dim + row for row in mine]
    return order


@pytest.mark.parametrize(
    ("heads", "head_dim", "rotary", "start"), [(2, 8, 8, 0), (3, 8, 4, 0), (2, 6, 4, 2), (1, 9, 6, 1), (4, 2, 0, 0)]
)
def test_rotary_rows_move_as_written_out(heads, head_dim, rotary, start):
    (moved,) = execute.run((RotaryPermute(heads, head_dim, rotary, start),), [numbered(heads * head_dim, 3)])
    assert rows(moved) == half_split_rows(heads, head_dim, rotary, start)


@pytest.mark.parametrize("shape", [(24, 5), (24,)])
def test_rotary_rows_move_as_in_the_llama_conversion_script(shape):
    heads, tensor = 3, random_bytes(shape, torch.int32)
    script = tensor.view(heads, 24 // heads // 2, 2, *shape[1:]).transpose(1, 2).reshape(shape)
    assert torch.equal(execute.run((RotaryPermute(heads, 8),), [tensor])[0], script)


@pytest.mark.parametrize("shape", [(24, 5), (24,)])
@pytest.mark.parametrize(("kind", "inverse"), [(RotaryPermute, False), (RotaryUnpermute, True)])
def test_rotary_rows_move_as_in_transformers(kind, inverse, shape):
    need_rule("PermuteForRope", argument="inverse")
    tensor = random_bytes(shape, torch.int32)
    config = SimpleNamespace(num_attention_heads=3)
    theirs = core_model_loading.PermuteForRope(permute_layer_names=["w"], inverse=inverse)
    made = theirs.convert({"w": tensor}, ["w"], ["w"], config)["w"]
    assert torch.equal(execute.run((kind(3, 8),), [tensor])[0], made)


def test_attention_scores_survive_the_change_of_rotary_order():
    """Pairs rotated side by side before, halves rotated against each other after: q times k stays."""
    generator = torch.manual_seed(0)
    q, k = (torch.randn(8, 5, generator=generator, dtype=torch.float64) for _ in "qk")
    x, angles = torch.randn(5, generator=generator, dtype=torch.float64), torch.tensor([0.3, 0.1, 0.7, 0.2]).double()

    def side_by_side(v):
        turned = torch.view_as_complex(v.view(4, 2)) * torch.polar(torch.ones_like(angles), angles)
        return torch.view_as_real(turned).flatten()

    def halves(v):
        both = torch.cat([angles, angles])
        return v * both.cos() + torch.cat([-v[4:], v[:4]]) * both.sin()

    moved = execute.run((RotaryPermute(1, 8),), [q]) + execute.run((RotaryPermute(1, 8),), [k])
    before = side_by_side(q @ x) @ (k @ x)
    after = halves(moved[0] @ x) @ (moved[1] @ x)
    torch.testing.assert_close(after, before)


def test_grouped_query_attention_parts_with_v_left_alone():
    fused = numbered(12)
    sequence = (Split(0, (8, 2, 2)), Parallel((RotaryPermute(2, 4), RotaryPermute(1, 2), Keep())))
    assert [rows(t) for t in execute.run(sequence, [fused])] == [[0, 2, 1, 3, 4, 6, 5, 7], [8, 9], [10, 11]]


def test_experts_are_dealt_to_two_towers_as_in_transformers():
    gates, ups = ([random_bytes((4, 3), torch.int32, seed + at) for at in range(6)] for seed in (0, 10))
    theirs = core_model_loading.ErnieFuseAndSplitTextVisionExperts().convert(
        {"gate": gates, "up": ups}, ["gate", "up"], ["text", "vision"], None
    )
    ours = execute.run((Stack(0, 3), Reorder((0, 2, 1, 3)), Concat(1, (4, 4))), gates + ups)
    assert as_bytes(ours) == as_bytes([theirs["text"], theirs["vision"]])


def test_queries_of_two_tensors_merge_layer_by_layer():
    outer, inner = random_bytes((6, 5), torch.int32, 1), random_bytes((6, 5), torch.int32, 2)
    outer_pairs, inner_pairs = outer.view(3, 2, 5), inner.view(3, 2, 5)
    theirs = torch.cat([outer_pairs[:, :1], inner_pairs, outer_pairs[:, 1:]], dim=1)
    sequence = (Reshape((6, 5), (3, 2, 5)), Split(1, (1, 1)), Reorder((0, 2, 3, 1)), Concat(1, (1, 1, 1, 1)))
    assert torch.equal(execute.run(sequence, [outer, inner])[0], theirs)


def test_a_convolution_flattens_to_a_linear_weight():
    weight = random_bytes((4, 3, 2, 2, 2), torch.int32)
    assert torch.equal(execute.run((Reshape((4, 3, 2, 2, 2), (4, 24)),), [weight])[0], weight.flatten(1))


# -- lossy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("slice_numbers", [1, 7, 1 << 22])
def test_a_weight_norm_folds_to_what_torch_computes(dim, slice_numbers, monkeypatch):
    monkeypatch.setattr("treealign.mapping.execution.moves.SLICE_NUMBERS", slice_numbers)
    conv = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(4, 6, 3), dim=dim)
    g, v = conv.parametrizations.weight.original0, conv.parametrizations.weight.original1
    (weight,) = execute.run((FoldWeightNorm(dim),), [g * 2, v])
    torch.testing.assert_close(weight, conv.weight * 2)


def test_a_folded_weight_norm_folds_again_to_the_same_weight():
    weight = torch.randn(6, 4, generator=torch.manual_seed(0)).bfloat16()
    parts = execute.run((UnfoldWeightNorm(0),), [weight])
    assert [(t.shape, t.dtype) for t in parts] == [((6, 1), torch.bfloat16), ((6, 4), torch.bfloat16)]
    torch.testing.assert_close(execute.run((FoldWeightNorm(0),), parts)[0], weight)


def test_a_weight_norm_over_nothing_keeps_the_sign():
    g, v = torch.tensor([2.0, 3.0]), torch.tensor([-5.0, 7.0])
    assert execute.run((FoldWeightNorm(0),), [g, v])[0].tolist() == [-2.0, 3.0]


def test_a_weight_norm_has_shapes_on_the_meta_device():
    g, v = torch.empty((6, 1), device="meta"), torch.empty((6, 4), device="meta")
    assert execute.run((FoldWeightNorm(0), UnfoldWeightNorm(0)), [g, v])[0].shape == (6, 1)


def test_padding_is_zeros_and_trims_off():
    (padded,) = execute.run((Pad(0, 3, 5),), [numbered(3) + 1])
    assert rows(padded) == [1, 2, 3, 0, 0]
    assert rows(execute.run((Trim(0, 5, 3),), [padded])[0]) == [1, 2, 3]


def test_padding_is_left_in_place_too():
    output = torch.full((5, 1), 9)
    execute.run_into((Pad(0, 3, 5),), [numbered(3)], [output])
    assert rows(output) == [0, 1, 2, 0, 0]


# -- memory -----------------------------------------------------------------------------------------------------------


class Allocations(TorchDispatchMode):
    """Bytes of real memory that new tensors take."""

    def __init__(self):
        super().__init__()
        self.taken = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type != "meta" and not function.is_view:
            self.taken += 0 if any(result is arg for arg in args) else result.nbytes
        return result


@pytest.mark.parametrize(
    ("sequence", "tensors", "bytes_taken"),
    [
        ((Stack(0, 4), Concat(1, (8, 8))), [torch.zeros(8, 4)] * 8, 8 * 8 * 4 * 4),
        ((Permute((1, 0)), Concat(0, (4, 4))), [torch.zeros(8, 4)] * 2, 2 * 8 * 4 * 4),
        ((Split(0, (8, 2, 2)),), [torch.zeros(12, 4)], 0),
        ((Unstack(0, 3), Permute((1, 0))), [torch.zeros(3, 4, 4)], 0),
        ((Deinterleave(0, (1, 1)), Split(0, (4, 4))), [torch.zeros(8, 4)], 8 * 4 * 4),
        ((RotaryPermute(2, 4, 2),), [torch.zeros(8, 4)], 8 * 4 * 4),
        ((Split(0, (4, 4)), Parallel((RotaryPermute(1, 4), Keep()))), [torch.zeros(8, 4)], 4 * 4 * 4),
    ],
    ids=repr,
)
def test_memory_is_taken_for_what_is_new_and_nothing_else(sequence, tensors, bytes_taken):
    with Allocations() as allocations:
        execute.run(sequence, tensors)
    assert allocations.taken == bytes_taken


def test_tensors_from_an_iterator_are_placed_one_by_one():
    alive = weakref.WeakSet()
    most = 0

    def experts():
        nonlocal most
        for at in range(8):
            tensor = torch.full((4, 3), float(at))
            alive.add(tensor)
            most = max(most, len(alive))
            yield tensor
            del tensor

    fused = torch.empty(4, 8, 3)
    execute.run_into((Stack(0, 4), Concat(1, (4, 4))), experts(), [fused])
    assert fused[:, ::4, 0].tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert most <= 2


@pytest.mark.parametrize("sequence", [(Concat(0, (2, 2)),), (Concat(0, (2, 2)), RotaryPermute(2, 2))])
def test_tensors_are_cast_into_place_only_when_asked(sequence):
    output, halves = torch.zeros(4), [torch.tensor([1.0, 2.0]).bfloat16()] * 2
    with pytest.raises(MappingError, match=r"given torch.bfloat16"):
        execute.run_into(sequence, halves, [output])
    execute.run_into(sequence, halves, [output], cast=True)
    assert output.tolist() == [1, 2, 1, 2]


def test_parameters_are_filled_without_a_graph():
    fused = torch.nn.Parameter(torch.zeros(4, 3))
    execute.run_into((Concat(0, (2, 2)),), [torch.ones(2, 3), torch.nn.Parameter(torch.ones(2, 3))], [fused])
    assert fused.grad_fn is None
    assert fused.sum() == 12


def test_results_carry_no_graph():
    parameter = torch.nn.Parameter(torch.ones(4, 3))
    assert not any(t.requires_grad for t in execute.run((Split(0, (2, 2)),), [parameter]))


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [Concat(0, (2, 2)), Stack(0, 2), Join(0, ((0, 1), (2, 3)))], ids=repr)
def test_tensors_of_two_dtypes_are_not_joined(operation):
    with pytest.raises(MappingError, match=r"torch.bfloat16 on cpu\n  torch.float32 on cpu"):
        execute.run((operation,), [torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)])


def test_tensors_of_two_devices_are_not_joined():
    with pytest.raises(MappingError, match=r"float32 on cpu\n  torch.float32 on meta"):
        execute.run((Stack(0, 2),), [torch.zeros(2), torch.zeros(2, device="meta")])


def test_tensors_of_two_dtypes_may_stand_side_by_side():
    tensors = [torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)]
    assert [t.dtype for t in execute.run((Reorder((1, 0)),), tensors)] == [torch.bfloat16, torch.float32]


def test_a_refusal_comes_before_any_work():
    with pytest.raises(MappingError, match=r"dimension 0 should have size 9"):
        execute.run((RotaryPermute(1, 4), Split(0, (8, 1))), [torch.zeros(4, 2)])


def test_ints_have_no_weight_norm():
    with pytest.raises(MappingError, match="cannot hold"):
        execute.run((UnfoldWeightNorm(0),), [torch.ones(2, 2, dtype=torch.int32)])


@pytest.mark.parametrize(
    "sequence", [(Concat(0, (2, 2)),), (Parallel((RotaryPermute(1, 2), Keep())), Concat(0, (2, 2)))]
)
@pytest.mark.parametrize("count", [1, 3])
def test_too_few_or_too_many_tensors_are_refused(sequence, count):
    with pytest.raises(MappingError):
        execute.run_into(sequence, [torch.zeros(2)] * count, [torch.zeros(4)])


@pytest.mark.parametrize(
    "output",
    [torch.zeros(3, 2), torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, 2, 1)],
    ids=["size", "dtype", "rank"],
)
def test_results_must_fit_the_tensors_they_are_left_in(output):
    with pytest.raises(MappingError):
        execute.run_into((Permute((1, 0)), RotaryPermute(1, 2)), [torch.zeros(2, 2)], [output])
    with pytest.raises(MappingError):
        execute.run_into((Permute((1, 0)),), [torch.zeros(2, 2)], [output])


def test_the_logarithm_of_numbers_that_are_no_decays_is_refused_and_says_of_which_key():
    mapping = ConversionMapping([Convert(["decay"], ["A_log"], [NegativeLog()])])
    assert dict(mapping.apply({"decay": -torch.ones(3)}))["A_log"].tolist() == [0.0] * 3
    with pytest.raises(MappingError, match="decay: only negative numbers") as caught:
        dict(mapping.apply({"decay": torch.tensor([-1.0, 2.0, 0.0])}))
    assert "2 of 3 are not" in str(caught.value)
