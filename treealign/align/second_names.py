"""Second names of tied weights that a checkpoint has written out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import takewhile

from treealign.tree.keytree import KeyTree

INSIDE = 3  # segments that two keys share at the end where both have levels of their own above: a module in a module
Path = tuple[str, ...]
Heads = tuple[str, str]  # what stands above, in the model and in the checkpoint, with its dot


def second_names(checkpoint: KeyTree, model: KeyTree) -> frozenset[str]:
    """Keys of the checkpoint that are called as second names of tied weights are, where the first stand there too.

    They are for themselves: no other place is filled with them while matches are found. The checkpoint may have other
    levels above the first name than the model (``transformer.decoder`` for ``model.decoder``), and then above the
    second ones: the twelve box heads of a detector are one module, written out twelve times.
    """
    if not model.tied:
        return frozenset()
    shape_of = {leaf.key: leaf.shape for leaf in checkpoint.leaves}
    heads = _heads({first: model.leaf(first).shape for first in model.tied.values()}, shape_of)
    found = set()
    for key, first in model.tied.items():
        there = _led(first, heads[first]) if first in heads else ""
        names = {key, _led(key, heads[first])} & shape_of.keys() - {there} if there else set()
        found |= {name for name in names if shape_of[name] == shape_of[there]}
    return frozenset(found)


def _led(key: str, heads: Heads) -> str:
    """A key of the model as the checkpoint has it, if these levels stand above it.

    >>> _led("model.decoder.head.1.bias", ("model.", "transformer."))
    'transformer.decoder.head.1.bias'
    """
    return heads[1] + key.removeprefix(heads[0]) if key.startswith(heads[0]) else key


def _heads(firsts: Mapping[str, object], shape_of: Mapping[str, object]) -> dict[str, Heads]:
    """The levels that the two sides have above each first name, of those that one key of the checkpoint alone bears."""
    found = {first: ("", "") for first in firsts if first in shape_of}
    rest = [first for first in firsts if first not in found]
    ends: dict[Path, list[str]] = defaultdict(list)
    for key in shape_of if rest else ():
        ends[tuple(key.split(".")[-2:])].append(key)
    for first in rest:
        near = ends.get(tuple(first.split(".")[-2:]), [])
        alike = [key for key in near if shape_of[key] == firsts[first]]
        shared = {key: _shared_end(first.split("."), key.split(".")) for key in alike}
        most = max(shared.values(), default=0)
        keys = [key for key, count in shared.items() if count == most]
        whole = min(len(first.split(".")), *(len(key.split(".")) for key in keys)) if keys else 0
        if len(keys) == 1 and (most >= INSIDE or most == whole):
            found[first] = _above(first, most), _above(keys[0], most)
    return found


def _shared_end(a: Sequence[str], b: Sequence[str]) -> int:
    """How many segments two paths share at the end."""
    pairs = zip(reversed(a), reversed(b), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _above(key: str, shared: int) -> str:
    """What stands above the last segments of a key, with the dot behind it.

    >>> _above("model.decoder.head.weight", 2), _above("head.weight", 2)
    ('model.decoder.', '')
    """
    above = key.split(".")[:-shared]
    return ".".join([*above, ""]) if above else ""
