"""Keys that correspond, but whose tensors do not fit: the same type wherever they are listed."""

from __future__ import annotations

from typing import NamedTuple

from treealign.formats.legible import printable
from treealign.tree.keytree import Leaf

Shape = tuple[int, ...] | None
_STEMS = {"floating": ("float", "bfloat"), "complex": ("complex",)}


class _Pair(NamedTuple):
    checkpoint: str
    model: str
    checkpoint_shape: Shape
    model_shape: Shape


class Mismatch(_Pair):
    """A key of either side that correspond, and why the one cannot become the other.

    Attributes
    ----------
    checkpoint, model : str
        The keys; of a conversion its first source.
    checkpoint_shape, model_shape : tuple of int or None
        Their shapes, that of a conversion's result where there is one; None where it is unknown or not the reason.
    reason : str
        What is wrong where the shapes do not show it.
    """

    reason: str

    def __new__(
        cls, checkpoint: str, model: str, checkpoint_shape: Shape, model_shape: Shape, reason: str = ""
    ) -> Mismatch:
        """A mismatch; the reason is no part of the tuple."""
        made = super().__new__(cls, checkpoint, model, checkpoint_shape, model_shape)
        made.reason = reason
        return made

    @property
    def problem(self) -> str:
        """What is wrong, without the keys."""
        shapes = f"{_shown(self.checkpoint_shape)} in the checkpoint, {_shown(self.model_shape)} in the model"
        return self.reason or shapes

    def __str__(self) -> str:
        names = self.model if self.checkpoint == self.model else f"{self.checkpoint} -> {self.model}"
        return printable(f"{names}: {self.problem}")


def kind_of(dtype: str | None) -> str:
    """What sort of numbers a dtype holds; no cast goes from one sort to another and back.

    >>> [kind_of(dtype) for dtype in ("bfloat16", "int64", "complex64", None)]
    ['floating', 'integer', 'complex', '']
    """
    if dtype is None:
        return ""
    return next((kind for kind in ("floating", "complex") if dtype.startswith(_STEMS[kind])), "integer")


def cannot_become(given: str | None, wanted: str | None) -> str:
    """The reason of a mismatch of two kinds of numbers."""
    return f"{given} in the checkpoint cannot become {wanted} as in the model"


def unlike(here: Leaf, there: Leaf) -> bool:
    """Whether two leaves of one name differ in shape or in the kind of their numbers."""
    return here.shape != there.shape or kind_of(here.dtype) != kind_of(there.dtype)


def mismatch_of(here: Leaf, there: Leaf) -> Mismatch:
    """The mismatch of two leaves: by their shapes, or by the kinds of their numbers where the shapes are the same."""
    if here.shape != there.shape:
        return Mismatch(here.key, there.key, here.shape or (), there.shape or ())
    return Mismatch(here.key, there.key, None, None, cannot_become(here.dtype, there.dtype))


def _shown(shape: Shape) -> str:
    return "unknown" if shape is None else str(list(shape))
