"""Both sides of an alignment as folded trees for a picture: rows of modules and leaves, and which belong together.

The leaves of an alignment are folded already; their names become a tree, and matched leaves vote for the modules above
them for as long as both names end alike. A module belongs to the one with the most keys voting for it, if both agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from treealign.align.alignment import Alignment
from treealign.align.links import Link
from treealign.align.patterns import Pattern
from treealign.tree.fold import ranges
from treealign.tree.keytree import KeyTree

Path = tuple[str, ...]
ALONE = ("removed", "added")


@dataclass(eq=False)
class Row:
    """A module, or a leaf; `status` says what became of it at this very place.

    `partner` is the row that belongs to it on the other side (of several, the first), `link` the match of a leaf.
    """

    path: Path
    parent: Row | None = None
    children: dict[str, Row] = field(default_factory=dict)
    note: str = ""
    keys: int = 0
    link: int = -1
    partner: Row | None = None
    status: str = ""
    changes: int = 0
    number: int = -1

    @property
    def name(self) -> str:
        """Its own part of the path."""
        return self.path[-1] if self.path else ""


@dataclass(frozen=True)
class PairedTrees:
    """The two trees, rows numbered top down, and the matches of their leaves as plain data."""

    sides: tuple[tuple[Row, ...], tuple[Row, ...]]
    links: tuple[dict[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        """As the page reads it: for each side a list of rows."""
        return {"sides": [[_row_data(row) for row in rows] for rows in self.sides], "links": list(self.links)}


def paired_trees(alignment: Alignment) -> PairedTrees:
    """Both sides of an alignment."""
    trees = alignment.checkpoint, alignment.model
    roots = Row(()), Row(())
    leaves: tuple[dict[int, Row], dict[int, Row]] = ({}, {})
    links = [*alignment.links, *alignment.resized, *alignment.copies]
    patterns = (
        [p for link in links for p in link.left] + list(alignment.left),
        # second names of tied weights fill no place of their own
        [p for link in links[: len(links) - len(alignment.copies)] for p in link.right] + list(alignment.right),
    )
    for side in (0, 1):
        for p in sorted(patterns[side], key=lambda one: min(one.cells.values())):
            leaves[side][id(p)] = _insert(roots[side], p, trees[side])
    data = [_link_data(link, leaves, link in alignment.resized) for link in links]
    _join(links, leaves, roots)
    sides = _numbered(roots[0]), _numbered(roots[1])
    for side in (0, 1):
        _judge(sides[side], side, data)
    return PairedTrees(sides, tuple(data))


def _insert(root: Row, p: Pattern, tree: KeyTree) -> Row:
    row = root
    row.keys += len(p)
    path = shown(p)
    for at, name in enumerate(path):
        own = name
        while at == len(path) - 1 and own in row.children:  # the same ranges, but other combinations of them
            own += "′"
        row = row.children.setdefault(own, Row((*row.path, own), row))
        row.keys += len(p)
    row.note = _sizes(p, tree)
    return row


def shown(p: Pattern) -> Path:
    """The names of a pattern, numbers as ranges."""
    columns = iter([ranges(sorted(set(map(int, column)))) for column in zip(*p.cells, strict=True)])
    return tuple(s.replace("{}", next(columns)) if "{}" in s else s for s in p.segments)


def _sizes(p: Pattern, tree: KeyTree) -> str:
    found = dict.fromkeys(tree.leaves[at].shape for at in p.cells.values())
    dtypes = dict.fromkeys(tree.leaves[at].dtype or "" for at in p.cells.values())
    shape = next(iter(found))
    size = ("[?]" if shape is None else str(list(shape))) if len(found) == 1 else f"{len(found)} shapes"
    return f"{size} {', '.join(dtypes)}".strip()


def _link_data(link: Link, leaves: tuple[dict[int, Row], dict[int, Row]], resized: bool) -> dict[str, Any]:
    names = [
        [".".join(leaves[side][id(p)].path) for p in patterns if id(p) in leaves[side]]
        for side, patterns in enumerate((link.left, link.right))
    ]
    rivals = [[".".join(shown(p)) for p in patterns] for patterns in link.rivals]
    return {
        "left": names[0],
        "right": names[1],
        "keys": sum(map(len, link.left)),
        "kind": "resized" if resized else "converted" if link.operations else "renamed",
        "certain": link.certain,
        "reason": link.reason,
        "evidence": list(link.evidence),
        "operations": [str(operation) for operation in link.operations],
        "rivals": rivals,
    }


def _join(links: Sequence[Link], leaves: tuple[dict[int, Row], dict[int, Row]], roots: tuple[Row, Row]) -> None:
    votes: Counter[tuple[Path, Path]] = Counter()
    rows: tuple[dict[Path, Row], dict[Path, Row]] = ({(): roots[0]}, {(): roots[1]})
    for at, link in enumerate(links):
        left, right = (
            [leaves[s][id(p)] for p in ps if id(p) in leaves[s]] for s, ps in enumerate((link.left, link.right))
        )
        for here, there in ((left, right), (right, left)):
            for row in here:
                row.link, row.partner = at, there[0] if there else None
        if len(left) == len(right) == 1:
            for a, b in _votes(left[0], right[0]):
                rows[0][a.path], rows[1][b.path] = a, b
                votes[a.path, b.path] += left[0].keys
    best: tuple[dict[Path, Path], dict[Path, Path]] = ({}, {})
    for (mine, theirs), _ in votes.most_common():
        best[0].setdefault(mine, theirs)
        best[1].setdefault(theirs, mine)
    for mine, theirs in best[0].items():
        if best[1][theirs] == mine:
            rows[0][mine].partner, rows[1][theirs].partner = rows[1][theirs], rows[0][mine]
    roots[0].partner, roots[1].partner = roots[1], roots[0]


def _votes(left: Row, right: Row) -> Iterator[tuple[Row, Row]]:
    """Modules above two leaves, for as long as the names below them are the same."""
    alike = left.name == right.name
    while alike and left.parent is not None and right.parent is not None:
        left, right = left.parent, right.parent
        if not left.path or not right.path:
            return
        yield left, right
        alike = left.name == right.name


def _judge(rows: Sequence[Row], side: int, links: Sequence[dict[str, Any]]) -> None:
    """The status of each row, and how many of those below it changed."""
    for row in rows:
        row.status = _status(row, side, links)
    alone = ALONE[side]
    for row in reversed(rows):  # those below a row stand after it
        if row.children and all(child.status == alone for child in row.children.values()):
            row.status = alone
        else:
            row.changes = sum(child.changes + (child.status != "") for child in row.children.values())


def _status(row: Row, side: int, links: Sequence[dict[str, Any]]) -> str:
    if not row.children:
        if row.link < 0:
            return ALONE[side]
        link = links[row.link]
        if not link["right"]:
            return "tied"
        if not link["certain"] and link["kind"] != "resized":
            return "guess"
        return _moved(row) if link["kind"] == "renamed" else str(link["kind"])
    return _moved(row) if row.partner is not None else ""


def _moved(row: Row) -> str:
    """Whether it is called otherwise than the nearest joined module above lets expect."""
    above = row.parent
    while above is not None and above.partner is None:
        above = above.parent
    assert above is not None  # the roots are joined
    assert above.partner is not None
    assert row.partner is not None
    return "" if row.partner.path == above.partner.path + row.path[len(above.path) :] else "renamed"


def _numbered(root: Row) -> tuple[Row, ...]:
    """All rows but the root, top down, each given its number."""
    found: list[Row] = []
    waiting = list(root.children.values())[::-1]
    while waiting:
        row = waiting.pop()
        row.number = len(found)
        found.append(row)
        waiting += list(row.children.values())[::-1]
    return tuple(found)


def _row_data(row: Row) -> list[Any]:
    parent = row.parent.number if row.parent is not None else -1
    partner = row.partner.number if row.partner is not None else -1
    return [parent, row.name, row.status, partner, row.link, row.keys, row.note, row.changes]
