"""What rules are read for: the names and shapes of a checkpoint and of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from treealign.dialects.transformers.collecting import fresh
from treealign.dialects.transformers.proving import save
from treealign.dialects.transformers.sides import parts_in
from treealign.dialects.transformers.skeleton import Part, skeleton
from treealign.errors import TreealignError
from treealign.tree.keytree import KeyTree
from treealign.tree.reading import read_tree

Shapes = Mapping[str, tuple[int, ...] | None]


class Both(NamedTuple):
    """A checkpoint and its model: names and shapes, and the parts of the model that are models.

    `model` is None where there is none.
    """

    checkpoint: Shapes
    model: Shapes | None
    parts: Mapping[str, Part]

    @property
    def prefix(self) -> str:
        """The prefix that loading adds or strips."""
        return self.parts[""].base_model_prefix if "" in self.parts else ""


def both_of(rules: Sequence[Any], checkpoint: Any, model: Any) -> Both:
    """Both sides; without a checkpoint, what transformers would save of the model by the rules.

    Raises
    ------
    TreealignError
        A side cannot be read, or transformers cannot save the model.
    """
    parts = parts_in(model)
    wanted = None if model is None else _shapes(model)
    if checkpoint is not None:
        return Both(_shapes(checkpoint), wanted, parts)
    assert wanted is not None
    return Both(_saved(rules, wanted, parts), wanted, parts)


def _shapes(source: Any) -> Shapes:
    tree = source if isinstance(source, KeyTree) else read_tree(source)
    return {leaf.key: leaf.shape for leaf in tree.leaves if leaf.key not in tree.tied}


def _saved(rules: Sequence[Any], shapes: Shapes, parts: Mapping[str, Part]) -> Shapes:
    model = skeleton({key: shape or () for key, shape in shapes.items()}, parts)
    model._weight_conversions = [fresh(rule) for rule in rules]
    try:
        saved = save(model, model.state_dict())
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        raise TreealignError(
            "transformers cannot save the model by these rules",
            facts=[f"{type(error).__name__}: {said}"],
            hint="pass the checkpoint",
        ) from error
    return {key: tuple(tensor.shape) for key, tensor in saved.items()}
