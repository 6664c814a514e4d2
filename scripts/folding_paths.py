"""Paths of two libraries as a table: an index as `{}` wherever it was seen to be one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, combinations

NUMBER = re.compile(r"\d+$")


def module(key: str) -> str:
    """The module of a leaf whose name both sides share; a bare parameter is its own."""
    return re.sub(r"\.(weight|bias|running_mean|running_var|num_batches_tracked)$", "", key)


def is_weight(key: str) -> bool:
    """Whether it is the weight of a module."""
    return key.endswith(".weight")


def last_of(key: str) -> str:
    """The end of a leaf's path from its module on, from the list on where that is a member of one.

    >>> last_of("layers.0.fc1.weight"), last_of("mlp.layers.0.weight")
    ('fc1.weight', 'layers.{}.weight')
    """
    path = [NUMBER.sub("{}", segment) if segment.isdigit() else segment for segment in key.split(".")]
    return ".".join(path[-3:] if path[-2] == "{}" else path[-2:])


def grouped(ends: Iterable[str]) -> list[str]:
    """Ends of paths, those of one name as one.

    >>> grouped(["fc1.weight", "fc2.weight", "layers.{}.weight"])
    ['fc1|fc2.weight', 'layers.{}.weight']
    """
    alone = sorted(end.removesuffix(".weight") for end in ends if end.count(".") == 1)
    return [*([f"{'|'.join(alone)}.weight"] if alone else []), *sorted(end for end in ends if end.count(".") > 1)]


def modules(mine: str, theirs: str) -> tuple[str, str]:
    """The modules of two leaves that both call alike; of others, their whole paths."""
    both = module(mine), module(theirs)
    return both if mine[len(both[0]) :] == theirs[len(both[1]) :] else (mine, theirs)


def roles_of(parts: list[str]) -> str:
    """The roles of the parts of a whole, where they are those of an attention or of a gated MLP."""
    names = {"query": "q", "key": "k", "value": "v", **{role: role for role in ("q", "k", "v", "gate", "up")}}
    told = [names.get(module(part).rpartition(".")[2].removesuffix("_proj"), "") for part in parts]
    return " ".join(told) if len(parts) > 1 and all(told) else ""


def folded(pairs: Mapping[str, str]) -> dict[str, str]:
    """Pairs of paths, an index as `{}` where it was seen with two numbers, and all that differ in it agree."""
    left, found = dict(pairs), {}
    while left:
        mine, theirs = next(iter(left.items()))
        segments = mine.split(".")
        digits = [at for at, segment in enumerate(segments) if segment[-1].isdigit()]
        kept = chain.from_iterable(combinations(digits, n) for n in range(len(digits) + 1))
        free = ([at for at in digits if at not in some] for some in kept)
        marked = ((mark, reading) for some in free for mark, reading in _marked(segments, theirs, some))
        mark, reading = next((one for one in marked if _holds(*one, pairs)), (mine, theirs))
        found[mark] = reading
        left = {a: b for a, b in left.items() if not _at(mark, a)}
    return found


def _marked(segments: list[str], theirs: str, free: list[int]) -> Iterator[tuple[str, str]]:
    """A path with `{}` for some indices, and each way in which the other has these in their order."""
    mark = ".".join(NUMBER.sub("{}", segment) if at in free else segment for at, segment in enumerate(segments))
    wanted, other = _indices(mark, ".".join(segments)), theirs.split(".")
    for places in combinations(range(len(other)), len(free)):
        if [other[at] for at in places] == wanted:
            yield mark, ".".join("{}" if at in places else segment for at, segment in enumerate(other))


def _at(mark: str, path: str) -> bool:
    return re.fullmatch(re.escape(mark).replace(r"\{\}", r"\d+"), path) is not None


def _holds(mark: str, reading: str, pairs: Mapping[str, str]) -> bool:
    """Whether all pairs that a mark speaks of read as it says, of which each index has two numbers at least."""
    some = {tuple(_indices(mark, mine)): theirs for mine, theirs in pairs.items() if _at(mark, mine)}
    seen = all(len(set(column)) > 1 for column in zip(*some, strict=True))
    return seen and all(reading.replace("{}", "%s") % indices == theirs for indices, theirs in some.items())


def _indices(mark: str, path: str) -> list[str]:
    return [NUMBER.findall(a)[0] for a, b in zip(path.split("."), mark.split("."), strict=True) if "{}" in b]


def alike(said: Mapping[str, str]) -> dict[str, str]:
    """What is said of paths, all indices as `{}` where nothing else is said of any of these."""
    marks: dict[str, set[str]] = defaultdict(set)
    for path, text in said.items():
        marks[".".join(NUMBER.sub("{}", segment) for segment in path.split("."))].add(text)
    return {mark: texts.pop() for mark, texts in marks.items() if len(texts) == 1}
