"""Filling a model: one tensor of the checkpoint is in memory at a time, wherever an operation allows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from treealign.checkpoint.assigning import room, settle, takes_another
from treealign.checkpoint.places import Place, Places, dtype_name
from treealign.checkpoint.sources import Source
from treealign.errors import LoadError
from treealign.mapping.execution import speaking_of
from treealign.mapping.execution.execute import run_into
from treealign.mapping.planning import Step
from treealign.tree.fold import fold_names


def fill(
    steps: Sequence[Step],
    source: Source,
    places: Places,
    *,
    to_model: bool,
    copies: Sequence[Step] = (),
    assign: bool = False,
) -> dict[str, str]:
    """Load steps that were judged.

    Parameters
    ----------
    steps : sequence of Step
        What to load; in the order of the file they are read fastest.
    source, places
        From where, and where to.
    to_model : bool
        Whether tensors take the model's dtypes; otherwise the model takes theirs.
    copies : sequence of Step
        Further names of what `steps` load, to be told when it is cast.
    assign : bool
        Whether tensors that only change their names are taken as they lie instead of being read.

    Returns
    -------
    dict of str to str
        Key of the checkpoint to its dtype there, for what was cast.

    Raises
    ------
    LoadError
        A tensor could not be read or placed. Tensors on the meta device are placed when everything has been read, and
        then none has been; of others, the message says which were changed.

    Notes
    -----
    Memory beyond the model: one tensor, or all parts of one conversion where it does not merely join or permute.
    """
    filling = _Filling(source, places, to_model, assign)
    try:
        for step in _in_file_order(steps, source):
            filling.take(step)
    except Exception as error:
        raise _stopped(error, filling.changed) from error
    for spot, filled in filling.waiting:
        settle(spot, filled)
    for step in copies:
        filling.note_casts(step, _spots(step.targets[0], places)[0].tensor.dtype)
    return filling.casts


class _Filling:
    """Takes steps one by one; what goes to the meta device waits for the end."""

    def __init__(self, source: Source, places: Places, to_model: bool, assign: bool) -> None:
        self.source, self.places, self.to_model, self.assign = source, places, to_model, assign
        self.waiting: list[tuple[Sequence[Place], torch.Tensor]] = []
        self.changed: list[str] = []
        self.casts: dict[str, str] = {}

    def take(self, step: Step) -> None:
        spots = [_spots(key, self.places) for key in step.targets]
        olds = [spot[0].tensor for spot in spots]
        dtypes = self._dtypes(step, olds)
        in_place = not all(old.is_meta for old in olds)
        if in_place:
            self.changed += step.targets
        taken = self._taken(step, spots[0], dtypes[0]) if self.assign and not step.operations else None
        rooms = [taken] if taken is not None else self._read(step, spots, dtypes)
        if in_place:
            for spot, filled in zip(spots, rooms, strict=True):
                settle(spot, filled)
        else:
            self.waiting += zip(spots, rooms, strict=True)
        self.note_casts(step, dtypes[0])

    def note_casts(self, step: Step, dtype: torch.dtype) -> None:
        """Remember which of the tensors of a step had another dtype than they were loaded as."""
        name = dtype_name(dtype)
        for key in step.sources:
            given = self.source.tree.leaf(key).dtype
            if given != name:
                self.casts[key] = given or ""

    def _dtypes(self, step: Step, olds: Sequence[torch.Tensor]) -> list[torch.dtype]:
        given: torch.dtype = getattr(torch, self.source.tree.leaf(step.sources[0]).dtype or "")
        owns = [old.dtype for old in olds]
        return [own if self.to_model or own.is_floating_point != given.is_floating_point else given for own in owns]

    def _read(self, step: Step, spots: Sequence[Sequence[Place]], dtypes: Sequence[torch.dtype]) -> list[torch.Tensor]:
        rooms = [room(spot, dtype) for spot, dtype in zip(spots, dtypes, strict=True)]
        with speaking_of(step.sources):
            run_into(step.operations, (self.source.read(key) for key in step.sources), rooms, cast=True)
        return rooms

    def _taken(self, step: Step, spot: Sequence[Place], dtype: torch.dtype) -> torch.Tensor | None:
        """What the source holds, where it can stand in the model as it is."""
        held = self.source.shared(step.sources[0]) if takes_another(spot) else None
        fits = held is not None and held.dtype == dtype and held.device.type == "cpu"
        return held if fits else None


def start_counters(keys: Iterable[str], places: Places) -> None:
    """Let counters that have no value yet begin to count, as torch does."""
    for key in keys:
        if places.places[key].tensor.is_meta:
            settle(places.names[key], torch.zeros((), dtype=places.places[key].tensor.dtype))


def _in_file_order(steps: Iterable[Step], source: Source) -> list[Step]:
    keys = (key for file in source.layout.files for key in file.keys)
    order = {key: at for at, key in enumerate(keys)}
    return sorted(steps, key=lambda step: order[step.sources[0]])


def _spots(key: str, places: Places) -> Sequence[Place]:
    if key in places.recomputed:
        return (places.recomputed[key],)
    return places.names[places.tied.get(key, key)]


def _stopped(error: Exception, changed: Sequence[str]) -> LoadError:
    state = ["changed by then, the last of them perhaps in part:", *(f"  {name}" for name in fold_names(changed))]
    return LoadError(
        "the load stopped midway",
        facts=[*str(error).splitlines(), *(state if changed else ["the model is as it was"])],
        hint="load again, or load the checkpoint that the model had" if changed else "",
    )
