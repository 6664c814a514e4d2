"""What vLLM stacks, read as conversions and written for conversions.

A layer of vLLM (`QKVParallelLinear`, `MergedColumnParallelLinear`) lays its shards one after the other along the first
dimension: q, k and v, or in the order of their numbers. That is the parameter of one process; with tensor parallelism
each holds its part of every shard. Everything else than that is the model's own `load_weights`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations, takewhile
from typing import Any, NamedTuple

from treealign.dialects.given import ELSEWHERE
from treealign.dialects.transformers.sides import Sides
from treealign.dialects.vllm_entries import PASSES, Entry, map_by, map_name
from treealign.errors import MappingError, PatternError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.operations import Concat, Operation, Split, Stack
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import Convert
from treealign.tree.grammar import is_literal
from treealign.tree.keytree import KeyTree

_LETTERS = "qkv"


class _Part(NamedTuple):
    """A weight: the name it has beside what is stacked, its entry, and its rows."""

    name: str
    entry: Entry
    rows: int


class _Division(NamedTuple):
    """Weights that are stacked, as patterns, and their rows."""

    sources: tuple[str, ...]
    sizes: tuple[int, ...]


class Shards:
    """The keys of a checkpoint and what vLLM makes of them, with and without stacking."""

    def __init__(self, entries: Sequence[Entry], tree: KeyTree) -> None:
        others = [entry for entry in entries if entry.kind != "stacked"]
        first = [entry for entry in entries if PASSES.index(entry.kind) <= PASSES.index("stacked")]
        self.shapes = {leaf.key: leaf.shape for leaf in tree.leaves}
        self.stacked = {key: map_name(entries, key) for key in tree.keys}
        self.apart = {key: map_name(others, key) for key in tree.keys}
        self.entry = {key: shard_entry(first, key) for key in tree.keys}

    def groups(self, entries: Sequence[Entry]) -> dict[str, list[_Part]]:
        """Parameter of vLLM to the weights that it is made of.

        Raises
        ------
        PatternError
            A weight has no rows, or its shape is unknown.
        """
        found: dict[str, list[_Part]] = {}
        for key, target in self.stacked.items():
            name, entry = self.apart[key], self.entry[key]
            if entry is None or entry not in entries or name is None or target is None:
                continue
            shape = self.shapes[key]
            if not shape:
                raise PatternError(f"{key} has no rows that could be stacked")
            found.setdefault(target, []).append(_Part(name, entry, shape[0]))
        return found

    def refuse_difference(self, transforms: Sequence[Transform], entries: Sequence[Entry]) -> None:
        """Refuse transforms that make other names of the keys of these entries than vLLM.

        Raises
        ------
        PatternError
            Naming one.
        """
        keys = [key for key, name in self.stacked.items() if name is not None and self.entry[key] in entries]
        try:
            made = ConversionMapping(transforms).map_keys(keys, converted=False)
        except MappingError as error:
            raise PatternError(error.what) from error
        for key in keys:
            if made[key] != (self.stacked[key],):
                raise PatternError(f"a key pattern would make {made[key][0]} of {key}, not {self.stacked[key]}")


def shard_entry(entries: Sequence[Entry], key: str) -> Entry | None:
    """The entry that says into which shard a weight goes."""
    found, name = None, key
    for entry in entries:
        made = map_by(entry, name)
        if made is None:
            return None
        found = entry if entry.kind == "stacked" and entry.old in name else found
        name = made
    return found


def conversions(entries: Sequence[Entry], shards: Shards) -> list[Transform]:
    """The conversions that stack what these entries, all of one target, name.

    One for each division of the rows: a vision tower has other sizes than the text model beside it.

    Raises
    ------
    PatternError
        They are no whole segments, or the checkpoint does not show one order and one size of the parts.
    """
    ranks = sorted({rank(entry) for entry in entries})
    target = _segments(str(entries[0].new))
    divisions: dict[_Division, list[str]] = {}
    for name, parts in shards.groups(entries).items():
        held = sorted(parts, key=lambda part: rank(part.entry))
        if [rank(part.entry) for part in held] != ranks:
            raise PatternError(f"{name} is not made of one weight for each of its shards")
        sources = tuple(f"**.{_segments(part.entry.old)}" for part in held)
        divisions.setdefault(_Division(sources, tuple(part.rows for part in held)), []).append(held[0].name)
    return [
        Convert(division.sources, f"**.{target}", [Concat(0, division.sizes)], under)
        for division, under in _places(divisions)
    ]


def rank(entry: Entry) -> int:
    """Where among the shards of its parameter a weight lies.

    Raises
    ------
    PatternError
        It fills several that do not lie together.
    """
    shard: Any = entry.held
    if shard in tuple(_LETTERS):
        return _LETTERS.index(shard)
    if isinstance(shard, int):
        return shard
    if isinstance(shard, tuple) and shard == tuple(range(shard[0], shard[0] + len(shard))):
        # what fills several neighbouring shards
        return int(shard[0])
    raise PatternError(f"a weight goes into the shards {shard!r}, one after the other")


def _segments(text: str) -> str:
    """Fixed text as whole segments."""
    body = text.strip(".")
    if not body or not all(map(is_literal, body.split("."))):
        raise PatternError(f"`{text}` is not made of segments")
    return body


def _places(divisions: dict[_Division, list[str]]) -> Iterable[tuple[_Division, str]]:
    """Each division with the module below which it holds.

    Raises
    ------
    PatternError
        Modules with different sizes lie within each other.
    """
    if len(divisions) == 1:
        return [(next(iter(divisions)), "")]
    places = [(division, _above(names)) for division, names in divisions.items()]
    inside = [
        a
        for a, b in permutations(places, 2)
        if a[0].sources == b[0].sources and f"{b[1]}.".startswith(f"{a[1]}." if a[1] else "")
    ]
    if inside:
        raise PatternError(f"the sizes of the shards differ within {inside[0][1] or 'the model'}")
    return places


def _above(names: Sequence[str]) -> str:
    """The innermost module that holds them all, as far as no index is part of its name."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    common = takewhile(lambda level: len(set(level)) == 1 and not level[0].isdecimal(), levels)
    return ".".join(level[0] for level in common)


_WHY: dict[type[Operation], str] = {
    Stack: "experts go into a FusedMoE layer, by what its make_expert_params_mapping lists",
    Split: "one weight becomes several, which vLLM keeps as one: let the mapping end at that one",
}


def stacked_entries(converts: Sequence[Convert], held: Sides) -> list[list[Entry]]:
    """The entries for these conversions, the plainest first: which of them fit is seen on the keys.

    With the name that changes, or with what stands before it too; with the dot behind it, or without.

    Raises
    ------
    MappingError
        Something else than joining along the first dimension, or no fixed text; naming the transform.
    """
    if not converts:
        return [[]]
    _refuse_other(held, converts)
    if held.sampled:
        raise MappingError(
            "which weights vLLM stacks is seen on keys only, and none are given",
            facts=list(map(repr, converts)),
            hint="pass the checkpoint, or the model",
        )
    # towers of other sizes are stacked by the same names
    return [list(dict.fromkeys(_entries(converts, end, whole))) for whole in (False, True) for end in (".", "")]


def _refuse_other(held: Sides, converts: Sequence[Convert]) -> None:
    """Raise where a step is no joining of weights along the first dimension."""
    found: dict[str, None] = {}
    for step in held.steps:
        odd = [one for one in step.operations if not (isinstance(one, Concat) and one.dim == 0)]
        if odd or len(step.operations) > 1:
            why = next((text for kind, text in _WHY.items() if any(isinstance(one, kind) for one in odd)), "")
            says = f"{', '.join(step.targets)} of {step.sources[0]}: {' + '.join(map(repr, step.operations))}"
            found.setdefault("\n    ".join([says, *([why] if why else [])]))
    if found:
        raise MappingError(
            "vLLM's WeightsMapper renames, and stacks weights along their first dimension; this mapping converts "
            "otherwise",
            facts=[*list(found)[:5], *(f"by {convert!r}" for convert in converts)],
            hint=ELSEWHERE,
        )


def _entries(converts: Sequence[Convert], end: str, whole: bool) -> Iterator[Entry]:
    for convert in converts:
        target = convert.targets[0]
        texts = [_texts(source, target, end, whole) for source in convert.sources]
        for shard, (old, new) in zip(_shards([old for old, _ in texts]), texts, strict=True):
            yield Entry("stacked", old, new, shard)


def _texts(source: str, target: str, end: str, whole: bool) -> tuple[str, str]:
    """What differs between two patterns, or all from the last index on, as fixed text of whole segments."""
    old, new = ([*side.removeprefix("**.").removesuffix("$").split(".")] for side in (source, target))
    inner, last = source.startswith("**."), False
    while len(old) > 1 and len(new) > 1 and old[0] == new[0] and not (whole and all(map(is_literal, old[:-1]))):
        old, new, inner = old[1:], new[1:], True
    while len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
        old, new, last = old[:-1], new[:-1], True
    if not all(map(is_literal, (*old, *new))):
        raise MappingError("vLLM stacks by fixed text", facts=[f"{source} becomes {target}"], hint=ELSEWHERE)
    before, behind = "." * inner, "." if last else end
    return f"{before}{'.'.join(old)}{behind}", f"{before}{'.'.join(new)}{behind}"


def _shards(names: Sequence[str]) -> Sequence[str | int]:
    """Letters for query, key and value, which one kind of layer wants; numbers for the others."""
    three = len(names) == len(_LETTERS)
    last = [name.strip(".").rpartition(".")[2] for name in names]
    return _LETTERS if three and all(map(_says, last, _LETTERS)) else range(len(names))


def _says(name: str, letter: str) -> bool:
    return any(word.startswith(letter) for word in name.split("_"))


def wrong_shards(entries: Sequence[Entry], held: Sides) -> list[str]:
    """Keys that would become another shard than the mapping says, or one though they are none."""
    first = [entry for entry in entries if PASSES.index(entry.kind) <= PASSES.index("stacked")]
    wrong: list[str] = []
    for step in held.steps:
        for place, key in enumerate(step.sources):
            entry = shard_entry(first, key)
            if (None if entry is None else rank(entry)) != (place if step.operations else None):
                wrong.append(f"{key} becomes shard {None if entry is None else entry.held!r} of {step.targets[0]}")
    return wrong


def packed(entries: Sequence[Entry]) -> Mapping[str, list[str]]:
    """Each layer that is stacked to the layers that it is made of, as vLLM's quantisation and LoRA ask for them."""
    found: dict[str, dict[str, None]] = {}
    for entry in entries:
        if entry.kind == "stacked" and entry.new is not None:
            found.setdefault(module_of(entry.new), {})[module_of(entry.old)] = None
    return {layer: list(parts) for layer, parts in found.items()}


def module_of(text: str) -> str:
    """The name of the module in fixed text."""
    return text.strip(".").rpartition(".")[2]
