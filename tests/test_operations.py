"""Operations as values: inverses, shapes from plain ints, size tables, JSON, refusals."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from strategies import operations_and_shapes

from treealign.errors import MappingError, PatternError
from treealign.mapping import operations
from treealign.mapping.operations import (
    BlockDiagonal,
    Concat,
    Deinterleave,
    DiagonalBlocks,
    FoldWeightNorm,
    Interleave,
    Join,
    Keep,
    MinusOne,
    NegativeExp,
    NegativeLog,
    Once,
    Operation,
    Pad,
    Parallel,
    Permute,
    PlusOne,
    Reorder,
    Repeat,
    Reshape,
    RotaryPermute,
    RotaryUnpermute,
    Select,
    SizeTable,
    Split,
    Stack,
    Trim,
    UnfoldWeightNorm,
    Unstack,
)

EXPERTS = SizeTable.by("i", {0: 4, 1: 64})
EACH = [
    Concat(0, (8, 2, 2)),
    Split(1, (3, 3)),
    Stack(0, EXPERTS),
    Unstack(0, 4),
    Select(0, ((0, 2), (1, 3))),
    Join(0, ((0, 2), (1, 3))),
    Permute((0, 2, 1)),
    Reshape((8, 3, 2, 2), (8, 12)),
    Reshape((EXPERTS, 2), (2, EXPERTS)),
    Interleave(0, (1, 1)),
    Deinterleave(0, (256, 64, 64)),
    RotaryPermute(32, 128),
    RotaryUnpermute(2, 8, rotary_dim=4, start=2),
    Keep(),
    Reorder((2, 0, 1)),
    Parallel((RotaryPermute(8, 64), Parallel((Stack(0, EXPERTS), Keep())))),
    FoldWeightNorm(0),
    PlusOne(),
    MinusOne(),
    NegativeExp(),
    NegativeLog(),
    UnfoldWeightNorm(2),
    Trim(0, 128, 100),
    Pad(0, 100, 128),
    BlockDiagonal((8, 2, 2), (4, 0, 4)),
    DiagonalBlocks((8, 2), (4, 4)),
    Repeat(3),
    Once(2),
]
each = pytest.mark.parametrize("operation", EACH, ids=repr)


def test_every_kind_stands_in_these_tests():
    assert {type(operation) for operation in EACH} == set(Operation.__subclasses__())


@each
def test_the_inverse_of_the_inverse_is_the_operation(operation):
    assert operation.inverse.inverse == operation


@each
def test_json_round_trips(operation):
    assert operations.from_json(json.loads(json.dumps(operation.to_json()))) == operation


@each
def test_the_repr_builds_the_operation(operation):
    assert eval(repr(operation), vars(operations)) == operation


@each
def test_operations_are_values(operation):
    assert {operation: 1}[operations.from_json(operation.to_json())] == 1


@given(operations_and_shapes())
def test_shapes_come_back_under_the_inverse(case):
    sequence, shapes = case
    after = operations.output_shapes(sequence, shapes)
    assert operations.output_shapes(operations.invert(sequence), after) == shapes


@given(operations_and_shapes())
def test_inverting_a_sequence_twice_gives_it_back(case):
    sequence, _ = case
    assert operations.invert(operations.invert(sequence)) == sequence


@given(operations_and_shapes())
def test_the_number_of_tensors_needs_no_shapes(case):
    sequence, shapes = case
    assert operations.output_count(sequence, len(shapes)) == len(operations.output_shapes(sequence, shapes))


@given(operations_and_shapes())
def test_a_sequence_round_trips_through_json(case):
    sequence, _ = case
    data = json.loads(json.dumps(operations.sequence_to_json(sequence)))
    assert operations.sequence_from_json(data) == sequence


def test_unequal_parts_come_back_as_they_were():
    assert Concat(0, (8, 2, 2)).inverse.output_shapes([(12, 4)]) == ((8, 4), (2, 4), (2, 4))


def test_runs_are_consumed_one_after_the_other():
    experts = (Stack(0, 16), Concat(1, (8, 8)))
    assert operations.output_shapes(experts, [(8, 4)] * 32) == ((16, 16, 4),)


def test_experts_of_two_towers_of_different_sizes_come_from_one_list():
    text, vision = (8, 4), (2, 4)
    towers = (
        Parallel((Stack(0, 3), Stack(0, 2), Stack(0, 3), Stack(0, 2))),
        Reorder((0, 2, 1, 3)),
        Parallel((Concat(1, (8, 8)), Concat(1, (2, 2)))),
    )
    shapes = [text] * 3 + [vision] * 2 + [text] * 3 + [vision] * 2
    assert operations.output_shapes(towers, shapes) == ((3, 16, 4), (2, 4, 4))


def test_two_captures_stack_in_either_order():
    assert operations.output_shapes((Stack(0, 3), Stack(0, 2)), [(5,)] * 6) == ((2, 3, 5),)
    assert operations.output_shapes((Stack(0, 3), Stack(1, 2)), [(5,)] * 6) == ((3, 2, 5),)


def test_a_scalar_takes_the_shape_of_a_vector_of_one():
    assert Reshape((), (1,)).inverse.output_shapes([(1,)]) == ((),)


def test_lists_are_taken_for_tuples():
    assert Split(0, [8, 2, 2]) == Split(0, (8, 2, 2))


def test_only_what_cannot_give_back_all_that_went_in_is_lossy():
    lossy = {type(operation) for operation in EACH if operation.lossy}
    computed = {PlusOne, MinusOne, NegativeExp, NegativeLog}
    assert lossy == {FoldWeightNorm, UnfoldWeightNorm, Trim, Pad, DiagonalBlocks, Once, *computed}


def test_a_parallel_with_a_lossy_part_is_lossy():
    assert operations.is_lossy((Parallel((Keep(), FoldWeightNorm(0))),))


# -- size tables ------------------------------------------------------------------------------------------------------


def test_a_table_gives_each_repeat_its_size():
    stack = Stack(0, EXPERTS)
    assert [stack.resolve({"i": i}) for i in (0, 1)] == [Stack(0, 4), Stack(0, 64)]


def test_a_table_takes_captures_as_digits_too():
    assert Stack(0, EXPERTS).resolve({"i": "1", "j": "5"}) == Stack(0, 64)


def test_a_table_may_depend_on_two_captures():
    widths = SizeTable.by(("i", "part"), {(0, "q"): 8, (0, "k"): 2})
    assert Split(0, (widths, 1)).resolve({"i": 0, "part": "k"}) == Split(0, (2, 1))


def test_tables_resolve_inside_a_parallel():
    assert Parallel((Stack(0, EXPERTS), Keep())).resolve({"i": 0}) == Parallel((Stack(0, 4), Keep()))


def test_the_order_of_a_table_does_not_matter():
    assert SizeTable.by("i", {10: 1, 2: 3}) == SizeTable.by("i", {2: 3, 10: 1})


def test_plain_operations_resolve_to_themselves():
    split = Split(0, (8, 2, 2))
    assert split.resolve({}) is split


def test_operations_name_the_captures_they_depend_on():
    assert Parallel((Stack(0, EXPERTS), Keep())).capture_names == {"i"}


def test_a_sequence_resolves_as_a_whole():
    assert operations.resolve((Stack(0, EXPERTS), Keep()), {"i": 0}) == (Stack(0, 4), Keep())


def test_a_repeat_without_a_size_is_an_error_that_lists_those_with_one():
    with pytest.raises(MappingError, match=r"no size for i=7\n  the table knows 0, 1"):
        Stack(0, EXPERTS).resolve({"i": 7})


def test_a_capture_that_is_not_there_is_an_error():
    with pytest.raises(MappingError, match=r"depends on \{i\}"):
        Stack(0, EXPERTS).resolve({"j": 7})


@pytest.mark.parametrize("use", [lambda op: op.arity, lambda op: op.output_shapes([(2,)]), lambda op: op.runs([1])])
def test_an_operation_that_is_not_resolved_says_so(use):
    with pytest.raises(MappingError, match="resolve"):
        use(Stack(0, EXPERTS))


def test_a_resolved_reshape_must_keep_the_numbers():
    with pytest.raises(PatternError, match="8 numbers are not 6"):
        Reshape((EXPERTS, 2), (6,)).resolve({"i": 0})


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Split, (0, ())),
        (Split, (0, 8)),
        (Split, (0, (8, -1))),
        (Split, (-1, (8, 2))),
        (Split, (0, (8.0, 2))),
        (Split, (True, (8, 2))),
        (Split, (EXPERTS, (8, 2))),
        (Split, (0, ("8", 2))),
        (Stack, (0, 0)),
        (Unstack, (0, 0)),
        (Permute, ((0, 0),)),
        (Permute, ((1, 2),)),
        (Reshape, ((2, 3), (7,))),
        (Interleave, (0, (0, 1))),
        (Select, (0, ((0, 1), (1,)))),
        (Join, (0, ((0,), (2,)))),
        (Reorder, ((0, 2),)),
        (RotaryPermute, (0, 8)),
        (RotaryPermute, (1, 7)),
        (RotaryPermute, (1, 8, 3)),
        (RotaryPermute, (1, 8, 8, 2)),
        (Parallel, ((),)),
        (Concat, (0, ())),
        (Deinterleave, (0, ())),
        (Reorder, ((),)),
        (Select, (0, ())),
        (Select, (0, ((0, 1), ()))),
        (Parallel, ((1,),)),
        (Trim, (0, 4, 5)),
        (Pad, (0, 5, 4)),
    ],
)
def test_fields_that_make_no_operation_are_refused(kind, values):
    with pytest.raises(PatternError, match="is no operation"):
        kind(*values)


@pytest.mark.parametrize(
    ("operation", "shapes"),
    [
        (Split(0, (8, 2, 2)), [(13, 4)]),
        (Split(2, (8, 2, 2)), [(12, 4)]),
        (Concat(0, (8, 2)), [(8, 4), (3, 4)]),
        (Concat(0, (8, 2)), [(8, 4), (2, 5)]),
        (Concat(0, (8, 2)), [(8, 4), (2,)]),
        (Concat(0, (8, 2)), [(8, 4), (2, 4), (8, 4)]),
        (Stack(0, 2), [(2, 3), (3, 2)]),
        (Stack(3, 1), [(2, 3)]),
        (Unstack(0, 3), [(2, 3)]),
        (Select(0, ((0,), (1,))), [(3,)]),
        (Join(0, ((0,), (1,))), [(1,), (2,)]),
        (Permute((1, 0)), [(2,)]),
        (Reshape((2, 3), (6,)), [(3, 2)]),
        (Interleave(0, (1, 1)), [(3,)]),
        (Deinterleave(1, (1, 1)), [(2,)]),
        (RotaryPermute(2, 4), [(12, 3)]),
        (RotaryPermute(2, 4), [()]),
        (FoldWeightNorm(0), [(8, 1), (8, 3, 4)]),
        (UnfoldWeightNorm(2), [(8, 3)]),
        (Trim(0, 8, 6), [(7,)]),
        (Pad(0, 6, 8), [(7,)]),
        (BlockDiagonal((8, 2), (4, 4)), [(8, 4), (2, 3)]),
        (DiagonalBlocks((8, 2), (4, 4)), [(10, 9)]),
        (Once(2), [(2, 3), (3, 2)]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(operation, shapes):
    with pytest.raises(MappingError):
        operation.output_shapes(shapes)


def test_a_misfit_says_operation_shape_and_reason():
    with pytest.raises(MappingError) as error:
        Split(0, (8, 2, 2)).output_shapes([(13, 4)])
    assert str(error.value) == (
        "Split(0, (8, 2, 2)) does not fit a tensor of shape (13, 4)\n  dimension 0 should have size 12, not 13"
    )


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"operation": "Chunk", "dim": 0},
        {"operation": ["Split"]},
        {"operation": "Split", "dim": 0},
        {"operation": "Split", "dim": 0, "sizes": [8], "extra": 1},
        {"operation": "Split", "dim": 0, "sizes": "8"},
        {"operation": "Split", "dim": True, "sizes": [8]},
        {"operation": "Split", "dim": 0, "sizes": [8.0]},
        {"operation": "Stack", "dim": 0, "count": {"by": ["i"]}},
        {"operation": "Stack", "dim": 0, "count": {"by": "i", "sizes": [["0", 4]]}},
        {"operation": "Stack", "dim": 0, "count": {"by": ["i"], "sizes": [[0, 4]]}},
        {"operation": "Stack", "dim": 0, "count": {"by": ["i"], "sizes": [["0", "4"]]}},
        {"operation": "Stack", "dim": 0, "count": {"by": ["i"], "sizes": [["0", 4], ["0", 5]]}},
        {"operation": "Stack", "dim": 0, "count": {"by": ["i"], "sizes": [["0", "1", 4]]}},
        {"operation": "Stack", "dim": 0, "count": {"by": ["i"], "sizes": []}},
        {"operation": "Stack", "dim": 0, "count": {"by": ["i"], "sizes": [[]]}},
        {"operation": "Parallel", "operations": [{"operation": "Keep", "count": 1}]},
    ],
    ids=repr,
)
def test_json_that_is_no_operation_is_refused(data):
    with pytest.raises(PatternError):
        operations.from_json(data)


def test_a_sequence_in_json_is_a_list():
    with pytest.raises(PatternError, match="they stand in a list"):
        operations.sequence_from_json({"operation": "Keep"})
