"""Computations of a conversion as bytes: in pieces of any size they are what the operations give as a whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from strategies import operations_and_shapes
from test_execute import dense, random_bytes, raw

from treealign.checkpoint.conversion import computing
from treealign.checkpoint.conversion.computing import computed
from treealign.checkpoint.conversion.tasks import Computation, Output
from treealign.checkpoint.conversion.threads import one_thread
from treealign.checkpoint.readers import Reader
from treealign.checkpoint.tensors import Stored
from treealign.formats.dtypes import safetensors_dtype
from treealign.formats.safetensors_header import read_header
from treealign.mapping.execution.execute import run
from treealign.mapping.operations import Concat, Permute, RotaryPermute, Split, Stack, invert

DTYPES = (torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.int8, torch.bool, torch.int64, torch.complex64)


def stored(path, tensors):
    save_file({f"t{at:02}": tensor for at, tensor in enumerate(tensors)}, path)
    header = read_header(path)
    return [Stored(str(path), header.data_start + e.begin, e.dtype, e.shape) for e in sorted(header.tensors)]


def computation_of(operations, sources, made, leave_out=()):
    """The computation, and what each output is to be, by its place in the file."""
    outputs, at = [], 0
    for number, tensor in enumerate(made):
        if number not in leave_out:
            outputs.append(Output(number, safetensors_dtype(str(tensor.dtype).removeprefix("torch.")), at))
        at += tensor.nbytes
    return Computation(tuple(sources), tuple(operations), tuple(outputs)), at


def written(computation, size):
    """The bytes of a file, each written once; None where nothing was."""
    found = [None] * size
    with Reader() as reader:
        for at, data in computed(computation, reader):
            assert found[at : at + len(data)] == [None] * len(data)
            found[at : at + len(data)] = data
    return found


@given(case=operations_and_shapes(), dtype=st.sampled_from(DTYPES), piece=st.sampled_from([1, 16, 1 << 23]))
def test_pieces_of_any_operations_are_what_the_operations_give(case, dtype, piece, tmp_path_factory):
    operations, shapes = case
    tensors = [random_bytes(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    sources = stored(tmp_path_factory.mktemp("sources") / "model.safetensors", tensors)
    for way, given_tensors in ((operations, tensors), (invert(operations), run(operations, tensors))):
        if way is not operations:
            path = tmp_path_factory.mktemp("sources") / "model.safetensors"
            sources = stored(path, [dense(tensor) for tensor in given_tensors])
        made = run(way, given_tensors)
        computation, size = computation_of(way, sources, made)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(computing, "PIECE", piece)
            assert written(computation, size) == list(b"".join(map(raw, made)))


@pytest.mark.parametrize(
    ("operations", "shapes"),
    [
        ((Permute((1, 0)), Stack(0, 3)), [(70, 90)] * 3),
        ((Stack(0, 2), Permute((0, 2, 1))), [(70, 90)] * 2),
        ((Permute((1, 0)), Concat(1, (70, 20))), [(70, 90), (20, 90)]),
        ((Split(0, (40, 20, 10)), Permute((1, 0))), [(70, 90)]),
        ((RotaryPermute(4, 16),), [(64, 90)]),
        ((Permute((2, 3, 1, 0)),), [(40, 30, 3, 3)]),
    ],
    ids=["turned and stacked", "stacked and turned", "turned and joined", "cut and turned", "rotary", "convolution"],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2], ids=str)
def test_layouts_of_the_field_come_out_in_pieces_and_in_other_dtypes(operations, shapes, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(computing, "PIECE", 1000)
    tensors = [torch.randn(shape, generator=torch.manual_seed(1)).to(dtype) for shape in shapes]
    sources = stored(tmp_path / "model.safetensors", tensors)
    for made in (run(operations, tensors), [t.float() for t in run(operations, tensors)]):
        computation, size = computation_of(operations, sources, made)
        assert bytes(written(computation, size)) == b"".join(map(raw, made))


def test_what_goes_into_another_file_is_not_written(tmp_path):
    whole = random_bytes((60, 50), torch.bfloat16)
    operations = (Split(0, (40, 20)), Permute((1, 0)))
    made = run(operations, [whole])
    computation, size = computation_of(operations, stored(tmp_path / "m.safetensors", [whole]), made, leave_out={0})
    found = written(computation, size)
    assert found[: made[0].nbytes] == [None] * made[0].nbytes
    assert bytes(found[made[0].nbytes :]) == raw(made[1])


def test_a_task_beside_others_computes_in_one_thread_and_leaves_torch_as_it_was():
    before, inside = torch.get_num_threads(), []

    def task(_):
        with one_thread():
            inside.append(torch.get_num_threads())

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(task, range(8)))
        task(None)
        after = [*threads.map(lambda _: torch.get_num_threads(), range(4)), torch.get_num_threads()]
    assert set(inside) == {1}
    assert set(after) == {before}
