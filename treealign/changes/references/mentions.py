"""What the readers of files find: texts that may name a part of a tree, and where they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

HOLE = "\0"  # where an f-string, a format or an index puts something that is not known
_FORMATS = re.compile(r"%[ds]|\{\w*\}", re.ASCII)

# what says that the text is a name of a module or parameter
Strength = Literal["consumer", "loop", "maybe", "text", "chain", "prose"]


@dataclass(frozen=True, slots=True)
class Mention:
    """A text that may name a part of a tree.

    Attributes
    ----------
    text : str
        As whoever uses it sees it, with a `HOLE` for what is put in when the program runs.
    reader : str
        How it is resolved: a name of `treealign.changes.references.readers.READERS`.
    strength : str
        ``consumer``: a setting or call that takes names; ``loop``: compared with the names of a model in a loop over
        them; ``maybe``: compared with something called `name`; ``text``: any text; ``chain``: attributes in code;
        ``prose``: a docstring.
    line, column : int
        From 1 and from 0, in characters.
    span : tuple of (int, int)
        Where it stands in the text of the file.
    excused : bool
        The code asks first whether the name is there.
    group : str
        The setting that it stands in, with others of which some may speak of the tree; empty for none.
    """

    text: str
    reader: str
    strength: Strength
    line: int
    column: int = 0
    span: tuple[int, int] = (0, 0)
    excused: bool = False
    group: str = ""

    @property
    def shown(self) -> str:
        """For people: a hole is ``{}``."""
        return self.text.replace(HOLE, "{}")


def with_holes(text: str) -> str:
    """The text with a hole for each ``%d``, ``%s`` and ``{}`` of a format.

    >>> with_holes("layers.%d.mlp").replace(HOLE, "?")
    'layers.?.mlp'
    """
    return _FORMATS.sub(HOLE, text)
