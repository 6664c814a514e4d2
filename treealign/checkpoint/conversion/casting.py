"""Dtypes on the way back: what was cast is cast back where that loses nothing."""

from __future__ import annotations

from collections.abc import Mapping

from treealign.checkpoint.conversion.results import Made
from treealign.checkpoint.conversion.tensors import Reader, SourceTensor
from treealign.formats.dtypes import safetensors_dtype, torch_dtype

# from the left to the right nothing is lost, whatever the values
_WIDER = {"F16": ("F32", "F64"), "BF16": ("F32", "F64"), "F32": ("F64",)}


def cast_back(
    made: Mapping[str, Made], tensors: Mapping[str, SourceTensor], dtypes: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The dtypes to give back.

    Parameters
    ----------
    made : mapping of str to Made
        The result, as it is without a cast.
    tensors : mapping of str to SourceTensor
        What it is made of.
    dtypes : mapping of str to str
        Key of the result to the dtype it once had, as torch spells it.

    Returns
    -------
    dict of str to str
        Key to dtype, as safetensors spells it, where casting loses nothing.
    tuple of str
        The keys that keep the dtype they have, and those whose values the first cast has rounded.

    Notes
    -----
    Tensors are read one by one, and only where a narrower dtype is to be given back.
    """
    found: dict[str, str] = {}
    approximate: list[str] = []
    for key, spelled in dtypes.items():
        wanted = safetensors_dtype(spelled)
        if wanted is None or key not in made or made[key].dtype == wanted:
            continue
        wider = wanted in _WIDER.get(made[key].dtype, ())
        if wider or _loses_nothing(made[key], tensors, wanted):
            found[key] = wanted
        if wider or key not in found:
            approximate.append(key)
    return found, tuple(approximate)


def _loses_nothing(one: Made, tensors: Mapping[str, SourceTensor], wanted: str) -> bool:
    import torch

    from treealign.checkpoint.execute import run
    from treealign.checkpoint.open_sources import same_bytes
    from treealign.checkpoint.transposing import contiguous

    with Reader() as reader:
        given = [tensors[key].read(reader) for key in one.step.sources]
        tensor = contiguous(run(one.step.operations, given)[one.output])
        return same_bytes([tensor, tensor.to(getattr(torch, torch_dtype(wanted))).to(tensor.dtype)])
