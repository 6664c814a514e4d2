"""What a save writes, as what a conversion writes: the tensors of the model are the source, undone loads the steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from treealign.checkpoint.conversion.casting import cast_back
from treealign.checkpoint.conversion.recalling import with_originals
from treealign.checkpoint.conversion.results import Made, results
from treealign.checkpoint.layouts import Layout
from treealign.checkpoint.naming import Naming
from treealign.checkpoint.sources import Source
from treealign.checkpoint.tensors import SourceTensor, in_memory
from treealign.checkpoint.writable import writable
from treealign.errors import LoadError, MappingError
from treealign.formats.dtypes import torch_dtype
from treealign.mapping.planning import Step

_KEPT = "kept:"


@dataclass(frozen=True)
class Outgoing:
    """The tensors of the files.

    Attributes
    ----------
    source : Source
        What they are made of: tensors of the model, and others that it carries for the way back.
    made : mapping of str to Made
        Key of the files to what is made.
    uncast : mapping of str to (str, str)
        Key to its dtype and the one it was loaded from, where casting back would lose something.
    approximate : tuple of str
        Keys that come out of a conversion that cannot be undone exactly.
    """

    source: Source
    made: Mapping[str, Made]
    uncast: Mapping[str, tuple[str, str]]
    approximate: tuple[str, ...]


def emit_tensors(naming: Naming, where: str) -> Outgoing:
    """All tensors of the files.

    Raises
    ------
    LoadError
        The tensors no longer fit the operations that undo their conversion.
    FormatError
        There is one that safetensors has no form for.

    Notes
    -----
    Tensors that were cast on loading are looked at here, to see whether casting them back loses anything, and those
    that were folded, to see whether they are as they were; no others.
    """
    tensors: dict[str, SourceTensor] = {}
    originals: dict[str, SourceTensor] = {}
    dtypes: dict[str, str | None] = {}
    steps = []
    for keys, places, operations, before, kept in naming.emissions:
        tensors |= {place.key: in_memory(place.tensor, place.key) for place in places}
        originals |= {key: in_memory(tensor, key) for key, tensor in zip(keys, kept, strict=False)}
        dtypes |= zip(keys, before, strict=True)
        steps.append(Step(tuple(place.key for place in places), keys, operations))
    tensors |= {f"{_KEPT}{key}": in_memory(tensor, key) for key, tensor in naming.kept.items()}
    source, taken, approximate = with_originals(Source(where, None, tensors, Layout(())), steps, originals)
    taken += tuple(Step((f"{_KEPT}{key}",), (key,)) for key in naming.kept)
    made = _results(writable(source), taken)
    casts, _ = cast_back(made, source.tensors, dtypes)
    uncast = {
        key: (torch_dtype(made[key].dtype), dtype)
        for key, dtype in dtypes.items()
        if dtype and key not in casts and torch_dtype(made[key].dtype) != dtype
    }
    return Outgoing(source, results(taken, source.tensors, casts) if casts else made, uncast, approximate)


def _results(source: Source, steps: Iterable[Step]) -> dict[str, Made]:
    try:
        return results(steps, source.tensors)
    except MappingError as error:
        hint = "original_names=False saves the model under its own names"
        raise LoadError(error.what, where=source.path, facts=error.facts, hint=hint) from error
