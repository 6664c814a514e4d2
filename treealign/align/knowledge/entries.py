"""Layouts of libraries: by which keys each is recognised, and what it then always does. Data: ``layouts.json``.

An entry holds from a *root*, any level of a tree. Its marks are runs of segments below the root, all of which must be
there (``has``), or must not (``lacks``); together they are such as only that library writes. Its facts speak of leaves
below the root. A fact that was checked by running the library's code settles what it speaks of; one that was read in
the code does not.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from typing import Any, Literal, NamedTuple

from treealign.formats.cached import cached_property

Run = tuple[str, ...]
Stand = Literal["by part", "by head", "by group", "in turns"]
STANDS: tuple[Stand, ...] = ("by part", "by head", "by group", "in turns")


class Known(NamedTuple):
    """An entry that is recognised in a tree, and how many levels stand above its root."""

    name: str
    depth: int


class Fused(NamedTuple):
    """How a whole is made of parts: their roles in order, and how their rows stand."""

    parts: tuple[str, ...]
    stand: Stand

    @property
    def text(self) -> str:
        """As the table spells it.

        >>> Fused(("q", "k", "v"), "by part").text
        'q k v by part'
        """
        return f"{' '.join(self.parts)} {self.stand}"


@dataclass(frozen=True, eq=False)
class Layout:
    """What one library always does.

    Attributes
    ----------
    name : str
        The library, and what of it: ``timm ViT``.
    has : tuple of tuple of tuple of str
        Runs below the root, each with its other spellings; one of each must be there.
    lacks : tuple of tuple of str
        Runs below the root that must not be there.
    numbers : frozenset of str
        Leaves below the root that must be there by these very numbers; those with a ``!`` in front must not.
    anywhere : frozenset of str
        Segments that the tree must have; those with a ``!`` in front it must not have.
    wide : tuple of tuple of str
        Leaves that must be matrices of more columns than rows: those of a fused layer that has its inputs first.
    halved : mapping
        Leaves that must be matrices, to those that must have half as many columns as they have rows: a fused gate and
        up, and what takes their product.
    vectors : tuple of tuple of str
        Leaves that must have one dimension.
    rows : mapping
        Runs of fused leaves or their modules, to how these are made.
    classes : frozenset of str
        Classes of which some module at the root or below must be one; nothing where names are enough.
    rotary : frozenset of str
        How the rows of q and k stand: ``interleaved``, ``half split``; ``none`` where nothing turns them; the name of
        another library where they stand as they do there, whatever that is. Nothing where unknown.
    axes : mapping
        Runs of leaves to which of their dimensions are first, ``inputs`` or ``outputs``; a run that begins with ``**``
        is the end of a path.
    heads : mapping
        Runs of leaves in which heads have a dimension of their own, to what their dimensions are: ``head``, ``row`` of
        a head, ``in`` or ``out`` for what the layer takes or gives besides.
    names : mapping
        Runs of leaves or modules, to how the field spells them: read in place of the library's own words.
    source : str
        Package, version and file.
    run : bool
        Whether it was checked by running the code, not by reading it alone.
    """

    name: str
    has: tuple[tuple[Run, ...], ...]
    lacks: tuple[Run, ...]
    numbers: frozenset[str]
    anywhere: frozenset[str]
    classes: frozenset[str]
    wide: tuple[Run, ...]
    halved: Mapping[Run, Run]
    vectors: tuple[Run, ...]
    rows: Mapping[Run, Fused]
    rotary: frozenset[str]
    axes: Mapping[Run, str]
    heads: Mapping[Run, Run]
    names: Mapping[Run, Run]
    source: str
    run: bool

    @property
    def checked(self) -> str:
        """Where it is from and how it was checked, in words."""
        return f"checked: {self.source}, {'run' if self.run else 'read'}"

    @cached_property
    def by_number(self) -> bool:
        """Whether it says of members of a list by their own numbers what they are."""
        return bool(self.numbers) or any(segment[-1].isdigit() for run in self.names for segment in run)

    def fused(self, below: Run) -> Fused | None:
        """How a leaf is made of parts; `below` are its segments below the root."""
        return next((made for run, made in self.rows.items() if starts_with(below, run)), None)

    def first(self, below: Run) -> str:
        """Which dimension of a leaf is first; `below` are its segments below the root. Empty where unknown."""
        return next((text for run, text in self.axes.items() if _is_at(below, run)), "")

    def dimensions(self, below: Run) -> Run:
        """What the dimensions of a leaf are whose heads have one of their own. Empty where unknown."""
        return next((dims for run, dims in self.heads.items() if _is_at(below, run)), ())


@cache
def layouts() -> Mapping[str, Layout]:
    """All entries, by name."""
    return {row["name"]: _layout(row) for row in table()["layouts"]}


@cache
def table() -> Mapping[str, Any]:
    """What libraries do, as it stands in the file: known layouts, and habits that only suggest."""
    return json.loads(resources.files("treealign.align.knowledge").joinpath("layouts.json").read_text("utf-8"))  # type: ignore[no-any-return]


def _is_at(below: Run, run: Run) -> bool:
    if run[0] == "**":
        tail = below[len(below) - len(run) + 1 :]
        return len(tail) == len(run) - 1 and starts_with(tail, run[1:])
    return len(below) == len(run) and starts_with(below, run)


def parts_of(segments: Run, library: Iterable[Known]) -> frozenset[str]:
    """The roles of which a leaf is made, by the entries that hold for it; none where none says so, or two differ."""
    said = {
        made for name, depth in library if layouts()[name].run and (made := layouts()[name].fused(segments[depth:]))
    }
    return frozenset(said.pop().parts) if len(said) == 1 else frozenset()


def read_name(segments: Run, library: Iterable[Known]) -> Run:
    """A path as the field spells it, by the entries that hold for it; as it is where none says so, or two differ.

    Of entries one of which stands inside another's tree the outer one speaks: it knows where that is. An entry that was
    not checked by running reads nothing.
    """
    found: dict[int, set[Run]] = defaultdict(set)
    for name, depth in library:
        entry, below = layouts()[name], segments[depth:]
        for run, reading in entry.names.items() if entry.run else ():
            if starts_with(below, run):
                found[depth].add((*segments[:depth], *_filled(reading, below, run), *below[len(run) :]))
    outer = found[min(found)] if found else set()
    return outer.pop() if len(outer) == 1 else segments


def _filled(reading: Run, segments: Run, run: Run) -> Run:
    """A reading with the indices that stand in the path."""
    indices = iter([_index(mine, mark) for mine, mark in zip(segments, run, strict=False) if "{}" in mark])
    return tuple(next(indices) if segment == "{}" else segment for segment in reading)


def _index(segment: str, mark: str) -> str:
    """The index in a segment; itself a capture where the segment is folded."""
    before, _, after = mark.partition("{}")
    return segment[len(before) : len(segment) - len(after)]


def starts_with(segments: Run, run: Run) -> bool:
    """Whether a path begins with a run, in which ``{}`` stands for any index.

    >>> starts_with(("blocks", "3", "attn", "qkv", "weight"), ("blocks", "{}", "attn", "qkv"))
    True
    """
    head = segments[: len(run)]
    return len(head) == len(run) and all(a == b or _has_index(a, b) for a, b in zip(head, run, strict=True))


def _has_index(segment: str, mark: str) -> bool:
    """Whether a segment is a mark with an index in it: alone, or as part of a name.

    >>> _has_index("block_3", "block_{}"), _has_index("block", "block_{}")
    (True, False)
    """
    before, found, after = mark.partition("{}")
    fits = bool(found) and segment.startswith(before) and segment.endswith(after)
    return fits and segment[len(before) : len(segment) - len(after)].isdigit()


def _layout(row: Mapping[str, Any]) -> Layout:
    rows = {run: _fused(text) for path, text in row.get("rows", {}).items() for run in runs_of(path)}
    return Layout(
        row["name"],
        tuple(tuple(map(numbered, runs_of(path))) for path in row.get("has", ())),
        tuple(numbered(run) for path in row.get("lacks", ()) for run in runs_of(path)),
        frozenset(row.get("numbers", ())),
        frozenset(row.get("anywhere", ())),
        frozenset(row.get("classes", ())),
        tuple(run for path in row.get("wide", ()) for run in runs_of(path)),
        {run: tuple(text.split(".")) for path, text in row.get("halved", {}).items() for run in runs_of(path)},
        tuple(run for path in row.get("vectors", ()) for run in runs_of(path)),
        rows,
        frozenset(way for way in row.get("rotary", "").split(", ") if way),
        {run: text.removesuffix(" first") for path, text in row.get("axes", {}).items() for run in runs_of(path)},
        {run: tuple(text.split()) for path, text in row.get("heads", {}).items() for run in runs_of(path)},
        {run: tuple(text.split(".")) for path, text in row.get("names", {}).items() for run in runs_of(path)},
        row["source"],
        row["checked"] == "run",
    )


def numbered(segments: Run) -> Run:
    """A path with ``{}`` for each index."""
    return tuple("{}" if segment.isdigit() else segment for segment in segments)


def runs_of(path: str) -> Iterator[Run]:
    """A path as segments; ``a|b`` is one of two.

    >>> list(runs_of("blocks.{}.norm1|ln1"))
    [('blocks', '{}', 'norm1'), ('blocks', '{}', 'ln1')]
    """
    return product(*(segment.split("|") for segment in path.split(".")))


def _fused(text: str) -> Fused:
    stand = next(stand for stand in STANDS if text.endswith(stand))
    return Fused(tuple(text.removesuffix(stand).split()), stand)
