"""Layouts of libraries: by which keys each is recognised, and what it then always does. Data: ``layouts.json``.

An entry holds from a *root*, any level of a tree. Its marks are runs of segments below the root, all of which must be
there (``has``), or must not (``lacks``); together they are such as only that library writes. Its facts speak of leaves
below the root. A fact that was checked by running the library's code settles what it speaks of; one that was read in
the code does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from typing import Any, Literal, NamedTuple

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
    rows : mapping
        Runs of fused leaves or their modules, to how these are made.
    classes : frozenset of str
        Classes of which some module at the root or below must be one; nothing where names are enough.
    rotary : frozenset of str
        How the rows of q and k stand: ``interleaved``, ``half split``; ``none`` where nothing turns them; the name of
        another library where they stand as they do there, whatever that is. Nothing where unknown.
    source : str
        Package, version and file.
    run : bool
        Whether it was checked by running the code, not by reading it alone.
    """

    name: str
    has: tuple[tuple[Run, ...], ...]
    lacks: tuple[Run, ...]
    classes: frozenset[str]
    rows: Mapping[Run, Fused]
    rotary: frozenset[str]
    source: str
    run: bool

    @property
    def checked(self) -> str:
        """Where it is from and how it was checked, in words."""
        return f"checked: {self.source}, {'run' if self.run else 'read'}"

    def fused(self, below: Run) -> Fused | None:
        """How a leaf is made of parts; `below` are its segments below the root."""
        return next((made for run, made in self.rows.items() if starts_with(below, run)), None)


@cache
def layouts() -> Mapping[str, Layout]:
    """All entries, by name."""
    data = json.loads(resources.files("treealign.align.knowledge").joinpath("layouts.json").read_text("utf-8"))
    return {row["name"]: _layout(row) for row in data["layouts"]}


def starts_with(segments: Run, run: Run) -> bool:
    """Whether a path begins with a run, in which ``{}`` stands for any index.

    >>> starts_with(("blocks", "3", "attn", "qkv", "weight"), ("blocks", "{}", "attn", "qkv"))
    True
    """
    head = segments[: len(run)]
    return len(head) == len(run) and all(a == b or (b == "{}" and a.isdigit()) for a, b in zip(head, run, strict=True))


def _layout(row: Mapping[str, Any]) -> Layout:
    rows = {run: _fused(text) for path, text in row.get("rows", {}).items() for run in _runs(path)}
    return Layout(
        row["name"],
        tuple(tuple(_runs(path)) for path in row["has"]),
        tuple(run for path in row.get("lacks", ()) for run in _runs(path)),
        frozenset(row.get("classes", ())),
        rows,
        frozenset(way for way in row.get("rotary", "").split(", ") if way),
        row["source"],
        row["checked"] == "run",
    )


def _runs(path: str) -> Iterator[Run]:
    """A path as segments; ``a|b`` is one of two.

    >>> list(_runs("blocks.{}.norm1|ln1"))
    [('blocks', '{}', 'norm1'), ('blocks', '{}', 'ln1')]
    """
    return product(*(segment.split("|") for segment in path.split(".")))


def _fused(text: str) -> Fused:
    stand = next(stand for stand in STANDS if text.endswith(stand))
    return Fused(tuple(text.removesuffix(stand).split()), stand)
