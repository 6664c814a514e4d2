"""What rules may replace: the edits of all templates, gathered by what they replace and by what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from treealign.synthesize.lattice import Edit, Lattice, Node, columns
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
    places: list[list[int]] = []  # of each key the templates, in `edits` what of them, in `signatures` a bit a class
    edits: list[list[Edit]] = []
    signatures: list[int] = []
    classes = _classes(templates, lattices)
    of: dict[int, dict[Edit, int]] = {}  # of each class
    for n, (t, lat) in enumerate(zip(templates, lattices, strict=True)):
        own = of.get(classes[n])
        if own is None:
            own = of[classes[n]] = {edit: keys.setdefault(key, len(keys)) for edit, key in _changes(t, lat)}
            for made in (places, edits):
                made += [[] for _ in range(len(keys) - len(made))]
            signatures += [0] * (len(keys) - len(signatures))
            for key in own.values():
                signatures[key] |= 1 << classes[n]
        for edit, key in own.items():
            places[key].append(n)
            edits[key].append(edit)
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


def _useful(lat: Lattice, signatures: dict[Edit, int]) -> set[Edit]:
    """The longest edits of each signature, and the shortest that stand between, before or behind those of others."""
    groups: dict[int, list[Edit]] = {}
    for edit in sorted(signatures, key=lambda e: (e.i - e.i2 + e.j - e.j2, e)):
        groups.setdefault(signatures[edit], []).append(edit)
    longest = {s: [e for n, e in enumerate(g) if not any(holds(o, e) for o in g[:n])] for s, g in groups.items()}
    kept = set(lat.kept)
    behind = _Nodes(lat.start, {s: [(e.i2, e.j2) for e in g] for s, g in longest.items()}, kept, 1)
    before = _Nodes(lat.goal, {s: [(e.i, e.j) for e in g] for s, g in longest.items()}, kept, -1)
    useful = {edit for edits in longest.values() for edit in edits}
    for s, edits in groups.items():
        useful |= {e for e in edits if behind.has(s, (e.i, e.j)) and before.has(s, (e.i2, e.j2))}
    return useful


class _Nodes:
    """Nodes from which, in one direction, nothing but kept segments leads to one end, or to an edit of a signature."""

    def __init__(self, end: Node, nodes: Mapping[int, Sequence[Node]], kept: set[Node], step: int) -> None:
        self._end = _following(end, kept, step)
        self._of = {
            s: set().union(*(_following(node, kept, step) for node in dict.fromkeys(g))) for s, g in nodes.items()
        }
        self._count = Counter(node for found in self._of.values() for node in found)

    def has(self, signature: int, node: Node) -> bool:
        """Whether it is one of the end, or of another signature."""
        return node in self._end or self._count[node] > (node in self._of[signature])


def holds(a: Edit, b: Edit) -> bool:
    """Whether one edit makes, with more, what another does."""
    return a.i <= b.i and b.i2 <= a.i2 and a.j <= b.j and b.j2 <= a.j2


def _following(node: Node, kept: set[Node], step: int) -> set[Node]:
    found = {node}
    while (node if step > 0 else (node[0] - 1, node[1] - 1)) in kept:
        node = (node[0] + step, node[1] + step)
        found.add(node)
    return found


def _changes(t: Template, lat: Lattice) -> Iterator[tuple[Edit, Renumbered]]:
    """What each edit replaces, and by what."""
    plain = {run: not columns(t.source[run[0] : run[1]]) for run in {edit[:2] for edit in lat.renamings}}
    for edit in lat.renamings:
        old, new = t.source[edit.i : edit.i2], t.target[edit.j : edit.j2]
        yield edit, (old, new) if plain[edit[:2]] else renumbered(old, new)


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
