"""The numbered lists of a tree: `layers.{i}`, and lists of lists, `stages.{i}.layers.{j}`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from treealign.tree.fold import Fold

Path: TypeAlias = tuple[str, ...]
Place: TypeAlias = tuple[int, ...]


class Lists:
    """The lists of one side whose members are numbered by so many indices.

    A list is known by the path to its last index, indices written ``{}``.

    Parameters
    ----------
    folds : iterable of Fold
        The keys of the side, folded.
    depth : int
        How many indices number a member: 1 for a list, 2 for a list of lists.
    """

    def __init__(self, folds: Iterable[Fold], depth: int) -> None:
        self.depth = depth
        self._folds: dict[Path, list[Fold]] = defaultdict(list)
        for f in folds:
            at = [n for n, s in enumerate(f.segments) if s == "{}"]
            if len(at) >= depth and f.indices[0]:
                self._folds[f.segments[: at[depth - 1] + 1]].append(f)
        self._members = {path: _rows(found, depth) for path, found in self._folds.items()}

    def __iter__(self) -> Iterator[Path]:
        return iter(self._folds)

    def length(self, path: Path) -> int:
        """How many members a list has."""
        return len(self._members[path])

    def of_length(self, length: int) -> list[Path]:
        """The lists of so many members."""
        return [path for path, members in self._members.items() if len(members) == length]

    def places(self, path: Path) -> list[Place]:
        """The members of a list in order."""
        return sorted(tuple(map(int, row)) for row in self._members[path])

    def leaves(self, path: Path) -> Iterator[tuple[int, Place]]:
        """Each leaf below the members: its position, and the member below which it stands."""
        for f in self._folds[path]:
            for position, row in zip(f.positions, f.indices, strict=True):
                yield position, tuple(map(int, row[: self.depth]))


def _rows(folds: Iterable[Fold], depth: int) -> set[tuple[str, ...]]:
    """The first indices of all folds; the leaves of one module have the same, which are read once."""
    found: set[tuple[str, ...]] = set()
    last: list[tuple[str, ...]] = []
    for f in folds:
        if f.indices != last:
            last = f.indices
            found.update(row[:depth] for row in last)
    return found


def is_cut(places: Iterable[Place]) -> bool:
    """Whether the members of a list of lists stand in several lists, and some of them in one."""
    found = list(places)
    return 1 < len({place[0] for place in found}) < len(found)


def written(path: Path, place: Place) -> Path:
    """The path of one member."""
    numbers = iter(place)
    return tuple(str(next(numbers)) if s == "{}" else s for s in path)
