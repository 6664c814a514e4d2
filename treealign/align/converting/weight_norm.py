"""Weight norm on one side only: length and direction on the one, their product on the other.

`weight_g` and `weight_v` (or `parametrizations.weight.original0` and `original1`) against a plain `weight`. The
direction has the shape of the weight, so that names and shapes pair the two; the length stands beside it, unmatched.
The fold is lossy: it is found here, reported as lossy, and taken only by those who allow it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from treealign.align.links import Group, Link, paired_cells, swapped
from treealign.align.patterns import Indices, Pattern
from treealign.align.verdict import settled
from treealign.mapping.operations import FoldWeightNorm, Operation

Path = tuple[str, ...]
LENGTHS: dict[Path, Path] = {
    ("weight_v",): ("weight_g",),
    ("parametrizations", "weight", "original1"): ("parametrizations", "weight", "original0"),
}


def with_weight_norms(links: Sequence[Link], left: Sequence[Pattern], right: Sequence[Pattern]) -> list[Link]:
    """The links, those of a direction with a plain weight made folds or unfolds of weight norm."""
    lengths = tuple(_lengths(links, side, end) for side, end in ((left, "left"), (right, "right")))
    if not any(lengths):
        return list(links)
    modules = {(_module(link.left[0]), _module(link.right[0])) for link in links if link.certain}
    return [new for link in links for new in _folded(link, (lengths[0], lengths[1]), modules)]


def _lengths(links: Sequence[Link], side: Sequence[Pattern], end: str) -> dict[Path, Pattern]:
    """The lengths that nothing has taken, by the path of their direction."""
    taken = {p for link in links for p in getattr(link, end)}
    found = {}
    for p in side:
        for direction, length in LENGTHS.items():
            if p.segments[-len(length) :] == length and p not in taken:
                found[(*p.segments[: -len(length)], *direction)] = p
    return found


def _folded(
    link: Link, lengths: tuple[Mapping[Path, Pattern], Mapping[Path, Pattern]], modules: set[tuple[Path, Path]]
) -> list[Link]:
    ends = link.left[0], link.right[0]
    fold = ends[0].segments in lengths[0] and ends[1].segments[-1] == "weight"
    unfold = ends[1].segments in lengths[1] and ends[0].segments[-1] == "weight"
    if link.operations or fold == unfold:
        return [link]
    direction, weight = ends if fold else ends[::-1]
    length = lengths[not fold][direction.segments]
    pairs = {there: here for here, there in paired_cells(weight, direction)}
    made = _by_operation(length, direction, pairs) if length.cells.keys() == direction.cells.keys() else {}
    sure = _module(ends[0]) == _module(ends[1]) or (_module(ends[0]), _module(ends[1])) in modules
    norms = length, direction
    shown = (f"weight norm: {length.template} and {direction.template}",)
    base = replace(link, left=norms, right=(weight,), evidence=shown, rivals=(norms, (weight,)))
    base = settled(base) if sure else base
    links = [replace(base, operations=(operation,), groups=tuple(groups)) for operation, groups in made.items()]
    return [one if fold else swapped(one) for one in links] or [link]


def _by_operation(length: Pattern, direction: Pattern, weights: Mapping[int, int]) -> dict[Operation, list[Group]]:
    """The cells by the dimension over which there is one length each; nothing where some have none."""
    found: dict[Operation, list[Group]] = defaultdict(list)
    for cell, at in direction.cells.items():
        dim = _dimension(length, direction, cell)
        if dim is None:
            return {}
        found[FoldWeightNorm(dim)].append(Group((length.cells[cell], at), (weights[at],)))
    return found


def _dimension(length: Pattern, direction: Pattern, cell: Indices) -> int | None:
    given, shape = length.shapes[cell], direction.shapes[cell]
    if given is None or shape is None:
        return None
    kept = (tuple(size if at == dim else 1 for at, size in enumerate(shape)) for dim in range(len(shape)))
    return next((dim for dim, norms in enumerate(kept) if norms == given), None)


def _module(p: Pattern) -> Path:
    """The path of the module that holds a parameter, normed or not."""
    for names in LENGTHS.items():
        if tuple(p.segments[-len(names[0]) :]) in names:
            return p.segments[: -len(names[0])]
    return p.segments[:-1]
