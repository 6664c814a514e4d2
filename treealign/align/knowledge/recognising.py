"""Which libraries wrote a tree: entries of the table whose marks stand below one root."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from treealign.align.knowledge.entries import Known, Layout, Run, layouts, numbered
from treealign.align.patterns import Pattern, Shape, concrete
from treealign.formats.cached import cached_property


def recognised(patterns: Sequence[Pattern], modules: Mapping[str, str]) -> list[Pattern]:
    """The patterns of one side, each with the entries that hold for it; `modules` are classes by path, where known.

    Linear in the number of levels of the tree times that of the entries whose first mark ends as some level does.
    """
    nodes = _Nodes(patterns, modules)
    found: dict[Run, list[str]] = defaultdict(list)
    for entry in layouts().values():
        for root in nodes.roots(entry):
            found[root].append(entry.name)
    if not found:
        return list(patterns)
    return [replace(p, library=known) if (known := _known(p, found)) else p for p in patterns]


def still_recognised(folded: Sequence[Pattern], before: Sequence[Pattern]) -> list[Pattern]:
    """Patterns that were folded anew, each with the entries that held for all of its leaves before."""
    held = {at: p.library for p in before if p.library for at in p.cells.values()}
    return [replace(p, library=_common(p, held)) for p in folded] if held else list(folded)


def _common(p: Pattern, held: Mapping[int, tuple[Known, ...]]) -> tuple[Known, ...]:
    first, *rest = {held.get(at, ()) for at in p.cells.values()}
    return tuple(known for known in first if all(known in other for other in rest))


def _known(p: Pattern, found: dict[Run, list[str]]) -> tuple[Known, ...]:
    """The entries that hold for all paths of a pattern."""
    first, *rest = (numbered(path) for path in _apart(p))
    held = (Known(name, depth) for depth in range(len(first)) for name in found.get(first[:depth], ()))
    return tuple(one for one in held if all(one.name in found.get(path[: one.depth], ()) for path in rest))


class _Nodes:
    """All levels of a tree, indices folded, and by their last segment."""

    def __init__(self, patterns: Sequence[Pattern], modules: Mapping[str, str]) -> None:
        self._patterns = patterns
        paths = {numbered(path) for p in patterns for path in _apart(p)}
        self.all = {path[:depth] for path in paths for depth in range(1, len(path) + 1)}
        self._ending: dict[str, list[Run]] = defaultdict(list)
        for path in self.all:
            self._ending[path[-1]].append(path)
        self._shapes: dict[Run, set[Shape]] = defaultdict(set)
        for p in patterns:
            self._shapes[numbered(p.segments)].update(p.shapes.values())
        self._classes: dict[str, set[Run]] = defaultdict(set)
        for module, name in modules.items():
            self._classes[name].add(numbered(tuple(module.split("."))) if module else ())

    def roots(self, entry: Layout) -> list[Run]:
        """The levels below which all marks of an entry stand."""
        first = {
            path[: len(path) - len(run)]
            for run in (entry.has[0] if entry.has else ())
            for path in self._ending.get(run[-1], ())
            if path[-len(run) :] == run
        }
        if not entry.has:
            first = {()}
        return sorted(root for root in first if self._fits(root, entry))

    @cached_property
    def _leaves(self) -> set[str]:
        """All leaves by their own numbers: made where an entry asks for them."""
        return {".".join(concrete(p, key)) for p in self._patterns for key in p.cells}

    def _numbered(self, root: Run, entry: Layout) -> bool:
        """Whether the leaves stand there whose very numbers an entry asks for; below a root without a number."""
        if not entry.numbers:
            return True
        at = "".join(f"{segment}." for segment in root)
        return all((at + leaf.removeprefix("!") in self._leaves) != leaf.startswith("!") for leaf in entry.numbers)

    def _fits(self, root: Run, entry: Layout) -> bool:
        has = all(any((*root, *run) in self.all for run in runs) for runs in entry.has)
        kinds = ((_is_wide, entry.wide), (_are_vectors, entry.vectors))
        if not all(fits(self._shapes[*root, *run]) for fits, runs in kinds for run in runs):
            return False
        if not all(_is_halved(self._shapes[*root, *a], self._shapes[*root, *b]) for a, b in entry.halved.items()):
            return False
        names = {name for name in entry.anywhere if name[0] != "!"}
        if not names <= self._ending.keys() or any(name[1:] in self._ending for name in entry.anywhere - names):
            return False
        if not has or any((*root, *run) in self.all for run in entry.lacks) or not self._numbered(root, entry):
            return False
        below = (path for name in entry.classes for path in self._classes.get(name, ()))
        return not entry.classes or any(path[: len(root)] == root for path in below)


def _is_wide(shapes: Set[Shape]) -> bool:
    """Whether all are matrices of more columns than rows."""
    return bool(shapes) and all(shape is not None and len(shape) == 2 and shape[0] < shape[1] for shape in shapes)


def _are_vectors(shapes: Set[Shape]) -> bool:
    """Whether all have one dimension."""
    return bool(shapes) and all(shape is not None and len(shape) == 1 for shape in shapes)


def _is_halved(some: Set[Shape], others: Set[Shape]) -> bool:
    """Whether some are matrices, and others have half as many columns as these have rows."""
    rows = {shape[-2] for shape in some if shape is not None and len(shape) > 1}
    return bool(rows) and rows == {2 * shape[-1] for shape in others if shape}


def _apart(p: Pattern) -> set[Run]:
    """The paths of a pattern with the numbers that stand inside names: `layer{}` is a series of `layer1`, `layer2`."""
    inside = [segment for segment in p.segments if "{}" in segment]
    if all(segment == "{}" for segment in inside):
        return {p.segments}
    plain = [segment == "{}" for segment in inside]
    keys = {tuple("{}" if alone else n for alone, n in zip(plain, key, strict=True)) for key in p.cells}
    return {concrete(p, key) for key in keys}
