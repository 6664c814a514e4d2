"""What each tensor of the result is made of, with its dtype and shape, known before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from treealign.checkpoint.tensors import SourceTensor
from treealign.errors import MappingError
from treealign.formats.dtypes import safetensors_dtype, safetensors_shape, torch_dtype, torch_shape
from treealign.formats.safetensors_writer import TensorPlan
from treealign.mapping.planning import Step

# what a change of dtype applies to: numbers that stand for themselves, not quantised ones
FLOATS = ("F64", "F32", "F16", "BF16")


class Made(NamedTuple):
    """One tensor of the result: the step that gives it, as which of its outputs, and what it is like.

    `dtype` and `shape` are spelled and counted as safetensors does; `cast` says that the step itself gives another
    dtype.
    """

    step: Step
    output: int
    dtype: str
    shape: tuple[int, ...]
    cast: bool = False

    def planned(self, key: str) -> TensorPlan:
        """As a tensor to be written."""
        return TensorPlan(key, self.dtype, self.shape)


def results(
    steps: Iterable[Step], tensors: Mapping[str, SourceTensor], dtypes: Mapping[str, str] | str | None = None
) -> dict[str, Made]:
    """What the steps give, by key.

    Parameters
    ----------
    steps : iterable of Step
        None of which lacks a key.
    tensors : mapping of str to SourceTensor
        The checkpoint.
    dtypes : str, or mapping of str to str, optional
        The dtype that all numbers with a point are to have, or that single keys of the result are to have, as
        safetensors spells it.

    Raises
    ------
    MappingError
        Tensors do not fit the operations; all of them are named.
    """
    made: dict[str, Made] = {}
    faults: list[str] = []
    for step in steps:
        try:
            for output, (key, dtype, shape) in enumerate(_given(step, [tensors[key] for key in step.sources])):
                wanted = _wanted(key, dtype, dtypes)
                made[key] = Made(step, output, wanted, shape, wanted != dtype)
        except MappingError as error:
            faults.append(f"{', '.join(step.targets[:3])}: {'; '.join([error.what, *error.facts])}")
    if faults:
        raise MappingError("the tensors do not fit the operations", facts=faults[:50])
    return made


def _wanted(key: str, dtype: str, dtypes: Mapping[str, str] | str | None) -> str:
    if isinstance(dtypes, str):
        return dtypes if dtype in FLOATS else dtype
    return (dtypes or {}).get(key, dtype)


def _given(step: Step, sources: Sequence[SourceTensor]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    if not step.operations:
        return iter([(step.targets[0], sources[0].dtype, sources[0].shape)])
    return _computed(step, sources)


def _computed(step: Step, sources: Sequence[SourceTensor]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    import torch

    from treealign.mapping.execution.execute import expected

    unknown = [source.dtype for source in sources if not hasattr(torch, torch_dtype(source.dtype))]
    if unknown:
        raise MappingError(f"torch has no {torch_dtype(unknown[0])} to compute with")
    like = [
        torch.empty(torch_shape(s.dtype, s.shape), dtype=getattr(torch, torch_dtype(s.dtype)), device="meta")
        for s in sources
    ]
    for key, tensor in zip(step.targets, expected(step.operations, like), strict=True):
        dtype = safetensors_dtype(str(tensor.dtype).removeprefix("torch."))
        assert dtype is not None
        yield key, dtype, safetensors_shape(dtype, tuple(tensor.shape))
