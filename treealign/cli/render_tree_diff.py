"""`treealign audit --tree`: one folded tree, old names, with what became of them; what is new stands where it came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from treealign.cli.console import plural, width
from treealign.cli.paired_trees import PairedTrees, Row
from treealign.formats.legible import printable

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_MARKS = {
    "renamed": ("~", "yellow"),
    "converted": ("⇄", "magenta"),
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "resized": ("≠", "red"),
    "guess": ("?", "magenta"),
    "tied": ("∞", "dim"),
}
_SAME = (" ", "")


class Line(NamedTuple):
    """A row of the diff: what it is called and counted, its colour, and the rows below it."""

    mark: str
    style: str
    text: str
    note: str
    below: tuple[Line, ...]


def diff_lines(trees: PairedTrees) -> tuple[Line, ...]:
    """The rows of the old tree, opened where something changed below, and those that only the new tree has."""
    added: dict[Row | None, list[Row]] = {}
    for row in trees.sides[1]:
        if row.status == "added" and (row.parent is None or row.parent.status != "added"):
            added.setdefault(_place(row), []).append(row)
    top = [row for row in trees.sides[0] if row.parent is None or not row.parent.path]
    return tuple(_below(top, added, None))


def _place(row: Row) -> Row | None:
    """The row of the old tree below which a new one came; None at the root."""
    above = row.parent
    while above is not None and above.path and above.partner is None:
        above = above.parent
    return above.partner if above is not None and above.path else None


def _below(rows: Iterable[Row], added: dict[Row | None, list[Row]], place: Row | None) -> Iterator[Line]:
    for row in rows:
        come = _holds(row, added)
        below = tuple(_below(row.children.values(), added, row)) if row.changes or come else ()
        yield Line(*_MARKS.get(row.status, _SAME), _name(row), _note(row), below)
    for row in added.get(place, []):
        yield Line(*_MARKS["added"], _name(row, place), _note(row), ())


def _holds(row: Row, added: dict[Row | None, list[Row]]) -> bool:
    """Whether something came at or below this row."""
    return any(at is not None and at.path[: len(row.path)] == row.path for at in added)


def _name(row: Row, place: Row | None = None) -> str:
    if row.status == "added":
        known = len(place.partner.path) if place is not None and place.partner is not None else 0
        return ".".join(row.path[known:])
    if row.status in ("", "removed", "tied") or row.partner is None:
        return row.name
    return f"{row.name} → {_from(row.partner.path, row)}"


def _from(path: tuple[str, ...], row: Row) -> str:
    """The new name, without what it shares with the counterpart of the nearest joined module above."""
    above = row.parent
    while above is not None and above.partner is None:
        above = above.parent
    shared = above.partner.path if above is not None and above.partner is not None else ()
    inside = path[: len(shared)] == shared and len(path) > len(shared)
    return ".".join(path[len(shared) :] if inside else path)


def _note(row: Row) -> str:
    return plural(row.keys, "key") if row.children else row.note


def put_tree_diff(trees: PairedTrees) -> None:
    """Print the diff on stdout, in colours where it is a terminal; names are never read as markup."""
    from rich.console import Console
    from rich.tree import Tree

    root = Tree("", hide_root=True, guide_style="dim")
    _grow(root, diff_lines(trees))
    Console(width=width(), highlight=False, markup=False).print(root)


def _grow(tree: Tree, lines: Iterable[Line]) -> None:
    for line in lines:
        _grow(tree.add(_text(line)), line.below)


def _text(line: Line) -> Text:
    from rich.text import Text

    text, note = printable(f"{line.mark} {line.text}"), printable(line.note)
    return Text.assemble((text, line.style), (f"  {note}", "dim"), overflow="fold")
