"""The original and the model side by side: equal values in both, and the outputs of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from treealign.errors import TreealignError
from treealign.run.drawing import draw_all, is_plain
from treealign.run.outputs import difference, is_finite, paired, tells, tensors_of
from treealign.run.recorder import Events, Signature, drawn, named_tensors
from treealign.run.subject import Subject


class RefusedError(TreealignError):
    """Runs from which nothing follows: they give something else each time, or what agrees by chance."""


Carry = Callable[[Subject, Subject], None]  # fills the model from the original
OTHER_SEED = 1_000_003


class Sides:
    """What is compared: a model that can be filled, and what the original gives.

    Attributes
    ----------
    model : Subject
        The model.
    generic : bool
        Whether the weights were drawn, so that no two are equal by chance or for a reason.
    """

    def __init__(self, model: Subject, *, generic: bool) -> None:
        self.model, self.generic = model, generic
        self.missing: frozenset[str] = frozenset()

    @property
    def precision(self) -> str:
        """``"float64"`` or ``"float32"``: in which both run."""
        raise NotImplementedError

    @property
    def runs(self) -> int:
        """How often one of the two was run."""
        raise NotImplementedError

    def draw(self, seed: int) -> None:
        """Give both the same values."""
        raise NotImplementedError

    def compare(self, inside: Callable[[], Any] | None = None) -> float:
        """How far the outputs are apart, with the values as they are; `inside` as in `Subject.run`."""
        raise NotImplementedError

    def original_events(self) -> frozenset[Signature]:
        """The signatures of what the original computes on the way."""
        raise NotImplementedError

    def draws_chance(self) -> bool:
        """Whether the original draws random numbers."""
        raise NotImplementedError

    def seen(self, *, grad: bool = False) -> list[torch.Tensor]:
        """What of the model's outputs is compared, with the values as they are."""
        return [tensor for _, tensor in named_tensors(self.model.run(grad=grad))]

    def effect(self, keys: Sequence[str], seed: int = 0) -> float:
        """How far the model's outputs change when tensors under some keys get other values."""
        before = self.model.values(keys)
        base = self.seen()
        generator = torch.Generator().manual_seed(seed + OTHER_SEED)
        self.model.put({key: drawn(value, generator) for key, value in before.items()})
        try:
            changed = self.seen()
        except TreealignError:  # code that stops at other values depends on them
            return math.inf
        finally:
            self.model.put(before)
        return difference(base, changed)


def refuse_unsteady(side: Subject, one: Any, other: Any) -> None:
    """Raise where two results of one side are not the same.

    Raises
    ------
    RefusedError
        They differ.
    """
    if difference(*paired(one, other)) > 0.0:
        raise RefusedError(
            f"two runs of the {side.name} with the same weights, inputs and seeds differ",
            hint="a run must give the same each time: no state kept from call to call, no other source of chance",
        )


def refuse_chance(expected: Any) -> None:
    """Raise where results are so few whole numbers that a wrong mapping may give them too.

    Raises
    ------
    RefusedError
        They are.
    """
    outputs = tensors_of(expected)
    if not tells(outputs):
        raise RefusedError(
            "the outputs are so few whole numbers that others may give them by chance",
            facts=[f"the original gives {', '.join(str(list(one.shape)) for one in outputs)}"],
            hint="let run return the scores from which they are taken, or more of them",
        )


class Pair(Sides):
    """Two subjects, and what carries the values of the one into the other.

    Parameters
    ----------
    original, model : Subject
        The sides.
    carry : callable
        Fills the model with the original's values.
    unread : iterable of str
        Keys of the original that the model has no place for; buffers among them keep their values.
    ties : mapping
        Further keys of the original that feed one tensor of the model, to the key that they then have to equal.
    """

    def __init__(
        self, original: Subject, model: Subject, carry: Carry, unread: Iterable[str], ties: Mapping[str, str]
    ) -> None:
        super().__init__(model, generic=True)
        self.original, self.carry = original, carry
        self.ties = {**original.places.tied, **ties}
        self.expected: Any = None
        self._first = [side.values(side.tensors) for side in (original, model)]
        kept = set(unread)
        self._drawn = (
            [k for k, p in original.places.places.items() if p.kind == "parameter" or (_plain(p) and k not in kept)],
            [k for k, p in model.places.places.items() if p.kind == "parameter"],
        )

    @property
    def precision(self) -> str:
        """The type in which both run."""
        return "float64" if self.original.double else "float32"

    @property
    def runs(self) -> int:
        """How often one of the two was run."""
        return self.original.runs + self.model.runs

    def draw(self, seed: int) -> None:
        """Give both the same distinct values, with which the original gives finite numbers.

        Raises
        ------
        TreealignError
            There are none; or two runs of one side differ.
        """
        for near in (False, True):
            self._fill(seed, near)
            self.expected = self.original.run()
            if is_finite(tensors_of(self.expected)):
                break
        else:
            hint = "does it with its own weights? choose other inputs"
            raise TreealignError("the original gives no finite numbers, whatever its weights", hint=hint)
        refuse_chance(self.expected)
        again = self.original.run()
        refuse_unsteady(self.original, self.expected, again)
        refuse_unsteady(self.model, self.model.run(), self.model.run())

    def _fill(self, seed: int, near: bool) -> None:
        for side, first in zip((self.original, self.model), self._first, strict=True):
            side.put(first)
        for n, (side, ties) in enumerate(((self.original, self.ties), (self.model, self.model.places.tied))):
            draw_all(side.places.places, seed + n * OTHER_SEED, ties, self._drawn[n], near=near)
        self.original.keep()
        self.carry(self.original, self.model)
        self.model.keep()

    def compare(self, inside: Callable[[], Any] | None = None) -> float:
        """How far the outputs are apart, with the values as they are; `inside` as in `Subject.run`."""
        return difference(*paired(self.expected, self.model.run(inside=inside)))

    def original_events(self) -> frozenset[Signature]:
        """Run the original once more, and watch."""
        watch = Events()
        self.original.run(inside=lambda: watch)
        return frozenset(watch.seen)

    def draws_chance(self) -> bool:
        """Whether the outputs change with the seed: the code itself draws random numbers."""
        other = self.original.run(seed=OTHER_SEED)
        return difference(*paired(self.expected, other)) > 0.0


def _plain(place: Any) -> bool:
    return place.kind == "buffer" and is_plain(place.tensor)
