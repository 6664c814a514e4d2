"""All hypothesis strategies of the suite."""

from __future__ import annotations

import json
from functools import partial
from itertools import accumulate
from math import prod

from hypothesis import strategies as st

from treealign.formats.dtypes import BITS
from treealign.mapping import operations

# -- operations: sequences that fit a list of shapes -------------------------------------------------------------------


def compositions(total: int, least: int = 1) -> st.SearchStrategy[tuple[int, ...]]:
    """Sizes of at least `least` that add up to `total`."""
    return st.lists(st.integers(least, max(total, least)), max_size=3).map(
        lambda sizes: (*sizes, total - sum(sizes)) if sum(sizes) + least <= total else (total,)
    )


@st.composite
def dealt(draw: st.DrawFn, total: int) -> tuple[tuple[int, ...], ...]:
    """0 … total - 1 in any order, cut into parts that are not empty."""
    order, sizes = draw(st.permutations(range(total))), draw(compositions(total))
    ends = list(accumulate(sizes))
    return tuple(tuple(order[end - size : end]) for end, size in zip(ends, sizes, strict=True))


@st.composite
def factored(draw: st.DrawFn, numbers: int) -> tuple[int, ...]:
    """A shape that holds so many numbers."""
    shape = []
    while numbers > 1 and len(shape) < 3:
        shape.append(draw(st.sampled_from([n for n in range(1, numbers + 1) if numbers % n == 0])))
        numbers //= shape[-1]
    return (*shape, numbers)


@st.composite
def rotations(draw: st.DrawFn, rows: int) -> operations.Operation:
    heads = draw(st.sampled_from([n for n in range(1, rows + 1) if rows % n == 0]))
    start = draw(st.integers(0, rows // heads))
    rotary = 2 * draw(st.integers(0, (rows // heads - start) // 2))
    kind = draw(st.sampled_from([operations.RotaryPermute, operations.RotaryUnpermute]))
    return kind(heads, rows // heads, rotary, start)


def operations_on_one(shape: tuple[int, ...]) -> st.SearchStrategy[operations.Operation]:
    """Operations that take one tensor of that shape."""
    fitting = [st.permutations(range(len(shape))).map(lambda dims: operations.Permute(tuple(dims)))]
    if all(shape):
        fitting.append(factored(prod(shape)).map(lambda after: operations.Reshape(shape, after)))
    for dim, size in enumerate(shape):
        fitting.append(compositions(size, 0).map(partial(operations.Split, dim)))
        if size:
            blocks = st.sampled_from([n for n in range(1, size + 1) if size % n == 0]).flatmap(compositions)
            kinds = st.sampled_from([operations.Interleave, operations.Deinterleave])
            fitting.append(st.just(operations.Unstack(dim, size)))
            fitting.append(dealt(size).map(partial(operations.Select, dim)))
            fitting.append(st.builds(lambda kind, blocks, dim=dim: kind(dim, blocks), kinds, blocks))
    if shape and shape[0]:
        fitting.append(rotations(shape[0]))
    return st.one_of(fitting)


def operations_on_many(shapes: tuple[tuple[int, ...], ...]) -> st.SearchStrategy[operations.Operation]:
    """Operations that take all these tensors in one run."""
    first = shapes[0]
    fitting = [st.permutations(range(len(shapes))).map(lambda order: operations.Reorder(tuple(order)))]
    if all(shape == first for shape in shapes):
        fitting += [st.just(operations.Stack(dim, len(shapes))) for dim in range(len(first) + 1)]
    for dim in range(len(first)):
        if all(
            len(shape) == len(first) and (*shape[:dim], *shape[dim + 1 :]) == (*first[:dim], *first[dim + 1 :])
            for shape in shapes
        ):
            sizes = tuple(shape[dim] for shape in shapes)
            fitting.append(st.just(operations.Concat(dim, sizes)))
            if all(sizes):
                fitting.append(joins(dim, sizes))
    return st.one_of(fitting)


@st.composite
def joins(draw: st.DrawFn, dim: int, sizes: tuple[int, ...]) -> operations.Join:
    order, ends = draw(st.permutations(range(sum(sizes)))), list(accumulate(sizes))
    return operations.Join(dim, tuple(tuple(order[e - size : e]) for e, size in zip(ends, sizes, strict=True)))


@st.composite
def fitting_operations(draw: st.DrawFn, shapes: tuple[tuple[int, ...], ...]) -> operations.Operation:
    """An operation for the whole list: one for every run of it, or one for some tensors beside others kept."""
    takes = draw(st.sampled_from([n for n in range(1, len(shapes) + 1) if len(shapes) % n == 0]))
    runs = {shapes[at : at + takes] for at in range(0, len(shapes), takes)}
    if len(runs) == 1 and draw(st.booleans()):
        (run,) = runs
        return draw(operations_on_one(run[0]) if takes == 1 else operations_on_many(run))
    start = draw(st.integers(0, len(shapes) - 1))
    end = draw(st.integers(start + 1, len(shapes)))
    own = draw(operations_on_one(shapes[start]) if end == start + 1 else operations_on_many(shapes[start:end]))
    keep = operations.Keep()
    return operations.Parallel((*[keep] * start, own, *[keep] * (len(shapes) - end)))


@st.composite
def operations_and_shapes(draw: st.DrawFn) -> tuple[tuple[operations.Operation, ...], tuple[tuple[int, ...], ...]]:
    """A sequence of operations that lose nothing, and the shapes of tensors for it."""
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 8]), max_size=3)))
    shapes = first = (shape,) * draw(st.integers(1, 4))
    chosen: list[operations.Operation] = []
    for _ in range(draw(st.integers(1, 4))):
        chosen.append(draw(fitting_operations(shapes)))
        shapes = chosen[-1].output_shapes(shapes)
        if len(shapes) > 24:
            break
    return tuple(chosen), first


# -- safetensors files: well-formed tables of tensors, and files with something wrong ----------------------------------


@st.composite
def described_tensors(draw: st.DrawFn) -> tuple[str, tuple[int, ...], int]:
    """Dtype and shape of a tensor that fills whole bytes, with how many."""
    dtype = draw(st.sampled_from(sorted(BITS)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    if prod(shape) * BITS[dtype] % 8:
        shape = (*shape, 4)
    return dtype, shape, prod(shape) * BITS[dtype] // 8


def tensor_tables() -> st.SearchStrategy[dict[str, tuple[str, tuple[int, ...], int]]]:
    """Keys of any text that UTF-8 can hold, each with a described tensor."""
    keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda key: key != "__metadata__")
    return st.dictionaries(keys, described_tensors(), max_size=5)


def json_values() -> st.SearchStrategy[object]:
    numbers = st.integers() | st.floats() | st.sampled_from([2**63, 2**64, -0.0, 1e400])
    return st.recursive(
        st.none() | st.booleans() | numbers | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )


@st.composite
def damaged_headers(draw: st.DrawFn) -> tuple[dict[str, object], int]:
    """A header with, in most cases, one part replaced, left out or added, and the size of its data."""
    header: dict[str, object] = {}
    at = 0
    for key, (dtype, shape, size) in draw(tensor_tables()).items():
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2))
    if header and draw(st.booleans()):
        part = header[draw(st.sampled_from(sorted(header)))]
        names = ["dtype", "shape", "data_offsets", "x"]
        part[draw(st.sampled_from(names))] = draw(json_values() | st.lists(st.integers(-2, 40), max_size=3))
    return header, max(at + draw(st.sampled_from([0, 0, 0, 1, -1])), 0)


_SPLICES = (b'"', b"{", b"}", b"[", b"]", b",", b":", b"-", b"-0", b"0", b"1.0", b"1e9", b"\\ud800", b"\\u0061", b"\0")


@st.composite
def safetensors_bytes(draw: st.DrawFn) -> bytes:
    """Files near to safetensors: well formed, with a damaged header, spliced, cut, or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=64))
    header, size = draw(damaged_headers())
    compact = draw(st.booleans())
    raw = json.dumps(header, ensure_ascii=draw(st.booleans()), separators=(",", ":") if compact else None)
    text = raw.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 3)))
        text = text[:start] + draw(st.sampled_from(_SPLICES) | st.binary(max_size=2)) + text[end:]
    text += b" " * draw(st.integers(0, 3))
    length = len(text) + draw(st.sampled_from([0, 0, 0, 0, 1, -1]))
    return max(length, 0).to_bytes(8, "little") + text + bytes(size)
