"""What safetensors has no form for, told before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from treealign.checkpoint.sources import Source
from treealign.checkpoint.tensors import SourceTensor, Stored
from treealign.errors import FormatError
from treealign.formats.dtypes import BITS
from treealign.formats.legible import legible

_LARGE, _MOST_REPEATS = 1 << 30, 1000


def writable(source: Source) -> Source:
    """The source, if safetensors has a form for each of its tensors.

    Raises
    ------
    FormatError
        Naming them.
    """
    others = [(key, tensor) for key, tensor in source.tensors.items() if not isinstance(tensor, Stored)]
    faults = [f"{legible(key)}: {fault}" for key, tensor in others for fault in _faults(source, key, tensor)]
    if faults:
        raise FormatError("these tensors cannot be written as safetensors", where=source.path, facts=faults)
    return source


def _faults(source: Source, key: str, tensor: SourceTensor) -> Sequence[str]:
    held = source.in_memory(key)
    dense = held is None or (str(held.layout) == "torch.strided" and not held.is_quantized)
    if tensor.dtype not in BITS or not dense:
        dtype = tensor.dtype if held is None else held.dtype
        return [f"{dtype}, {getattr(held, 'layout', 'in parts')}"]
    if held is not None and held.is_meta:
        return [f"{tuple(held.shape)} on the meta device: it has a shape, and no numbers"]
    if held is not None and (repeated := _repeated(held)):
        return [f"{tuple(held.shape)} that repeats {repeated} bytes"]
    return []


def _repeated(tensor: Any) -> int:
    """The bytes that a tensor of gigabytes repeats over and over, which would fill the disk; none for any other."""
    if tensor.nbytes <= _LARGE:
        return 0
    held = int(tensor.untyped_storage().nbytes())
    return held if held * _MOST_REPEATS < tensor.nbytes else 0
