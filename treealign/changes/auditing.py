"""`audit`: what changed between two versions of a module tree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from treealign.align.reasons import NAMED
from treealign.changes.leaves import leaf_changes
from treealign.changes.references.scanning import MIN_CERTAINTY, scan
from treealign.changes.results import Change, Reference, Severity, Skipped
from treealign.changes.transforms import transform_changes
from treealign.changes.translation import Translation
from treealign.errors import TreealignError, look_alikes
from treealign.formats.cached import cached_property
from treealign.formats.collector import collector_paused
from treealign.mapping.arguments import check_arguments
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.shown import Shown
from treealign.suggestion import Suggestion, suggest
from treealign.tree.keytree import KeyTree
from treealign.tree.reading import read_tree

__all__ = ["Audit", "Change", "Reference", "Severity", "Skipped", "audit"]


@dataclass(frozen=True, eq=False)
class Audit(Shown):
    """What changed from an old tree to a new one, and which references it breaks.

    Attributes
    ----------
    suggestion : Suggestion
        The alignment, the old tree as the checkpoint and the new one as the model.
    translation : Translation
        Names of the old tree in the new one.
    changes : tuple of Change
        First those that the mapping does, in its order: each works on the result of the one before.
    references : tuple of Reference
        Filled by `scan`; empty before it.
    skipped : tuple of Skipped
        Files that `scan` could not read.
    """

    suggestion: Suggestion
    translation: Translation
    changes: tuple[Change, ...]
    references: tuple[Reference, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @property
    def mapping(self) -> ConversionMapping:
        """Old -> new."""
        return self.suggestion.mapping

    @property
    def old(self) -> KeyTree:
        """The old tree."""
        return self.translation.source

    @property
    def new(self) -> KeyTree:
        """The new tree."""
        return self.translation.target

    def rename(self, name: str) -> str:
        """The new name of a parameter, buffer or module of the old tree.

        Raises
        ------
        TreealignError
            The old tree has no such name, or it has no counterpart, or several (a tensor that is split).
        """
        return _single(self.translation, name, "old", "new")

    def old_name(self, name: str) -> str:
        """The old name of a parameter, buffer or module of the new tree; raises as `rename` does."""
        return _single(self.translation.inverse, name, "new", "old")

    def accept(self) -> Audit:
        """The audit with its guesses taken as they are, so that what follows from them is repaired too."""
        return replace(self, translation=replace(self.translation, guessed=frozenset()))

    def scan(self, paths: Iterable[str | PathLike[str]], min_certainty: float = MIN_CERTAINTY) -> Audit:
        """The audit with the references in the files below these paths.

        Python, JSON and YAML are read, and the keys of adapters; a file that cannot be read is listed as skipped.

        Parameters
        ----------
        paths : iterable of path
            Files and folders; nothing outside them is touched.
        min_certainty : float
            From 0 to 1: how sure it must be that a text speaks of this tree at all.

        Raises
        ------
        TreealignError
            One of the paths does not exist.
        """
        found = scan(self.translation, paths, min_certainty)
        return replace(self, references=found.references, skipped=found.skipped)

    @property
    def ok(self) -> bool:
        """Nothing changed, and no reference was found that means something else than it did."""
        return not self.changes and not any(reference.changed for reference in self.references)

    def as_dict(self) -> dict[str, Any]:
        """As plain data: ``{"changes": […], "references": […]}``."""
        return {
            "changes": [change.as_dict() for change in self.changes],
            "references": [reference.as_dict() for reference in self.references],
        }

    @cached_property
    def _counts(self) -> str:
        changed = sum(reference.changed for reference in self.references)
        return f"{len(self.changes)} changes, {len(self.references)} references, {changed} of them changed"

    def __repr__(self) -> str:
        return f"<Audit: {self._counts}>"


def audit(old: Any, new: Any, hints: Sequence[str] | str | None = None) -> Audit:
    """Find what changed from one version of a module tree to another.

    Parameters
    ----------
    old, new : KeyTree or anything `read_tree` takes
        Two versions. With module classes and ties (a model, or a snapshot of one) changes of these are found as well.
    hints : sequence of str, optional
        Answers to what is open, as `suggest` takes them: what follows from a guess is repaired by nobody.

    Raises
    ------
    TreealignError
        A side cannot be read.

    Examples
    --------
    >>> old = KeyTree.from_leaves([("tower.vision.norm.weight", (8,), "float32"), ("head.weight", (2, 8), "float32")])
    >>> new = KeyTree.from_leaves([("tower.norm.weight", (8,), "float32"), ("head.weight", (2, 8), "float32")])
    >>> found = audit(old, new)
    >>> [change.summary for change in found.changes]
    ['level `vision` removed below `tower`']
    >>> found.rename("tower.vision.norm")
    'tower.norm'
    """
    check_arguments("audit", old, new)
    with collector_paused():
        suggestion = suggest(read_tree(old), read_tree(new), hints=hints)
        left, right = suggestion.alignment.checkpoint, suggestion.alignment.model
        translation = Translation(_pairs(suggestion), left, right, _guessed(suggestion))
        changes = transform_changes(suggestion.mapping, left, _doubtful(suggestion))
        changes += leaf_changes(suggestion, translation)
    return Audit(suggestion, translation, tuple(changes))


def _pairs(suggestion: Suggestion) -> dict[str, tuple[str, ...]]:
    alignment = suggestion.alignment
    old, new = alignment.checkpoint.keys, alignment.model.keys
    found: dict[str, tuple[str, ...]] = {}
    for link in alignment.links + alignment.copies + alignment.resized:
        for left, right in link.expand():
            targets = tuple(new[at] for at in right)
            found.update((old[at], targets) for at in left)
    return found


def _doubtful(suggestion: Suggestion) -> frozenset[int]:
    links = [link for link in suggestion.alignment.links if not link.certain]
    return frozenset(at for link in links for left, _ in link.expand() for at in left)


def _guessed(suggestion: Suggestion) -> frozenset[str]:
    """The old leaves of which it is open what they are called: rows and axes may be open besides."""
    old = suggestion.alignment.checkpoint.keys
    links = [link for link in suggestion.alignment.links if NAMED & link.open.keys()]
    return frozenset(old[at] for link in links for left, _ in link.expand() for at in left)


def _single(translation: Translation, name: str, here: str, there: str) -> str:
    names = translation.of(name)
    if len(names) == 1:
        return names[0]
    if name not in translation.source and name not in translation.modules:
        close = _like(name, [*translation.source.keys, *translation.modules])
        raise TreealignError(f"the {here} tree has no such name", where=name, facts=close)
    if not names:
        hint = "its leaves are gone, or spread over modules that hold others as well"
        raise TreealignError(f"it has no counterpart in the {there} tree", where=name, hint=hint)
    raise TreealignError(f"it has several counterparts in the {there} tree", where=name, facts=names)


def _like(name: str, known: Iterable[str]) -> list[str]:
    last = name.rpartition(".")[2]
    listed = [one for one in known if one.rpartition(".")[2] == last]
    return look_alikes(name, listed, least=0.4)
