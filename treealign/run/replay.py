"""A run that was recorded elsewhere in the place of the original: its values, inputs and outputs, from a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from treealign.errors import FormatError, TreealignError
from treealign.run.drawing import draw_all
from treealign.run.outputs import difference, paired, tensors_of
from treealign.run.pair import OTHER_SEED, Sides, refuse_chance, refuse_unsteady
from treealign.run.realising import Realiser
from treealign.run.recorder import FORMAT, Signature
from treealign.run.subject import Subject

OUTPUTS = ("outputs", "logits", "last_hidden_state")  # the names of what is expected, in a file that others wrote


@dataclass(frozen=True)
class Recording:
    """What a file holds of runs of the original.

    Attributes
    ----------
    inputs : object
        What to call the model with; None where the file does not say it.
    own : list of torch.Tensor
        What the original gives with the weights of its checkpoint.
    drawn : list of torch.Tensor
        What it gives with other weights; empty where there was no such run.
    values : dict of str to torch.Tensor
        Those weights.
    events : two sets
        Signatures of all that is computed on the way, in either run.
    precision : str
        In which it was run.
    """

    inputs: Any
    own: list[torch.Tensor]
    drawn: list[torch.Tensor] = field(default_factory=list)
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    events: tuple[frozenset[Signature], frozenset[Signature]] = (frozenset(), frozenset())
    precision: str = "float64"


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Read a file that `treealign.record` wrote, or one of `inputs` and `outputs` that somebody else did.

    Raises
    ------
    FormatError
        It is neither.
    """
    data = _data(Path(path))
    if data.get("format") == FORMAT:
        own, other = data["own"], data["drawn"]
        events = tuple(frozenset((n, a, b) for n, a, b in run["events"]) for run in (own, other))
        args = data["inputs"]
        inputs = None if args is None else (args[1] if args[1] and not args[0] else tuple(args[0]))
        return Recording(inputs, own["outputs"], other["outputs"], other["values"], (events[0], events[1]))
    given = next((data[name] for name in OUTPUTS if name in data), None)
    expected = [t for t in tensors_of(given) if t.numel()] if given is not None else []
    if not expected:
        raise FormatError(
            "no recording of a run",
            where=str(path),
            hint="write one with `treealign record`, or save a dict of `inputs` and `outputs` with torch.save",
        )
    return Recording(data.get("inputs"), expected, precision="float32")


def _data(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return _nested(load_file(path))
        data = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        hint = "`treealign record CODE --run CODE -o FILE` writes one"
        raise FormatError(
            "cannot be read as a recording of a run: there is no such file", where=str(path), hint=hint
        ) from None
    except Exception as error:
        facts = [f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"]
        raise FormatError("cannot be read as a recording of a run", where=str(path), facts=facts) from error
    return data if isinstance(data, Mapping) else {}


def _nested(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """``inputs.tokens`` as what is under `tokens` of `inputs`."""
    found: dict[str, Any] = {}
    for key, value in tensors.items():
        head, _, rest = key.partition(".")
        if rest:
            found.setdefault(head, {})[rest] = value
        else:
            found[head] = value
    return found


class Recorded(Sides):
    """The model with the values that it has, and what a recorded run of the original gave.

    Parameters
    ----------
    expected : list of torch.Tensor
        The original's outputs.
    events : frozenset
        The signatures of what it computed on the way.
    model : Subject
        The model.
    precision : str
        In which the original was run.
    generic : bool
        Whether its weights were drawn, so that no two are equal by chance or for a reason.
    """

    def __init__(
        self,
        expected: list[torch.Tensor],
        events: frozenset[Signature],
        model: Subject,
        *,
        precision: str = "float64",
        generic: bool = False,
    ) -> None:
        super().__init__(model, generic=generic)
        self._outputs, self._events, self._precision = expected, events, precision

    @property
    def precision(self) -> str:
        """In which the less precise side runs."""
        return self._precision if self.model.double else "float32"

    @property
    def runs(self) -> int:
        """How often the model was run."""
        return self.model.runs

    def draw(self, seed: int) -> None:
        """Leave the values as they are.

        Raises
        ------
        TreealignError
            Two runs of the model differ, or the outputs cannot be compared.
        """
        refuse_chance(self._outputs)
        refuse_unsteady(self.model, self.model.run(), self.model.run())

    def compare(self, inside: Callable[[], Any] | None = None) -> float:
        """How far the outputs are from those recorded; of what was kept in part, that part."""
        return difference(*paired(self._outputs, self._kept(tensors_of(self.model.run(inside=inside)))))

    def seen(self, *, grad: bool = False) -> list[torch.Tensor]:
        """What of the model's outputs was kept of the original's."""
        return self._kept(super().seen(grad=grad))

    def _kept(self, found: list[torch.Tensor]) -> list[torch.Tensor]:
        if len(found) > len(self._outputs) == 1:
            found = found[:1]
        if len(found) == len(self._outputs):
            return [_corner(mine, kept) for mine, kept in zip(found, self._outputs, strict=True)]
        return found

    def original_events(self) -> frozenset[Signature]:
        """What the original computed on the way; nothing where that was not recorded."""
        return self._events

    def draws_chance(self) -> bool:
        """Whether the original draws random numbers: it is not known."""
        return False


class Replay(Recorded):
    """A recorded run of the original, with the weights that it had, which the model is to be filled with.

    Parameters
    ----------
    expected, events, model, precision, generic
        As of `Recorded`.
    values : mapping of str to torch.Tensor
        The weights that the original had, by key of the checkpoint.
    realiser : Realiser
        What fills the model.
    """

    def __init__(
        self,
        expected: list[torch.Tensor],
        events: frozenset[Signature],
        values: Mapping[str, torch.Tensor],
        model: Subject,
        realiser: Realiser,
        *,
        precision: str = "float64",
        generic: bool = True,
    ) -> None:
        super().__init__(expected, events, model, precision=precision, generic=generic)
        self._values, self._realiser = values, realiser

    def draw(self, seed: int) -> None:
        """Fill the model with the recorded values, and with random ones what these do not fill; see `Recorded.draw`."""
        places = self.model.places
        parameters = [key for key, place in places.places.items() if place.kind == "parameter"]
        draw_all(places.places, seed + OTHER_SEED, places.tied, parameters)
        self._realiser.take(self._values, self.model)
        super().draw(seed)


def _corner(found: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """The part of an output that was kept: its first rows and columns, of the first of a batch."""
    if found.shape == kept.shape or found.numel() == kept.numel():
        return found
    while found.dim() > kept.dim():
        found = found[0]
    if found.dim() < kept.dim() or any(n > m for n, m in zip(kept.shape, found.shape, strict=True)):
        raise TreealignError(
            "the recorded output has another shape than the model's",
            facts=[f"recorded: {list(kept.shape)}", f"model:    {list(found.shape)}"],
            hint="let run return what was recorded",
        )
    return found[tuple(slice(0, n) for n in kept.shape)]
