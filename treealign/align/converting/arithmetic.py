"""Numbers that a known library writes otherwise than the model holds them: a norm plus one, a decay for its logarithm.

Names and shapes are the same, so that a plain rename would load, and compute something else. Data:
``knowledge/arithmetic.json``, each entry with its source. It is undone where a file says by its architecture that this
library wrote its numbers; names alone may be anybody's. Which norms are meant is told by the class of the model's
module, or by that architecture.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.mapping.operations import Operation, from_json, invert
from treealign.tree.keytree import KeyTree


@dataclass(frozen=True)
class Entry:
    """What one library does to some leaves; `operations` undo it."""

    library: str
    key: str
    other: str
    classes: frozenset[str]
    architectures: frozenset[str]
    operations: tuple[Operation, ...]


@cache
def entries() -> tuple[Entry, ...]:
    """The table."""
    text = resources.files("treealign.align").joinpath("knowledge/arithmetic.json").read_text(encoding="utf-8")
    return tuple(map(_entry, json.loads(text)))


def _entry(said: Mapping[str, object]) -> Entry:
    def names(what: str) -> frozenset[str]:
        found = said.get(what, ())
        assert isinstance(found, list | tuple)
        return frozenset(map(str, found))

    operation = from_json(said["operation"])
    texts = (str(said.get(what, "")) for what in ("library", "key", "other"))
    library, key, other = texts
    return Entry(library, key, other, names("classes"), names("architectures"), (operation,))


def with_arithmetic(links: Iterable[Link], trees: tuple[KeyTree, KeyTree], proved: Collection[Link]) -> Iterator[Link]:
    """The links, those of numbers that are written otherwise made conversions; what contents have proved stays."""
    written = entries() if any(tree.architecture for tree in trees) else ()
    for link in links:
        plain = not link.operations and len(link.left) == len(link.right) == 1 and link not in proved
        yield _converted(link, trees, written) if plain and written else link


def _converted(link: Link, trees: tuple[KeyTree, KeyTree], written: Sequence[Entry]) -> Link:
    for entry in written:
        for at in (0, 1):
            ends = (link.left[0], link.right[0])[:: -1 if at else 1]
            sides = trees[:: -1 if at else 1]
            if sides[0].architecture and _speaks(entry, ends, sides):
                operations = invert(entry.operations) if at else entry.operations
                said = f"{entry.library} writes other numbers than the model holds: {operations[0]!r}"
                return replace(
                    link, operations=operations, groups=tuple(link.expand()), evidence=(*link.evidence, said)
                )
    return link


def _speaks(entry: Entry, ends: Sequence[Pattern], sides: Sequence[KeyTree]) -> bool:
    if not ends[0].template.endswith(entry.key) or not ends[1].template.endswith(entry.other):
        return False
    if not entry.classes:
        return True
    modules = sides[1].modules
    held = {modules.get(sides[1].keys[at].rpartition(".")[0], "") for at in ends[1].cells.values()}
    return held <= entry.classes or (not modules and sides[0].architecture in entry.architectures)
