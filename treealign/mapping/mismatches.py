"""Keys that correspond, but whose tensors do not fit: the same type wherever they are listed."""

from __future__ import annotations

from typing import NamedTuple

from treealign.formats.legible import printable

Shape = tuple[int, ...] | None


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


def _shown(shape: Shape) -> str:
    return "unknown" if shape is None else str(list(shape))
