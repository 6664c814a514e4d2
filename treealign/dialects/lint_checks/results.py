"""What a lint finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from treealign.shown import Shown

# kind of finding to (level, what it means)
KINDS: dict[str, tuple[str, str]] = {
    "collision": ("error", "two keys become one, and one tensor is lost"),
    "converted": ("error", "a checkpoint that has the model's names already does not pass"),
    "reversal": ("error", "what is saved is not what was loaded, or does not load again"),
    "uncovered": ("error", "the checkpoint does not load whole"),
    "backreference": ("error", "a reference to a group that transformers does not carry over"),
    "orphan": ("warning", "no model looks at this entry"),
    "shadowed": ("warning", "a rule before it takes all its keys"),
    "dead": ("warning", "no key is touched by the rule"),
    "over-matching": ("warning", "the rule touches keys that it should leave alone"),
    "wrong-place": ("warning", "the first occurrence of the matched text is replaced, and the match is another"),
    "unescaped-dot": ("warning", "a dot that is not escaped matches something else than a dot"),
    "two-sources": ("warning", "several sources of one renaming: only the first is written back"),
    "not-written-back": ("note", "the rule reads names that saving does not write"),
    "saved-otherwise": ("note", "a checkpoint that has the model's names already is saved under others"),
    "smaller": ("note", "fewer rules do the same, both ways"),
}


@dataclass(frozen=True)
class Finding:
    """Something in an entry that its author should look at.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    entry : str
        Class name or model type of the registry.
    rule : int or None
        Which of its rules, counted from 0; None for the entry as a whole.
    says : str
        What is wrong, in one sentence.
    facts : tuple of str
        Keys, repeats folded.
    models : tuple of str
        The classes in which it was found.
    """

    kind: str
    entry: str
    rule: int | None
    says: str
    facts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def level(self) -> str:
        """``error``, ``warning`` or ``note``."""
        return KINDS[self.kind][0]

    def as_dict(self) -> dict[str, Any]:
        """The finding as data."""
        named = {"kind": self.kind, "level": self.level, "entry": self.entry, "rule": self.rule, "says": self.says}
        return {**named, "facts": list(self.facts), "models": list(self.models)}


@dataclass(frozen=True)
class EntryReport:
    """One entry.

    Attributes
    ----------
    entry : str
        Class name or model type.
    rules : tuple of str
        The rules, as text.
    models : tuple of str
        The classes that it was checked against.
    findings : tuple of Finding
        Worst first.
    unchecked : tuple of (str, str)
        Classes that could not be built, and why.
    """

    entry: str
    rules: tuple[str, ...]
    models: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    unchecked: tuple[tuple[str, str], ...] = ()

    @property
    def checked(self) -> bool:
        """Whether it met a model, or is known to meet none."""
        return bool(self.models or self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The report as data."""
        return {
            "entry": self.entry,
            "rules": list(self.rules),
            "models": list(self.models),
            "findings": [finding.as_dict() for finding in self.findings],
            "unchecked": dict(self.unchecked),
        }


@dataclass(frozen=True)
class Lint(Shown):
    """The entries that were looked at, and the version of transformers that they are from."""

    version: str
    entries: tuple[EntryReport, ...]

    def __repr__(self) -> str:
        return f"<Lint of transformers {self.version}: {len(self.entries)} entries, {len(self.findings)} findings>"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings."""
        return tuple(finding for report in self.entries for finding in report.findings)

    @property
    def ok(self) -> bool:
        """Whether nothing is worse than a note."""
        return all(finding.level == "note" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The lint as data."""
        return {"transformers": self.version, "entries": [report.as_dict() for report in self.entries]}

    def of_kind(self, kind: str) -> Iterator[Finding]:
        """The findings of one kind."""
        return (finding for finding in self.findings if finding.kind == kind)
