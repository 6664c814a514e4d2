"""The keys on which what is emitted is tried, for loaders that know nothing of classes: given ones, or made up ones."""

from __future__ import annotations

from typing import Any, NamedTuple

from treealign.dialects.transformers.sides import sides_of
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.planning import Step
from treealign.tree.keytree import KeyTree
from treealign.tree.reading import read_tree


class Given(NamedTuple):
    """What is to come out.

    Attributes
    ----------
    keys : tuple of str
        Of the checkpoint; those that reach the model where both are known.
    steps : tuple of Step
        What the mapping does with them.
    shapes : dict
        Key of the checkpoint to its shape, None where it is unknown.
    sampled : bool
        The keys are made up.
    """

    keys: tuple[str, ...]
    steps: tuple[Step, ...]
    shapes: dict[str, tuple[int, ...] | None]
    sampled: bool


def given(mapping: ConversionMapping, checkpoint: Any, model: Any) -> Given:
    """Keys for a mapping, from whichever side is given.

    Raises
    ------
    TreealignError
        A side cannot be read, or the mapping cannot be run on it.
    """
    sides = sides_of(mapping, checkpoint, None if model is None else _plain(model))
    return Given(sides.journey.keys, sides.journey.steps, sides.shapes, sides.sampled)


def _plain(model: Any) -> KeyTree:
    """The leaves of a model, without its classes."""
    tree = model if isinstance(model, KeyTree) else read_tree(model)
    return KeyTree.from_leaves(tree.leaves, tied=tree.tied, ordered=tree.ordered)
