"""Numbers that a known library writes otherwise than the model holds them: a norm plus one, a decay for its logarithm.

Names and shapes are the same, so that a plain rename would load, and compute something else. Data:
``knowledge/arithmetic.json``, each entry with its source. It is undone where a file says by its architecture that this
library wrote its numbers; names alone may be anybody's, so that what a library without another sign may have written is
open. Which norms are meant is told by the class of the model's module, or by that architecture. Where all norms of an
architecture are written so and the model has a class that is not known to undo it, or only some are and no class is
known, it is a guess and open.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.verdict import doubted
from treealign.mapping.operations import Operation, Reshape, from_json, invert
from treealign.tree.keytree import KeyTree

WRITTEN = Reason("belongs", "the library that uses these names may write other numbers than the model holds")
UNKNOWN = Reason("belongs", "its numbers are written otherwise, and whether the model's module undoes it is not known")


@dataclass(frozen=True)
class Entry:
    """What one library does to some leaves; `operations` undo it, none where its files are known by names alone."""

    library: str
    key: str
    other: str
    classes: frozenset[str]
    architectures: frozenset[str]
    some: frozenset[str]  # architectures of which it holds for some of these leaves
    by_names: bool  # its files are known by their names alone
    models: frozenset[str]  # classes one of which the model has somewhere, where the leaf's own class says nothing
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

    operations = (from_json(said["operation"]),) if "operation" in said else ()
    texts = (str(said.get(what, "")) for what in ("library", "key", "other"))
    library, key, other = texts
    classes, architectures, some, models = (names(what) for what in ("classes", "architectures", "some", "models"))
    return Entry(library, key, other, classes, architectures, some, said.get("by") == "names", models, operations)


def with_arithmetic(links: Iterable[Link], trees: tuple[KeyTree, KeyTree], proved: Collection[Link]) -> Iterator[Link]:
    """The links, those of numbers that are written otherwise made conversions; what contents have proved stays."""
    one = sum(bool(tree.architecture) for tree in trees) == 1  # of two files both are written so
    written = [entry for entry in entries() if one and not entry.by_names]
    for link in links:
        plain = all(isinstance(o, Reshape) for o in link.operations) and link not in proved
        plain = plain and len(link.left) == len(link.right) == 1
        if plain and not written and _may_be_written_otherwise(link, trees):
            yield doubted(link, WRITTEN)
        else:
            yield _converted(link, trees, written) if plain and written else link


def _may_be_written_otherwise(link: Link, trees: tuple[KeyTree, KeyTree]) -> bool:
    """Whether a library that is known by its names alone writes such a leaf otherwise, of a model of these classes."""
    if any(tree.architecture for tree in trees):
        return False
    named = [entry for entry in entries() if entry.by_names]
    for at in (0, 1):
        p, q = (link.left[0], link.right[0])[:: -1 if at else 1]
        model = trees[1 - at]
        for entry in named if p.library and model.modules else ():
            known = any(row.name.startswith(entry.library) for row in p.library)
            if known and p.template.endswith(entry.key) and q.template.endswith(entry.other):
                held = {model.modules.get(model.keys[at].rpartition(".")[0], "") for at in q.cells.values()}
                if held & entry.classes or not entry.models.isdisjoint(model.modules.values()):
                    return True
    return False


def _converted(link: Link, trees: tuple[KeyTree, KeyTree], written: Sequence[Entry]) -> Link:
    for entry in written:
        for at in (0, 1):
            ends = (link.left[0], link.right[0])[:: -1 if at else 1]
            sides = trees[:: -1 if at else 1]
            if sides[0].architecture and (holds := _holds(entry, ends, sides)) is not None:
                operations = invert(entry.operations) if at else entry.operations
                said = f"{entry.library} writes other numbers than the model holds: {operations[0]!r}"
                made = replace(
                    link,
                    operations=(*link.operations, *operations),
                    groups=tuple(link.expand()),
                    evidence=(*link.evidence, said),
                )
                return made if holds else doubted(made, UNKNOWN)
    return link


def _holds(entry: Entry, ends: Sequence[Pattern], sides: Sequence[KeyTree]) -> bool | None:
    """Whether an entry holds for a match; False where it may, or may not; None where it does not speak of it."""
    if not ends[0].template.endswith(entry.key) or not ends[1].template.endswith(entry.other):
        return None
    modules, architecture = sides[1].modules, sides[0].architecture
    held = {modules.get(sides[1].keys[at].rpartition(".")[0], "") for at in ends[1].cells.values()}
    if not entry.classes or (modules and held <= entry.classes):
        return True
    if architecture in entry.architectures:
        return not modules
    return False if architecture in entry.some and not modules else None
