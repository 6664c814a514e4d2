"""Operations of transformers that are one of ours, each beside what it is read as and what it is written for.

Ours carry sizes, theirs do not: they are read off the shapes of the tensors before and after, and one of ours is
written only where the reverse of theirs gives the same sizes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from treealign.dialects.transformers.entries import Call
from treealign.errors import MappingError, PatternError
from treealign.mapping.operations import (
    Concat,
    Deinterleave,
    Interleave,
    Keep,
    Operation,
    Parallel,
    Permute,
    Reshape,
    Split,
    Stack,
    Unstack,
)

Shape = tuple[int, ...]
Tensors = Mapping[str, Sequence[Shape]]
OURS_DO = "treealign's own load and save do it"
_DEEP = 5


class Moment(NamedTuple):
    """The tensors before and after one operation of theirs, by what transformers calls them then."""

    operation: Any
    before: Tensors
    after: Tensors
    config: Any

    @property
    def first(self) -> Shape:
        """The shape of the first tensor."""
        return next(iter(self.before.values()))[0]

    @property
    def made(self) -> list[Shape]:
        """The shapes of what came out."""
        return [shape for shapes in self.after.values() for shape in shapes]

    @property
    def only(self) -> Shape:
        """The only tensor: what operations on one would silently drop of more is refused."""
        count = sum(map(len, self.before.values()))
        if count != 1:
            name = type(self.operation).__name__
            raise PatternError(f"{name} takes the first of {count} tensors and drops the others")
        return self.first

    def each(self, make: Callable[[str, Sequence[Shape]], Operation | None]) -> list[Operation]:
        """One operation for the tensors of each pattern; None leaves one as it is."""
        made = [make(name, shapes) for name, shapes in self.before.items()]
        if not any(made):
            return []
        alike = all(operation == made[0] for operation in made)
        return [made[0]] if alike and made[0] else [Parallel(tuple(operation or Keep() for operation in made))]


class Site(NamedTuple):
    """Where one operation of ours is written: the patterns on each side, in the order in which it takes them.

    A pattern with ``*.`` in it stands for a whole list. From the model's config, where there is one, transformers reads
    the number of heads.
    """

    sources: Sequence[str]
    targets: Sequence[str]
    config: Any


# -- lists of tensors --------------------------------------------------------------------------------------------------


def read_merge(moment: Moment) -> list[Operation]:
    """`MergeModulelist`: each list is stacked."""
    return moment.each(lambda _, shapes: Stack(moment.operation.dim % (len(shapes[0]) + 1), len(shapes)))


def write_stack(operation: Stack, site: Site) -> tuple[Call, ...]:
    """Tensors that have a pattern each get a level of one, and are joined."""
    dim = (("dim", operation.dim),)
    several = operation.count == len(site.sources) > 1
    return (Call("MergeModulelist", dim), *([Call("Concatenate", dim)] if several else []))


def read_unmerge(moment: Moment) -> list[Operation]:
    """`SplitModulelist`: each tensor is taken apart into a list."""

    def unstack(_: str, shapes: Sequence[Shape]) -> Operation:
        dim = moment.operation.dim % len(shapes[0])
        return Unstack(dim, shapes[0][dim])

    return moment.each(unstack)


def write_unstack(operation: Unstack, site: Site) -> tuple[Call, ...]:
    """Into tensors that have a pattern each: transformers does it for a list only when it saves."""
    if not operation.count == len(site.targets) > 1:
        raise MappingError(
            f"transformers takes a stack apart into a list only when it saves: no {operation!r} beside others",
            hint=OURS_DO,
        )
    dim = (("dim", operation.dim),)
    return Call("Chunk", dim), Call("SplitModulelist", dim)


def read_concatenate(moment: Moment) -> list[Operation]:
    """`Concatenate`: parts are joined."""
    shapes = [shape for held in moment.before.values() for shape in held]
    dim = moment.operation.dim % len(moment.first)
    return [Concat(dim, tuple(shape[dim] for shape in shapes))] if len(shapes) > 1 else []


def write_concat(operation: Concat, site: Site) -> tuple[Call, ...]:
    """Only of parts that the reverse cuts again."""
    sizes = _ints(operation.sizes)
    if not as_chunks(sizes):
        raise MappingError(
            f"transformers joins parts of {' + '.join(map(str, sizes))}, but its reverse cuts equal ones",
            facts=[repr(operation)],
            hint=OURS_DO,
        )
    return (Call("Concatenate", (("dim", operation.dim),)),)


def read_split(moment: Moment) -> list[Operation]:
    """`Chunk` and `Split`: a tensor is cut."""
    dim = moment.operation.dim % len(moment.only)
    return [Split(dim, tuple(shape[dim] for shape in moment.made))] if len(moment.made) > 1 else []


def write_split(operation: Split, site: Site) -> tuple[Call, ...]:
    """Into chunks where `torch.chunk` cuts there, else with sizes that transformers takes from the model."""
    return (Call("Chunk" if as_chunks(_ints(operation.sizes)) else "Split", (("dim", operation.dim),)),)


def as_chunks(sizes: Sequence[int]) -> bool:
    """Whether `torch.chunk` cuts the whole just there.

    >>> as_chunks((4, 4, 4)), as_chunks((4, 4, 3)), as_chunks((8, 2, 2))
    (True, True, False)
    """
    each = -(-sum(sizes) // len(sizes))
    return all(size == each for size in sizes[:-1]) and 0 < sizes[-1] <= each


def _ints(sizes: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in sizes)


# -- one tensor --------------------------------------------------------------------------------------------------------


def read_transpose(moment: Moment) -> list[Operation]:
    """`Transpose`: two dimensions change places."""
    rank, operation = len(moment.only), moment.operation
    if operation.check_dims and moment.made == [moment.first]:
        # it looks at the model's shape, and leaves what fits as it is: a square one, too
        return []
    return [Permute.transpose(rank, operation.dim0 % rank, operation.dim1 % rank)]


def write_permute(operation: Permute, site: Site) -> tuple[Call, ...]:
    """Exchanges of two dimensions at a time.

    >>> [call.arguments for call in write_permute(Permute((2, 0, 1)), Site((), (), None))]
    [(('dim0', 0), ('dim1', 2)), (('dim0', 1), ('dim1', 2))]
    """
    order, calls = list(range(len(operation.dims))), list[Call]()
    for at, dim in enumerate(operation.dims):
        other = order.index(dim)
        if other != at:
            order[at], order[other] = order[other], order[at]
            calls.append(Call("Transpose", (("dim0", at), ("dim1", other))))
    return tuple(calls)


def read_interleave(moment: Moment) -> list[Operation]:
    """`Interleave`: halves take turns, or what takes turns is put apart."""
    dim = moment.operation.dim % len(moment.only)
    return [(Interleave if moment.operation.inverse else Deinterleave)(dim, (1, 1))]


def write_interleave(operation: Interleave | Deinterleave, site: Site) -> tuple[Call, ...]:
    """Only of two halves."""
    inverse = (("inverse", True),) if isinstance(operation, Interleave) else ()
    return (Call("Interleave", (("dim", operation.dim), *inverse)),) if operation.blocks == (1, 1) else ()


def read_reshape(moment: Moment) -> list[Operation]:
    """`Conv3dToLinear` and `LinearToConv3d`: a kernel laid flat, or set up."""
    before, after = moment.only, moment.made[0]
    return [Reshape(before, after)] if before != after else []


def write_reshape(operation: Reshape, site: Site) -> tuple[Call, ...]:
    """What makes one shape of the other and can be undone."""
    made = reshapes(_ints(operation.before), _ints(operation.after))
    if not made:
        raise MappingError(
            "transformers flattens kernels of two and three dimensions, and takes one level of one in or out: "
            f"no {operation!r}",
            hint=OURS_DO,
        )
    return made


def reshapes(before: Sequence[int], after: Sequence[int]) -> tuple[Call, ...]:
    """The operations that make one shape of the other and can be undone; nothing where there is no such thing.

    `MergeModulelist` of a list of one puts a level of one in, and stands first, for later it passes tensors through;
    `SplitModulelist` takes such a level away. `Conv3dToLinear` flattens five dimensions to two, and its reverse sets
    them up again. Both keep the first dimension, so that five, four and two dimensions become each other, but not
    three.

    >>> [call.name for call in reshapes((8, 3, 2, 2), (8, 12))]
    ['MergeModulelist', 'Conv3dToLinear']
    >>> [call.name for call in reshapes((1, 8, 4), (8, 4))]
    ['SplitModulelist']
    """
    level = _level(before, after)
    if level is not None:
        return (Call("SplitModulelist" if len(before) > len(after) else "MergeModulelist", (("dim", level),)),)
    ranks = {len(before), len(after)}
    if before[:1] != after[:1] or not ranks <= {2, _DEEP - 1, _DEEP} or len(before) + len(after) < 6:
        return ()
    flat, deep = (_kernel("Conv3dToLinear", before), _kernel("LinearToConv3d", after))
    return (*_levels("MergeModulelist", before), *flat, *deep, *_levels("SplitModulelist", after))


def _level(before: Sequence[int], after: Sequence[int]) -> int | None:
    """Where one shape has a dimension of one more than the other, which is the same but for that."""
    longer, shorter = sorted((tuple(before), tuple(after)), key=len, reverse=True)
    if len(longer) != len(shorter) + 1:
        return None
    return next((n for n, size in enumerate(longer) if size == 1 and longer[:n] + longer[n + 1 :] == shorter), None)


def _levels(name: str, shape: Sequence[int]) -> tuple[Call, ...]:
    return (Call(name, (("dim", 2),)),) if len(shape) == _DEEP - 1 else ()


def _kernel(name: str, shape: Sequence[int]) -> tuple[Call, ...]:
    if len(shape) == 2:
        return ()
    sizes = (1,) * (_DEEP - len(shape)) + tuple(shape[2:])
    return (Call(name, (("in_channels", shape[1]), ("kernel_size", sizes))),)
