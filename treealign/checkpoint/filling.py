"""Filling a model: one tensor of the checkpoint is in memory at a time, wherever an operation allows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from treealign.checkpoint.assigning import room, settle, takes_another
from treealign.checkpoint.execute import run_into
from treealign.checkpoint.places import Place, Places, dtype_name
from treealign.checkpoint.source import Source
from treealign.errors import LoadError
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
    waiting: list[tuple[Sequence[Place], torch.Tensor]] = []
    changed: list[str] = []
    casts: dict[str, str] = {}
    try:
        for step in _in_file_order(steps, source):
            dtypes = [_wanted(key, step, source, places, to_model) for key in step.targets]
            spots = [_spots(key, places) for key in step.targets]
            in_place = not all(spot[0].tensor.is_meta for spot in spots)
            changed += step.targets if in_place else ()
            taken = _taken(step, source, spots[0], dtypes[0]) if assign else None
            rooms = [taken] if taken is not None else _read(step, source, spots, dtypes)
            for spot, filled in zip(spots, rooms, strict=True):
                if in_place:
                    settle(spot, filled)
                else:
                    waiting.append((spot, filled))
            casts |= _casts(step, source, dtypes)
    except Exception as error:
        raise _stopped(error, changed) from error
    for spot, filled in waiting:
        settle(spot, filled)
    for step in copies:
        casts |= _casts(step, source, [_spots(step.targets[0], places)[0].tensor.dtype])
    return casts


def _read(
    step: Step, source: Source, spots: Sequence[Sequence[Place]], dtypes: Sequence[torch.dtype]
) -> list[torch.Tensor]:
    rooms = [room(spot, dtype) for spot, dtype in zip(spots, dtypes, strict=True)]
    run_into(step.operations, (source.read(key) for key in step.sources), rooms, cast=True)
    return rooms


def _taken(step: Step, source: Source, spot: Sequence[Place], dtype: torch.dtype) -> torch.Tensor | None:
    """What the source holds, where it can stand in the model as it is."""
    if step.operations or not takes_another(spot):
        return None
    held = source.shared(step.sources[0])
    fits = held is not None and held.dtype == dtype and held.device.type == "cpu"
    return held if fits else None


def _in_file_order(steps: Iterable[Step], source: Source) -> list[Step]:
    keys = (key for file in source.layout.files for key in file.keys)
    order = {key: at for at, key in enumerate(keys)}
    return sorted(steps, key=lambda step: order[step.sources[0]])


def _spots(key: str, places: Places) -> Sequence[Place]:
    if key in places.recomputed:
        return (places.recomputed[key],)
    return places.names[places.tied.get(key, key)]


def _wanted(key: str, step: Step, source: Source, places: Places, to_model: bool) -> torch.dtype:
    own = _spots(key, places)[0].tensor.dtype
    given: torch.dtype = getattr(torch, source.tree.leaf(step.sources[0]).dtype or "")
    return own if to_model or own.is_floating_point != given.is_floating_point else given


def _casts(step: Step, source: Source, dtypes: Sequence[torch.dtype]) -> dict[str, str]:
    now = dtype_name(dtypes[0])
    given = ((key, source.tree.leaf(key).dtype or "") for key in step.sources)
    return {key: dtype for key, dtype in given if dtype != now}


def _stopped(error: Exception, changed: Sequence[str]) -> LoadError:
    state = ["changed by then, the last of them perhaps in part:", *(f"  {name}" for name in fold_names(changed))]
    return LoadError(
        "the load stopped midway",
        facts=[*str(error).splitlines(), *(state if changed else ["the model is as it was"])],
        hint="load again, or load the checkpoint that the model had" if changed else "",
    )
