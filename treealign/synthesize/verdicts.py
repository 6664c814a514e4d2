"""What a rule does to all names, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from treealign.formats.cached import cached_property
from treealign.synthesize.contents import Occurrence
from treealign.synthesize.lattice import Edit


class State(Enum):
    """What has to have been done to a name before a rule works on it."""

    ANY = "any"
    LEFT_DONE = "left done"
    RIGHT_DONE = "right done"


class Row(NamedTuple):
    """If the rule is taken, one of these edits of the template has to be made."""

    template: int
    edits: frozenset[Edit]


@dataclass(frozen=True)
class Verdict:
    """What a rule does to all names.

    Attributes
    ----------
    uses : frozenset of Occurrence
        The edits that it makes.
    rows : tuple of Row
        What else has to be made if it is taken.
    guarded : bool
        Whether it matches names that only the model has, so that a guard has to tell.
    loose : int
        How many templates that match nothing it would rename.
    clean : bool
        Whether it matches nothing but what it is for.
    leaf : bool
        Whether what it makes is the last segment of some key.
    late : bool
        Whether it works on names whose right part is the model's already.
    """

    uses: frozenset[Occurrence]
    rows: tuple[Row, ...]
    guarded: bool
    loose: int
    clean: bool
    leaf: bool = False
    late: bool = False

    @cached_property
    def demands(self) -> dict[int, list[frozenset[Edit]]]:
        """The rows by template."""
        found: dict[int, list[frozenset[Edit]]] = {}
        for row in self.rows:
            found.setdefault(row.template, []).append(row.edits)
        return found

    @property
    def templates(self) -> set[int]:
        """The templates that have to do with it."""
        return {o.template for o in self.uses} | {row.template for row in self.rows}
