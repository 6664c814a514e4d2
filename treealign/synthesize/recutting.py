"""Lists that the two sides cut differently, `blocks.5` against `stages.1.layers.3`, brought into one cut first.

A rule for each stage renumbers the list and gives it the model's path; what remains is the same in all stages, so that
the rest of the mapping is made as if both sides had been cut alike. Without that every rule about the inside of a
block is wanted once a stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product

from treealign.mapping.transforms import Rename
from treealign.synthesize.result import Conversion
from treealign.synthesize.task import Task
from treealign.tree.keytree import KeyTree
from treealign.tree.lists import Lists, Path, Place, is_cut, written

_LEAST = 3  # members of a list


@dataclass(frozen=True)
class Recut:
    """Rules that cut a list of the checkpoint as the model does, and what is left to do after them."""

    renames: tuple[Rename, ...]
    task: Task


def recut(task: Task) -> Recut | None:
    """The rules, and the task as it is after them; None where both sides cut their lists alike.

    Notes
    -----
    Linear in the number of matches, and only where the two sides have lists of equal length of which one is cut.
    """
    renames: list[Rename] = []
    names: dict[str, str] = {}
    for here, there in ((1, 2), (2, 1)):
        lists = Lists(task.checkpoint.folds, here), Lists(task.model.folds, there)
        for path, target in _candidates(*lists):
            places = _places(task, lists, (path, target))
            if places is not None:
                renames += _renames(path, target, places)
                names.update(_renamed(task.checkpoint, lists[0], (path, target), places))
    after = {names.get(key, key) for key in task.checkpoint.keys}
    if not renames or len(after) < len(task.checkpoint):
        return None
    return Recut(tuple(renames), _after(task, names))


def _candidates(left: Lists, right: Lists) -> Iterator[tuple[Path, Path]]:
    for path in left:
        length = left.length(path)
        for target in right.of_length(length) if length >= _LEAST else ():
            if is_cut((left if left.depth > 1 else right).places(path if left.depth > 1 else target)):
                yield path, target


def _places(task: Task, lists: tuple[Lists, Lists], paths: tuple[Path, Path]) -> dict[Place, Place] | None:
    """The place in the one list to that in the other, if every match below the one is below the other, and in order."""
    inside = [
        {side.keys[position]: place for position, place in of.leaves(path)}
        for side, of, path in zip((task.checkpoint, task.model), lists, paths, strict=True)
    ]
    found: dict[Place, Place] = {}
    for sources, targets in _matches(task):
        for source, target in product(sources, targets):
            here, there = inside[0].get(source), inside[1].get(target)
            if here is None and there is None:
                continue
            if here is None or there is None or found.setdefault(here, there) != there:
                return None
    ordered = [found[place] for place in sorted(found)]
    return found if found.keys() == {*inside[0].values()} and ordered == sorted({*ordered}) else None


def _matches(task: Task) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    yield from (((c,), (m,)) for c, m in task.pairs)
    yield from ((c.checkpoint, c.model) for c in task.conversions)


def _renames(path: Path, target: Path, places: Mapping[Place, Place]) -> Iterator[Rename]:
    """One rule for each stage: a run of members that moves as one."""
    rows = sorted(places.items())
    for _, run in groupby(enumerate(rows), lambda item: _stage(*item[1])):
        members = [row for _, row in run]
        (first, there), (last, _) = members[0], members[-1]
        if len(members) == 1:
            yield Rename(".".join(written(path, first)), ".".join(written(target, there)))
            continue
        shift = there[-1] - first[-1]
        low, high = first[-1], last[-1]
        text = f"i{shift:+d}" if shift else "i"
        old, new = _with_last(path, first, f"{{i:{low}..{high}}}"), _with_last(target, there, f"{{{text}}}")
        yield Rename(old, new)


def _stage(here: Place, there: Place) -> tuple[Place, Place, int]:
    """Equal for members that one rule moves."""
    return here[:-1], there[:-1], there[-1] - here[-1]


def _with_last(path: Path, place: Place, last: str) -> str:
    segments = list(written(path, place))
    segments[-1] = last
    return ".".join(segments)


def _renamed(
    tree: KeyTree, lists: Lists, paths: tuple[Path, Path], places: Mapping[Place, Place]
) -> Iterator[tuple[str, str]]:
    for position, place in lists.leaves(paths[0]):
        key = tree.keys[position]
        rest = key.split(".")[len(paths[0]) :]
        yield key, ".".join((*written(paths[1], places[place]), *rest))


def _after(task: Task, names: Mapping[str, str]) -> Task:
    def name(keys: Iterable[str]) -> tuple[str, ...]:
        return tuple(names.get(key, key) for key in keys)

    tree = task.checkpoint
    leaves = [leaf._replace(key=names.get(leaf.key, leaf.key)) for leaf in tree.leaves]
    checkpoint = KeyTree.from_leaves(leaves, ordered=tree.ordered, source=tree.source)
    pairs = [(names.get(c, c), m) for c, m in task.pairs]
    conversions: list[Conversion] = [replace(c, checkpoint=name(c.checkpoint)) for c in task.conversions]
    return Task(pairs, conversions, checkpoint, task.model)
