"""Paths of blocks and of the layers in them: matched segment by segment, numbers inside names included."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from treealign.align.knowledge.entries import Run, runs_of

Names = Mapping[Run, Run]
PARAMETRISED: Mapping[Run, str] = {  # a weight norm of torch.nn.utils.parametrizations, to what it was before
    ("parametrizations", "weight", "original0"): "weight_g",
    ("parametrizations", "weight", "original1"): "weight_v",
}
Numbers = tuple[int, ...]


def names_of(table: Mapping[str, str]) -> Names:
    """Runs to what they are called; ``a|b`` is one of two."""
    return {run: tuple(name.split(".")) for path, name in table.items() for run in runs_of(path)}


def longest(path: Run, names: Names) -> Run | None:
    """A leaf by its other name: that of the longest run with which it begins.

    >>> longest(("conv1", "weight"), {("conv1",): ("first", "conv")})
    ('first', 'conv', 'weight')
    """
    for depth in range(len(path), 0, -1):
        if (name := names.get(path[:depth])) is not None:
            return (*name, *path[depth:])
    return None


def unparametrised(path: Run) -> Run:
    """A leaf of a weight norm by its older name.

    >>> unparametrised(("conv1", "parametrizations", "weight", "original0"))
    ('conv1', 'weight_g')
    """
    old = PARAMETRISED.get(path[-3:])
    return path if old is None else (*path[:-3], old)


def by_any_number(path: Run, names: Names) -> Run | None:
    """A leaf by its other name, by a run in which ``{}`` stands for any number.

    >>> by_any_number(("features", "8", "0", "weight"), {("features", "{}", "0"): ("head", "conv")})
    ('head', 'conv', 'weight')
    """
    runs = ((run, name) for run, name in names.items() if any("{}" in segment for segment in run))
    return next(((*name, *path[len(run) :]) for run, name in runs if match(path, run) is not None), None)


def placed(path: Run, blocks: Sequence[tuple[int, Run]], period: int) -> Iterator[tuple[Numbers, Run, Run]]:
    """The number of the block that a leaf is in, the path of that, and the leaf's in it: by the longest run that fits.

    >>> list(placed(("layer1", "0", "conv1", "weight"), [(0, ("layer{}", "{}"))], 1))
    [((0, 1, 0), ('layer1', '0'), ('conv1', 'weight'))]
    """
    for order, run in sorted(blocks, key=lambda one: -len(one[1])):
        numbers = match(path, run)
        if numbers is None or len(path) <= len(run):
            continue
        above, rest = path[: len(run)], path[len(run) :]
        if period > 1:
            rest = (str(numbers[-1] % period), *rest)
            numbers = (*numbers[:-1], numbers[-1] // period)
        yield (order, *numbers), above, rest
        return


def match(path: Run, run: Run) -> Numbers | None:
    """The numbers in a path that begins with a run; None where it does not.

    >>> match(("block2", "block2-0", "f"), ("block{}", "block{}-{}")), match(("block",), ("block{}",))
    ((2, 2, 0), None)
    """
    if len(path) < len(run):
        return None
    found: list[int] = []
    for segment, mark in zip(path, run, strict=False):
        fits = _compiled(mark).fullmatch(segment)
        if fits is None:
            return None
        found += map(int, fits.groups())
    return tuple(found)


@cache
def _compiled(mark: str) -> re.Pattern[str]:
    return re.compile(r"([0-9]+)".join(re.escape(text) for text in mark.split("{}")), re.ASCII)
