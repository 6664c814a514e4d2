"""All names of one tree, made ready for being searched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from treealign.changes.references.mentions import HOLE
from treealign.changes.references.readers import READERS, compiled
from treealign.changes.translation import modules_of
from treealign.formats.cached import cached_property
from treealign.tree.keytree import KeyTree

_INDEX = re.compile(r"(?<![^.])[0-9]+(?![^.])", re.ASCII)


def normal(segment: str) -> str:
    """A segment for looking up neighbours: all indices are one."""
    return "0" if segment.isdigit() else segment


@cache
def common_segments() -> frozenset[str]:
    """Segments that models of all kinds have: they say little about which model a text speaks of."""
    return frozenset(Path(__file__).with_name("common_segments.txt").read_text(encoding="utf-8").split())


@dataclass(frozen=True, eq=False)
class Names:
    """The keys and modules of a tree."""

    tree: KeyTree

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """All modules but the root."""
        return tuple(sorted(modules_of(self.tree)))

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The modules that hold a weight themselves: those that a quantiser is asked about, one by one."""
        return tuple(dict.fromkeys(key.rpartition(".")[0] for key in self.tree.keys if "." in key))

    @cached_property
    def all(self) -> tuple[str, ...]:
        """Keys and modules."""
        return (*self.tree.keys, *self.modules)

    @cached_property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Segments that stand side by side in some name."""
        found: set[tuple[str, str]] = set()
        seen: set[str] = set()
        for name in self.all:
            bare = _INDEX.sub("0", name)
            if bare not in seen:
                seen.add(bare)
                segments = name.split(".")
                found.update((normal(a), normal(b)) for a, b in pairwise(segments))
        return frozenset(found)

    @cached_property
    def words(self) -> frozenset[str]:
        """All segments that are no indices, and the names of classes."""
        single = {name for name in self.all if "." not in name}
        return frozenset(segment for pair in self.pairs for segment in pair) | single | self.classes

    @cached_property
    def classes(self) -> frozenset[str]:
        """The names of the classes of all modules."""
        return frozenset(self.tree.modules.values())

    @cached_property
    def roots(self) -> frozenset[str]:
        """The first segments."""
        return frozenset(name.partition(".")[0] for name in self.all)

    def matching(self, text: str, reader: str, kind: str) -> list[str]:
        """The names of a kind, ``keys``, ``modules`` or ``layers``, that a reader finds in this tree for a text."""
        pattern = compiled(text, reader)
        if pattern is None:
            return []
        pools: dict[str, Sequence[str]] = {"modules": self.modules, "layers": self.layers}
        pool = pools.get(kind, self.tree.keys)
        if not READERS[reader].is_regex and reader not in ("glob", "layer glob", "plan", "skip"):
            needle = max(text.split(HOLE), key=len)
            pool = [name for name in pool if needle in name]
        search = pattern.search
        return [name for name in pool if search(name)]

    def beside(self, one: str, other: str) -> bool:
        """Whether two segments, of which one may be a hole, stand side by side in some name."""
        if HOLE in one or HOLE in other:
            return all(HOLE in segment or normal(segment) in self.words for segment in (one, other))
        return (normal(one), normal(other)) in self.pairs
