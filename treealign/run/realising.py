"""Alignments made real: the original's values in the model, as one alignment or another has them go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from treealign.align.alignment import Alignment, align
from treealign.align.links import Link
from treealign.checkpoint.filling import fill
from treealign.checkpoint.places import find_places
from treealign.checkpoint.sources import open_source
from treealign.errors import TreealignError
from treealign.mapping.planning import Step
from treealign.run.recorder import drawn
from treealign.run.steps import Steps
from treealign.run.subject import Subject, uncompiled
from treealign.tree.keytree import KeyTree, Leaf


class Realiser:
    """Fills the model by the links of an alignment; what is filled alike already is not filled again.

    Parameters
    ----------
    alignment : Alignment
        Whose keys are spoken of.
    names : mapping
        Key of the checkpoint to the same key in the original.
    """

    def __init__(self, alignment: Alignment, names: Mapping[str, str]) -> None:
        self.steps, self.names = Steps(alignment, uncompiled), names
        self.links: tuple[Link, ...] = alignment.links
        self._checkpoint = alignment.checkpoint
        self._loaded: dict[str, Step] = {}
        self._own: dict[str, torch.Tensor] = {}
        self._values: dict[str, torch.Tensor] = {}

    def carry(self, original: Subject, model: Subject) -> None:
        """Take the values that the original has now, and fill the model by the links."""
        places = original.places.places
        values = {key: places[name].tensor.detach() for key, name in self.names.items()}
        self.take(values, model)

    def take(self, values: Mapping[str, torch.Tensor], model: Subject) -> None:
        """Take these values, by key of the checkpoint, and fill the model by the links."""
        generator = torch.Generator().manual_seed(1)
        self._values = {
            leaf.key: values[leaf.key] if leaf.key in values else _invented(leaf, generator)
            for leaf in self._checkpoint.leaves
        }
        self._loaded = {}
        self._own = model.values(model.places.places)
        self.fill(model)

    def same_contents(self, one: Link, other: Link) -> bool:
        """Whether tensors that two links take are the same, so that an exchange would change nothing."""
        keys = [{key for step in self.steps.of(link) for key in step.sources} for link in (one, other)]
        return any(torch.equal(self._values[a], self._values[b]) for a in keys[0] for b in keys[1])

    def fill(self, model: Subject) -> None:
        """Fill the model by the links as they are now."""
        steps = [step for step in self.steps.all(self.links) if not step.absent]
        targets = {key for step in steps for key in step.targets}
        due = [step for step in steps if any(self._loaded.get(key) != step for key in step.targets)]
        model.restore()
        with open_source(self._values) as source, torch.no_grad():
            fill(due, source, model.places, to_model=True)
        model.keep()
        model.put({key: self._own[key] for key in self._loaded.keys() - targets})
        self._loaded = {key: step for step in steps for key in step.targets}


def _invented(leaf: Leaf, generator: torch.Generator) -> torch.Tensor:
    """Values for a key of the checkpoint that the original does not have."""
    dtype = getattr(torch, leaf.dtype or "float32")
    if not dtype.is_floating_point:
        return torch.zeros(leaf.shape or (), dtype=dtype)
    return drawn(torch.zeros(leaf.shape or ()), generator)


def tree_of(original: Any) -> KeyTree:
    """The keys of a live module, wrappers left out."""
    return find_places(getattr(original, "_orig_mod", original)).tree


def names_in(checkpoint: KeyTree, tree: KeyTree) -> dict[str, str]:
    """Key of the checkpoint to the same key in the original, whose tree is given, for those that it has.

    Raises
    ------
    TreealignError
        The original has none of them, or they are of other shapes there.
    """
    known = {leaf.key: leaf.shape for leaf in tree.leaves}
    names = {key: key for key in checkpoint.keys if key in known}
    if len(names) < len(checkpoint.keys) and known.keys() - names.keys():
        found = align(checkpoint, tree)
        left, right = checkpoint.keys, tree.keys
        for link in found.links:
            if link.certain and not link.operations:
                names |= {left[i]: right[j] for (i,), (j,) in link.expand() if left[i] not in names}
    unlike = [
        f"{leaf.key}: {list(leaf.shape or ())} in the checkpoint, {list(known[names[leaf.key]] or ())} in the original"
        for leaf in checkpoint.leaves
        if leaf.key in names and leaf.shape is not None and leaf.shape != known[names[leaf.key]]
    ]
    if unlike or not names:
        raise TreealignError(
            "the original is not the model of this checkpoint",
            facts=unlike[:5] or ["they have no key in common"],
            hint="build the original with the settings that the checkpoint was made with",
        )
    return names


def joint_ties(alignment: Alignment, names: Mapping[str, str]) -> dict[str, str]:
    """Keys of the original that are second names of what the model ties, to the key that feeds the first name."""
    left, right, tied = alignment.checkpoint.keys, alignment.model.keys, alignment.model.tied
    feeds = {right[j]: left[i] for (i,), (j,) in _pairs(alignment.links)}
    ties = ((left[i], feeds.get(tied.get(right[j], ""))) for (i,), (j,) in _pairs(alignment.copies))
    return {names[a]: names[b] for a, b in ties if b is not None and a in names and b in names}


def _pairs(links: Iterable[Link]) -> Iterable[Any]:
    return (group for link in links if not link.operations for group in link.expand())
