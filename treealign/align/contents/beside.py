"""Leaves that tell nothing themselves, beside leaves of their module that do: a bias of zeros, a scale of ones.

Where a module's other leaves went to one module, or to several that nothing else went to, the leaf goes there too, if
it is the only one of its shape and its content is equal under the same operations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace

from treealign.align.contents.fingerprints import Contents, Settled, Sizes
from treealign.errors import MappingError
from treealign.mapping.operations import Operation, Parallel, Permute, Reshape, Stack, Unstack, output_shapes
from treealign.tree.keytree import KeyTree

BESIDE = "equal content, beside a leaf of equal content"
Modules = tuple[str, ...]
Around = Mapping[str, Sequence[int]]


def beside(contents: Contents, trees: tuple[KeyTree, KeyTree], settled: Sequence[Settled]) -> list[Settled]:
    """What can be settled by what is settled beside it."""
    used = {i for s in settled for i in s.left}, {j for s in settled for j in s.right}
    around = _open(trees[0], used[0]), _open(trees[1], used[1])
    found = []
    for s, (mine, theirs) in _alone(settled, trees):
        if all(m in around[0] for m in mine) and all(m in around[1] for m in theirs):
            found += list(_companions(contents, s.operations, (mine, theirs), around, trees))
    return found


def _module(tree: KeyTree, at: int) -> str:
    return tree.keys[at].rpartition(".")[0]


def _open(tree: KeyTree, used: set[int]) -> dict[str, list[int]]:
    """Leaves not yet settled, by module; leaves without a module have nothing beside them."""
    found: dict[str, list[int]] = defaultdict(list)
    for at in range(len(tree)):
        if at not in used and _module(tree, at) and tree.keys[at] not in tree.tied:
            found[_module(tree, at)].append(at)
    return found


def _alone(
    settled: Sequence[Settled], trees: tuple[KeyTree, KeyTree]
) -> Iterator[tuple[Settled, tuple[Modules, Modules]]]:
    """One of the settled matches for each set of modules that correspond to nothing else."""
    ends: dict[tuple[Modules, Modules], Settled] = {}
    met: tuple[dict[str, set[object]], dict[str, set[object]]] = (defaultdict(set), defaultdict(set))
    for s in settled:
        mine = tuple(_module(trees[0], i) for i in s.left)
        theirs = tuple(_module(trees[1], j) for j in s.right)
        ends.setdefault((mine, theirs), s)
        for side, modules in zip(met, (mine, theirs), strict=True):
            for m in modules:
                side[m].add((mine, theirs))
    for (mine, theirs), s in ends.items():
        single = all(len(met[0][m]) == 1 for m in mine) and all(len(met[1][m]) == 1 for m in theirs)
        if single and len(set(mine)) == len(mine) and len(set(theirs)) == len(theirs):
            yield s, (mine, theirs)


def _companions(
    contents: Contents,
    operations: Sequence[Operation],
    modules: tuple[Modules, Modules],
    around: tuple[Around, Around],
    trees: tuple[KeyTree, KeyTree],
) -> Iterator[Settled]:
    left = [_by_shape(trees[0], around[0][m]) for m in modules[0]]
    right = [_by_shape(trees[1], around[1][m]) for m in modules[1]]
    # each module has one candidate; where it has several of different shapes, only plain renames go shape by shape
    if len(left) == len(right) == 1:
        for shape in left[0].keys() & right[0].keys():
            yield from _agreeing(contents, [left[0][shape]], [right[0][shape]], ())
    if operations and all(len(side) == 1 for side in (*left, *right)):
        taken, given = ([next(iter(side.values())) for side in sides] for sides in (left, right))
        shapes = [next(iter(side)) for side in left]
        fitting = for_vectors(operations, shapes, [next(iter(side)) for side in right])
        if fitting:
            yield from _agreeing(contents, taken, given, fitting)


def _by_shape(tree: KeyTree, leaves: Sequence[int]) -> dict[Sizes, int | None]:
    """The only leaf of each shape; None where there are several."""
    found: dict[Sizes, int | None] = {}
    for at in leaves:
        shape = tree.leaves[at].shape or ()
        found[shape] = None if shape in found else at
    return found


def _agreeing(
    contents: Contents, left: Sequence[int | None], right: Sequence[int | None], operations: tuple[Operation, ...]
) -> Iterator[Settled]:
    taken, given = tuple(i for i in left if i is not None), tuple(j for j in right if j is not None)
    if len(taken) < len(left) or len(given) < len(right):
        return
    if not operations:
        a, b = contents.left[taken[0]], contents.right[given[0]]
        equal = a is not None and b is not None and a.identity == b.identity
    else:
        equal = contents.confirm(taken, given, operations)
    if equal:
        yield Settled(taken, given, operations, BESIDE)


def for_vectors(
    operations: Sequence[Operation], before: Sequence[Sizes], after: Sequence[Sizes]
) -> tuple[Operation, ...]:
    """Operations on the rows of matrices as operations on vectors; none where they do not fit.

    >>> from treealign.mapping.operations import Concat
    >>> for_vectors((Permute((1, 0)), Concat(1, (8, 2))), [(8,), (2,)], [(10,)])
    (Concat(0, (8, 2)),)
    """
    if any(len(shape) != 1 for shape in before):
        stacked = any(isinstance(o, Unstack) for o in operations)
    else:
        stacked = any(isinstance(o, Stack) for o in operations)
    kept = [o for o in operations if not isinstance(o, Permute | Reshape)]
    made = tuple(_flattened(o, 1 if stacked else 0) for o in kept)
    try:
        return made if list(output_shapes(made, before)) == list(after) else ()
    except MappingError:
        return ()


def _flattened(operation: Operation, dim: int) -> Operation:
    if isinstance(operation, Stack | Unstack):
        return replace(operation, dim=0)
    if isinstance(operation, Parallel) or not any(f.name == "dim" for f in fields(operation)):
        return operation
    return replace(operation, dim=dim)  # type: ignore[call-arg]
