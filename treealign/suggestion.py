"""The main job: two trees in, a proven minimal conversion mapping out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from treealign.align.alignment import Alignment, align
from treealign.align.links import Ambiguity, Link, Match, keys_of
from treealign.align.mismatches import Mismatch
from treealign.align.questions import questions
from treealign.formats.collector import collector_paused
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.operations import Operation, Reorder
from treealign.synthesize import Conversion, Synthesis, synthesize
from treealign.tree.keys import natural_key
from treealign.tree.keytree import KeyTree
from treealign.tree.reading import read_tree

__all__ = ["Ambiguity", "Match", "Suggestion", "suggest"]


@dataclass(frozen=True, eq=False)
class Suggestion:
    """What corresponds to what, the mapping that realises it, and what is left open.

    Everything below is derived from the finished alignment and synthesis when it is first asked for.

    Attributes
    ----------
    alignment : Alignment
        The correspondence, folded.
    synthesis : Synthesis
        The mapping made from it, with its proof of minimality or the bound.
    """

    alignment: Alignment
    synthesis: Synthesis

    @property
    def mapping(self) -> ConversionMapping:
        """Realises all of `matches`, the uncertain ones as the best guess."""
        return self.synthesis.mapping

    @cached_property
    def matches(self) -> tuple[Match, ...]:
        """All matches, key by key; none names a tied alias."""
        return tuple(m for link in self.alignment.links for m in _matches(self.alignment, link))

    @cached_property
    def ambiguous(self) -> tuple[Ambiguity, ...]:
        """What evidence does not settle; the truth is among the keys of each."""
        return questions(self.alignment)

    @cached_property
    def missing_keys(self) -> tuple[str, ...]:
        """Model keys that nothing fills, in the order of the model; tied aliases do not count."""
        return keys_of(self.alignment.model, self.alignment.right)

    @cached_property
    def unexpected_keys(self) -> tuple[str, ...]:
        """Checkpoint keys that the model has no place for."""
        return keys_of(self.alignment.checkpoint, self.alignment.left)

    @cached_property
    def mismatched_keys(self) -> tuple[Mismatch, ...]:
        """Keys that correspond by name but whose shapes no operation reconciles, with both shapes."""
        left, right = self.alignment.checkpoint.leaves, self.alignment.model.leaves
        groups = [group for link in self.alignment.resized for group in link.expand()]
        pairs = [(left[group.left[0]], right[group.right[0]]) for group in groups]
        return tuple(Mismatch(a.key, b.key, a.shape or (), b.shape or ()) for a, b in pairs)

    @property
    def tied(self) -> Mapping[str, str]:
        """Model key to the key whose storage it shares: filled by the other."""
        return self.alignment.model.tied

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """What a person should know, one sentence each."""
        return self.alignment.findings + tuple(str(f) for f in self.synthesis.findings)

    @property
    def ok(self) -> bool:
        """Nothing is missing, unexpected, mismatched or ambiguous, and no law is broken."""
        open_ends = self.missing_keys or self.unexpected_keys or self.mismatched_keys or self.ambiguous
        return not open_ends and not self.findings

    def __repr__(self) -> str:
        counts = f"{len(self.matches)} matches, {len(self.ambiguous)} ambiguous, {len(self.missing_keys)} missing"
        return f"<Suggestion: {len(self.mapping)} transforms, {counts}, {len(self.unexpected_keys)} unexpected>"


def suggest(checkpoint: Any, model: Any, hints: Mapping[str, str] | Sequence[str] | None = None) -> Suggestion:
    """Suggest the conversion mapping from a checkpoint to a model.

    Names, shapes and dtypes are read, no tensor is.

    Parameters
    ----------
    checkpoint, model : KeyTree or anything `read_tree` takes
        The two sides.
    hints : mapping or sequence of str, optional
        Names of the checkpoint to names of the model that belong together: ``{"attn_norm": "input_layernorm"}``.

    Returns
    -------
    Suggestion
        Matches, mapping, and everything that is left open. Nothing is raised for what does not fit: see `ok`.

    Raises
    ------
    TreealignError
        A side cannot be read, or a hint names nothing.

    """
    with collector_paused():
        return _suggest(_tree(checkpoint), _tree(model), hints)


def _suggest(checkpoint: KeyTree, model: KeyTree, hints: Mapping[str, str] | Sequence[str] | None) -> Suggestion:
    alignment = align(checkpoint, model, hints)
    left, right = alignment.checkpoint.keys, alignment.model.keys
    pairs, conversions = [], []
    for link in alignment.links + alignment.copies + alignment.resized:
        if link.operations:
            conversions += list(_conversions(alignment, link))
        else:
            pairs += [(left[i], right[j]) for (i,), (j,) in link.expand()]
    return Suggestion(alignment, synthesize(pairs, conversions, alignment.checkpoint, alignment.model))


def _tree(source: Any) -> KeyTree:
    return source if isinstance(source, KeyTree) else read_tree(source)


def _conversions(alignment: Alignment, link: Link) -> Iterator[Conversion]:
    left, right = alignment.checkpoint.keys, alignment.model.keys
    for group in link.expand():
        sources, targets = tuple(left[i] for i in group.left), tuple(right[j] for j in group.right)
        yield Conversion(sources, targets, link.operations)


def _matches(alignment: Alignment, link: Link) -> Iterator[Match]:
    left, right = alignment.checkpoint.keys, alignment.model.keys
    operations, order = _listed(link, right)
    for group in link.expand():
        sources, targets = tuple(left[i] for i in group.left), [right[j] for j in group.right]
        yield Match(sources, tuple(targets[n] for n in order), operations, link.certain, link.evidence)


def _listed(link: Link, keys: Sequence[str]) -> tuple[tuple[Operation, ...], Sequence[int]]:
    """Targets of a split stand in natural order in a match, whatever the order of the parts in the whole."""
    first = next(link.expand()).right
    order = sorted(range(len(first)), key=lambda n: natural_key(keys[first[n]]))
    if len(link.left) > 1 or order == sorted(order):
        return link.operations, range(len(first))
    return (*link.operations, Reorder(tuple(order))), order
