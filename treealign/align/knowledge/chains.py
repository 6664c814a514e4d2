"""Backbones whose blocks run one after another: each library cuts, numbers and names the same chain in its own way.

`features.4.1.block.1.0` in torchvision, `blocks.3.1.conv_dw` in timm and `encoder.blocks.9.depthwise_conv` in
transformers are one convolution. The table ``chains.json`` says of each library where its blocks stand, which run in
the order of their numbers, and what it calls the layers inside and before and behind them. Where both sides are
recognised as libraries of one family, have equally many blocks, and in all of these the same layers of equally many
numbers, the checkpoint is read under the model's names.

A row settles only where it was checked by running the library's module beside that of another, with the numbers that
the table says (``scripts/derive_chains.py``).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import prod
from typing import Any

from treealign.align.knowledge.chain_names import (
    Names,
    Numbers,
    by_any_number,
    longest,
    names_of,
    placed,
    unparametrised,
)
from treealign.align.knowledge.entries import Run, numbered, runs_of
from treealign.align.parameters import hold_whole
from treealign.align.spelling import respelled
from treealign.tree.keytree import KeyTree


@dataclass(frozen=True)
class Kind:
    """What the layers of one kind of block are called; `has` and `lacks` tell which kind a block is of."""

    has: tuple[Run, ...]
    lacks: tuple[Run, ...]
    names: Names

    def fits(self, block: Iterable[Run]) -> bool:
        """Whether a block is of this kind, by the paths of its leaves."""
        held = {path[:depth] for path in block for depth in range(1, len(path) + 1)}
        return all(run in held for run in self.has) and held.isdisjoint(self.lacks)


@dataclass(frozen=True)
class Series:
    """A list of blocks: where they stand, those of an earlier run first, and of which kinds they are.

    `period` is how many members of the list one block takes up.
    """

    blocks: tuple[tuple[int, Run], ...]
    kinds: tuple[Kind, ...]
    period: int


@dataclass(frozen=True, eq=False)
class Chain:
    """How one library spells a family of backbones.

    Attributes
    ----------
    family, library : str
        What is spelled, and by whom.
    has : tuple of tuple of tuple of str
        Runs below the root, each with its other spellings; one of each must be there.
    lacks : tuple of tuple of str
        Runs below the root that must not be there.
    ends : mapping
        Runs of layers before and behind the blocks, to the words of the family.
    series : tuple of Series
        Its lists of blocks, those of one family in one order.
    source : str
        Package, version and file.
    run : bool
        Whether it was checked by running the code.
    """

    family: str
    library: str
    has: tuple[tuple[Run, ...], ...]
    lacks: tuple[Run, ...]
    ends: Names
    series: tuple[Series, ...]
    source: str
    run: bool

    @property
    def name(self) -> str:
        """What evidence calls it.

        >>> next(row.name for row in chains() if row.library == "timm")
        'timm, blocks of inverted residuals'
        """
        return f"{self.library}, blocks of {self.family}"


@dataclass(frozen=True, eq=False)
class Block:
    """One block of a tree: its path, its leaves in the words of the family, and all by their paths in it."""

    above: Run
    leaves: Mapping[Run, int]
    below: Mapping[Run, int]


@dataclass(frozen=True, eq=False)
class Read:
    """A tree as one row of the table reads it: its blocks in order, and what stands before and behind them."""

    chain: Chain
    series: Sequence[Sequence[Block]]
    ends: Mapping[Run, int]

    @property
    def blocks(self) -> list[Block]:
        """All blocks, series by series."""
        return [block for blocks in self.series for block in blocks]


@cache
def chains() -> tuple[Chain, ...]:
    """All rows of the table."""
    text = resources.files("treealign.align.knowledge").joinpath("chains.json").read_text("utf-8")
    return tuple(map(_chain, json.loads(text)["chains"]))


def spelled_alike(checkpoint: KeyTree, model: KeyTree) -> tuple[KeyTree, Mapping[int, str]]:
    """The checkpoint, its blocks under the model's names where the table reads both as one chain.

    Positions of leaves stay what they are. Beside it, the evidence for each leaf that is read so, by its position.

    Notes
    -----
    Linear in the number of keys, times that of the rows whose marks stand.
    """
    mine = list(reads(checkpoint))
    theirs = list(reads(model)) if mine else []
    keys, said = list(checkpoint.keys), dict[int, str]()
    for one in mine:
        fitting = [other for other in theirs if fit(one, other, checkpoint, model)]
        if len(fitting) == 1:
            text = f"layout {one.chain.name}: blocks in the order of their numbers (checked: {one.chain.source}, run)"
            for at, key in _spelled(one, fitting[0], model):
                keys[at] = key
                said[at] = text
    return (respelled(checkpoint, keys), said) if said and len(set(keys)) == len(keys) else (checkpoint, {})


def reads(tree: KeyTree) -> Iterator[Read]:
    """The tree by each row whose marks stand, from each root."""
    paths = {path[:depth] for fold in tree.folds for path in (fold.segments,) for depth in range(1, len(path) + 1)}
    ending: dict[str, list[Run]] = defaultdict(list)
    for path in paths:
        ending[path[-1]].append(path)
    for chain in chains():
        first = (
            path[: len(path) - len(run)] for run in chain.has[0] for path in ending[run[-1]] if path[-len(run) :] == run
        )
        for root in sorted(set(first)):
            has = all(any((*root, *run) in paths for run in runs) for runs in chain.has)
            if has and "{}" not in root and not any((*root, *run) in paths for run in chain.lacks):
                yield from _read(chain, root, tree)


def fit(mine: Read, other: Read, checkpoint: KeyTree, model: KeyTree) -> bool:
    """Whether two trees have the same blocks, each with the same of all layers that both libraries have words for."""
    a, b = mine.chain, other.chain
    if a.family != b.family or a.library == b.library or not (a.run and b.run):
        return False
    if [len(blocks) for blocks in mine.series] != [len(blocks) for blocks in other.series]:
        return False
    here, there = ({path[:-1] for block in read.blocks for path in block.leaves} for read in (mine, other))
    shared = here & there
    if 2 * len(shared) < max(len(here), len(there)):
        return False
    pairs = zip(mine.blocks, other.blocks, strict=True)
    return all(_same(_sizes(x, shared, checkpoint), _sizes(y, shared, model)) for x, y in pairs)


def _sizes(block: Block, layers: set[Run], tree: KeyTree) -> dict[Run, int]:
    """How many real numbers each leaf of these layers holds: counters are not kept by everyone."""
    leaves = {path: tree.leaves[at] for path, at in block.leaves.items() if path[:-1] in layers}
    return {path: prod(leaf.shape or ()) for path, leaf in leaves.items() if not hold_whole({leaf.dtype})}


def _same(a: Mapping[Run, int], b: Mapping[Run, int]) -> bool:
    """Whether two blocks have the same layers, whose leaves hold equally many numbers each: some keep no bias."""
    shared = a.keys() & b.keys()
    return {path[:-1] for path in a} == {path[:-1] for path in b} == {path[:-1] for path in shared} and all(
        a[path] == b[path] for path in shared
    )


def _spelled(mine: Read, other: Read, model: KeyTree) -> Iterator[tuple[int, str]]:
    """The leaves that both read as one, under the model's keys; what else is in a block, under the path of that."""
    for here, there in zip(mine.blocks, other.blocks, strict=True):
        found = {at: model.keys[there.leaves[path]] for path, at in here.leaves.items() if path in there.leaves}
        yield from ((at, ".".join((*there.above, *path))) for path, at in here.below.items() if at not in found)
        yield from found.items()
    yield from ((at, model.keys[other.ends[path]]) for path, at in mine.ends.items() if path in other.ends)


def _read(chain: Chain, root: Run, tree: KeyTree) -> Iterator[Read]:
    """The tree by one row, from one root; nothing where a series has no block of a kind that it knows."""
    paths = {unparametrised(tuple(key.split("."))): at for at, key in enumerate(tree.keys)}
    below = {path[len(root) :]: at for path, at in paths.items() if path[: len(root)] == root}
    ends = {end: at for path, at in below.items() if (end := longest(path, chain.ends)) is not None}
    free = {path: at for path, at in below.items() if longest(path, chain.ends) is None}
    series = []
    for one in chain.series:
        blocks, taken = _blocks(one, root, free)
        free = {path: at for path, at in free.items() if path not in taken}
        series.append(blocks)
    more = ((by_any_number(path, chain.ends), at) for path, at in free.items())
    ends |= {end: at for end, at in more if end is not None}
    if any(series):
        yield Read(chain, series, ends)


def _blocks(series: Series, root: Run, leaves: Mapping[Run, int]) -> tuple[list[Block], set[Run]]:
    """The blocks of a series in order, and the leaves that are in them."""
    held: dict[Numbers, dict[Run, Run]] = defaultdict(dict)
    above: dict[Numbers, Run] = {}
    for path in leaves:
        for number, run, rest in placed(path, series.blocks, series.period):
            held[number][rest] = path
            above[number] = run
    longest_run = max(len(run) for _, run in series.blocks)
    found, taken = [], set[Run]()
    for number in sorted(held):
        kind = next((kind for kind in series.kinds if kind.fits(held[number])), None)
        if kind is None:
            continue
        named = {rest: longest(rest, kind.names) for rest in held[number]}
        known = {name: leaves[held[number][rest]] for rest, name in named.items() if name is not None}
        apart = series.period == 1 and len(above[number]) == longest_run  # a block with a level of its own
        below = {rest: leaves[path] for rest, path in held[number].items()} if apart else {}
        found.append(Block((*root, *above[number]), known, below))
        taken.update(path for rest, path in held[number].items() if apart or named[rest] is not None)
    return found, taken


def _chain(row: Mapping[str, Any]) -> Chain:
    return Chain(
        row["family"],
        row["library"],
        tuple(tuple(map(numbered, runs_of(path))) for path in row["has"]),
        tuple(numbered(run) for path in row.get("lacks", ()) for run in runs_of(path)),
        names_of(row["ends"]),
        tuple(map(_series, row["series"])),
        row["source"],
        row["checked"] == "run",
    )


def _series(row: Mapping[str, Any]) -> Series:
    blocks = tuple((order, run) for order, path in enumerate(row["blocks"]) for run in runs_of(path))
    kinds = tuple(
        Kind(_all(kind.get("has", kind["names"])), _all(kind.get("lacks", ())), names_of(kind["names"]))
        for kind in row["inside"]
    )
    return Series(blocks, kinds, row.get("period", 1))


def _all(paths: Iterable[str]) -> tuple[Run, ...]:
    return tuple(run for path in paths for run in runs_of(path))
