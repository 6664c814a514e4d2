"""Dtypes on the way back: what was cast is cast back where that loses nothing."""

from __future__ import annotations

from collections.abc import Mapping

from treealign.checkpoint.conversion.results import Made
from treealign.checkpoint.readers import Reader
from treealign.checkpoint.tensors import SourceTensor
from treealign.formats.dtypes import safetensors_dtype, torch_dtype
from treealign.mapping.planning import Step

# from the left to the right nothing is lost, whatever the values
_WIDER = {"F16": ("F32", "F64"), "BF16": ("F32", "F64"), "F32": ("F64",)}


def cast_back(
    made: Mapping[str, Made], tensors: Mapping[str, SourceTensor], dtypes: Mapping[str, str | None]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The dtypes to give back.

    Parameters
    ----------
    made : mapping of str to Made
        The result, as it is without a cast.
    tensors : mapping of str to SourceTensor
        What it is made of.
    dtypes : mapping of str to str or None
        Key of the result to the dtype it once had, as torch spells it; None where it is not known.

    Returns
    -------
    dict of str to str
        Key to dtype, as safetensors spells it, where casting loses nothing.
    tuple of str
        The keys that keep the dtype they have, and those whose values the first cast has rounded.

    Notes
    -----
    The tensors of one step are read at a time, and only where a narrower dtype is to be given back.
    """
    spelled = {key: safetensors_dtype(dtype) for key, dtype in dtypes.items() if dtype and key in made}
    wanted = {key: dtype for key, dtype in spelled.items() if dtype and made[key].dtype != dtype}
    wider = {key for key, dtype in wanted.items() if dtype in _WIDER.get(made[key].dtype, ())}
    narrower: dict[str, list[str]] = {}
    for key in (key for key in wanted if key not in wider):  # in order: processes may have to do this together
        narrower.setdefault(made[key].step.targets[0], []).append(key)
    exact = {key for keys in narrower.values() for key in _exact(made[keys[0]].step, keys, made, tensors, wanted)}
    found = {key: dtype for key, dtype in wanted.items() if key in wider or key in exact}
    return found, tuple(key for key in wanted if key not in exact)


def _exact(
    step: Step,
    keys: list[str],
    made: Mapping[str, Made],
    tensors: Mapping[str, SourceTensor],
    wanted: Mapping[str, str],
) -> list[str]:
    """Those of the keys of one step whose tensors come through the narrower dtype as they are."""
    import torch

    from treealign.mapping.execution import run
    from treealign.mapping.execution.transposing import contiguous, same_bytes

    with Reader() as reader:
        results = run(step.operations, [tensors[key].read(reader) for key in step.sources], step.sources)
        given = {key: contiguous(results[made[key].output]) for key in keys}
        kinds = {key: getattr(torch, torch_dtype(wanted[key])) for key in keys}
        return [key for key, held in given.items() if same_bytes([held, held.to(kinds[key]).to(held.dtype)])]
