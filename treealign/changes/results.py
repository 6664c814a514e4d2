"""What an audit consists of: changes of modules, references to names, files that were passed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from treealign.mapping.mapping_json import mapping_to_data
from treealign.mapping.scope import Transform

Answer = Literal["yes", "mapped", "no"]

STILL = "still matches"
NOTHING = "matches nothing"
OTHER = "matches something else"
DEAD = "matches nothing in either version"


@dataclass(frozen=True, slots=True)
class Severity:
    """Whom a change breaks: ``yes`` it works as it is, ``mapped`` through the mapping, ``no`` not at all.

    Attributes
    ----------
    loads : str
        Whether a checkpoint of the old tree loads into the new model.
    saves : str
        Whether the new model can be saved for readers of the old names.
    resolves : str
        Whether the old attribute paths lead to the same modules; ``yes`` or ``no``.
    """

    loads: Answer
    saves: Answer
    resolves: Answer

    @property
    def breaks(self) -> bool:
        """Whether something fails that no mapping repairs."""
        return "no" in (self.loads, self.saves)

    def as_dict(self) -> dict[str, str]:
        """As plain data."""
        return {"loads": self.loads, "saves": self.saves, "resolves": self.resolves}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of modules.

    Attributes
    ----------
    kind : str
        What happened: ``level removed``, ``renamed``, ``fused``, ``class changed`` …
    summary : str
        The change as a sentence without a full stop.
    keys : int
        How many keys (modules, where a class changed) it concerns.
    pattern : str
        Their names, folded; names of the old tree, except where leaves are added.
    pairs : tuple of (str, str)
        Old name to new name of each module or leaf at which the change stands, folded; empty for an end without a
        counterpart.
    severity : Severity
        Whom it breaks.
    certain : bool
        Whether every match behind it is certain.
    transform : Transform or None
        The transform of the mapping old -> new that does it, if one does.
    """

    kind: str
    summary: str
    keys: int
    pattern: str
    pairs: tuple[tuple[str, str], ...]
    severity: Severity
    certain: bool = True
    transform: Transform | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        transforms = mapping_to_data([self.transform])["transforms"] if self.transform is not None else []
        return {
            "kind": self.kind,
            "summary": self.summary,
            "keys": self.keys,
            "pattern": self.pattern,
            "mapping": [{"old": old, "new": new} for old, new in self.pairs],
            "severity": self.severity.as_dict(),
            "certain": self.certain,
            "transforms": transforms,
        }


@dataclass(frozen=True, slots=True)
class Reference:
    """A place that names a part of the old tree.

    Attributes
    ----------
    file : str
        As it was found below the path that was scanned.
    line : int
        From 1; 0 in a file without lines.
    old : str
        What stands there.
    new : str or None
        What to write instead: checked to mean in the new tree what `old` meant in the old one. None where there is no
        such spelling.
    status : str
        ``still matches``, ``matches nothing``, ``matches something else``; or ``matches nothing in either version``, of
        an item whose neighbours speak of the tree: no update broke it, it never did anything.
    certainty : float
        From 0 to 1: how sure it is that the text speaks of this tree at all.
    reader : str
        How whoever uses the text resolves it: ``suffix``, ``contains``, ``fullmatch`` …
    column : int
        From 0, in characters.
    span : tuple of (int, int)
        Where in the file the text stands, in characters; (0, 0) where it cannot be replaced.
    guess : bool
        Whether `new` follows from matches that are still open; such a text is not replaced.
    """

    file: str
    line: int
    old: str
    new: str | None
    status: str
    certainty: float = 1.0
    reader: str = ""
    column: int = 0
    span: tuple[int, int] = (0, 0)
    guess: bool = False

    @property
    def changed(self) -> bool:
        """Whether it no longer means what it meant."""
        return self.status not in (STILL, DEAD)

    @property
    def advice(self) -> str:
        """What to write instead, in words."""
        if self.new is None:
            return "no spelling means the same"
        return f"write `{self.new}`{', if the guess is right' if self.guess else ''}"

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        told = {"file": self.file, "line": self.line, "old": self.old, "new": self.new, "status": self.status}
        return {**told, "guess": True} if self.guess else told


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that could not be read, and why."""

    file: str
    reason: str
