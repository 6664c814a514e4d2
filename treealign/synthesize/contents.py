"""What rules may replace: the edits of all templates, gathered by what they replace and by what."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from treealign.synthesize.lattice import Edit, Lattice
from treealign.synthesize.templates import Template
from treealign.tree.segments import Name, Segment, Slot

Renumbered: TypeAlias = tuple[Name, Name]


class Occurrence(NamedTuple):
    """An edit of a template."""

    template: int
    edit: Edit


@dataclass(frozen=True)
class Content:
    """What is replaced, and by what; slots are numbered in the order in which they stand in `old`."""

    old: Name
    new: Name
    occurrences: tuple[Occurrence, ...]
    words: tuple[str, ...] = ()  # what may stand in the slot of the word that is left open


def gather(templates: Sequence[Template], lattices: Sequence[Lattice]) -> list[Content]:
    """The contents that a smallest set of rules can be made of.

    Of contents that occur in the same templates only the longest count: one rule for the longer does what one for the
    shorter does, and leaves less to do. What remains of a template beside such a longest one counts too: it makes
    shorter rules, not fewer.
    """
    keys: dict[Renumbered, int] = {}
    places: list[list[int]] = []  # of each key the templates, and in `edits` what of them
    edits: list[list[Edit]] = []
    classes = _classes(templates, lattices)
    of: dict[int, dict[Edit, int]] = {}  # of each class
    for n, (t, lat) in enumerate(zip(templates, lattices, strict=True)):
        own_keys = of.get(classes[n])
        if own_keys is None:
            made = {edit: _renumbered(t, edit) for edit in lat.renamings}
            own_keys = of[classes[n]] = {edit: keys.setdefault(key, len(keys)) for edit, key in made.items()}
            places += [[] for _ in range(len(keys) - len(places))]
            edits += [[] for _ in range(len(keys) - len(edits))]
        for edit, key in own_keys.items():
            places[key].append(n)
            edits[key].append(edit)
    signatures = [frozenset(map(classes.__getitem__, where)) for where in places]
    kept: set[int] = set()
    for c, n in {c: n for n, c in reversed(list(enumerate(classes)))}.items():
        kept |= {of[c][edit] for edit in _useful(lattices[n], {e: signatures[k] for e, k in of[c].items()})}
    return [Content(*key, tuple(map(Occurrence, places[n], edits[n]))) for key, n in keys.items() if n in kept]


def _classes(templates: Sequence[Template], lattices: Sequence[Lattice]) -> list[int]:
    """Numbers that are equal for templates with the same changes in the same place, made in the same ways."""
    numbers: dict[Hashable, int] = {}
    found = []
    for t, lat in zip(templates, lattices, strict=True):
        i, j = lat.goal
        found.append(numbers.setdefault((t.source[:i], t.target[:j], lat.renamings), len(numbers)))
    return found


def _useful(lat: Lattice, signatures: dict[Edit, frozenset[int]]) -> set[Edit]:
    groups: dict[frozenset[int], list[Edit]] = {}
    for edit in sorted(signatures, key=lambda e: (e.i - e.i2 + e.j - e.j2, e)):
        groups.setdefault(signatures[edit], []).append(edit)
    longest = {s: [e for n, e in enumerate(g) if not any(holds(o, e) for o in g[:n])] for s, g in groups.items()}
    useful = {edit for edits in longest.values() for edit in edits}
    for signature, edits in groups.items():
        shared = [e for s, others in longest.items() if s != signature for e in others]
        useful |= _remainders(lat, shared, edits)
    return useful


def holds(a: Edit, b: Edit) -> bool:
    """Whether one edit makes, with more, what another does."""
    return a.i <= b.i and b.i2 <= a.i2 and a.j <= b.j and b.j2 <= a.j2


def _remainders(lat: Lattice, shared: Iterable[Edit], edits: Iterable[Edit]) -> set[Edit]:
    """The shortest edits that stand between edits that more names share, before or behind them."""
    kept = set(lat.kept)
    from_here = _following(lat.start, kept, 1).union(*(_following((e.i2, e.j2), kept, 1) for e in shared))
    to_here = _following(lat.goal, kept, -1).union(*(_following((e.i, e.j), kept, -1) for e in shared))
    return {e for e in edits if (e.i, e.j) in from_here and (e.i2, e.j2) in to_here}


def _following(node: tuple[int, int], kept: set[tuple[int, int]], step: int) -> set[tuple[int, int]]:
    found = {node}
    while (node if step > 0 else (node[0] - 1, node[1] - 1)) in kept:
        node = (node[0] + step, node[1] + step)
        found.add(node)
    return found


def _renumbered(t: Template, edit: Edit) -> Renumbered:
    return renumbered(t.source[edit.i : edit.i2], t.target[edit.j : edit.j2])


def renumbered(old: Name, new: Name) -> Renumbered:
    """The two with their slots numbered in the order in which they stand in the first."""
    numbers: dict[int, int] = {}
    return _numbered(old, numbers), _numbered(new, numbers)


def _numbered(name: Name, numbers: dict[int, int]) -> Name:
    for segment in name:
        if not isinstance(segment, str):
            return tuple([_with(s, numbers) for s in name])
    return name


def _with(segment: Segment, numbers: dict[int, int]) -> Segment:
    if isinstance(segment, str):
        return segment
    return tuple(
        p if isinstance(p, str) else Slot(numbers.setdefault(p.column, len(numbers)), p.shift) for p in segment
    )
