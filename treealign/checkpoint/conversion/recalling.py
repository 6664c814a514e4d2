"""The way back by the record of the conversion that made a checkpoint, where there is one and it is of this mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from treealign.checkpoint.conversion.undoing import ORIGINALS, Conversion, read_conversion
from treealign.checkpoint.layouts import Layout
from treealign.checkpoint.readers import Reader
from treealign.checkpoint.record_file import BEFORE, NAME
from treealign.checkpoint.sources import Source
from treealign.checkpoint.tensors import SourceTensor, Stored
from treealign.errors import FormatError, MappingError
from treealign.formats.safetensors_header import read_header
from treealign.formats.stamps import stamp_of
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.operations import invert, is_lossy
from treealign.mapping.planning import Step


@dataclass(frozen=True)
class Recalled:
    """A record of the conversion that made a checkpoint, and what follows from it.

    Attributes
    ----------
    steps : tuple of Step
        Back, for the keys that the record knows.
    layout : Layout
        How the files lay.
    dtypes : mapping of str to str
        Key to the dtype that it had, where it was cast, as torch spells it.
    beside : mapping of str to str
        Records that stood beside the files.
    originals : mapping of str to SourceTensor
        Tensors that were kept because the result does not hold them.
    """

    steps: tuple[Step, ...]
    layout: Layout
    dtypes: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    originals: Mapping[str, SourceTensor] = field(default_factory=dict)

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the checkpoint that the record knows."""
        return frozenset(key for step in self.steps for key in step.sources)


def record_paths(source: Source) -> tuple[Path, ...]:
    """Where the record of a checkpoint may be: beside a single file under its own name, then in the folder."""
    path = Path(source.path)
    if source.folder is not None:
        return tuple(source.folder / name for name in (NAME, BEFORE))
    names = (f"{path.name}.{NAME}", f"{path.name}.{BEFORE}", NAME, BEFORE)
    return tuple(path.with_name(name) for name in names)


def recall(source: Source, mapping: ConversionMapping, reverse: bool) -> Recalled | None:
    """The record of a conversion in the other direction by the same mapping, if one is beside the checkpoint.

    Raises
    ------
    FormatError
        It cannot be read.
    MappingError
        A conversion that it tells of has only some of its results left.
    """
    for path in record_paths(source):
        found = read_conversion(path)
        if found is not None:
            return _recalled(source, found, path) if _belongs(found, mapping, reverse) else None
    return None


def _belongs(found: Conversion, mapping: ConversionMapping, reverse: bool) -> bool:
    return found.reverse != reverse and found.mapping.transforms == mapping.transforms


def _recalled(source: Source, found: Conversion, path: Path) -> Recalled | None:
    steps = [step for step in found.record.steps if any(key in source.tensors for key in step.targets)]
    _refuse_partial(steps, source, path)
    if not steps:
        return None
    back = tuple(Step(step.targets, step.sources, invert(step.operations)) for step in steps)
    originals = _originals(path.with_name(path.name.replace(NAME, ORIGINALS).replace(BEFORE, ORIGINALS)))
    return Recalled(back, found.layout, found.record.dtypes, found.beside, originals)


def _refuse_partial(steps: Sequence[Step], source: Source, path: Path) -> None:
    absent = [key for step in steps for key in step.targets if key not in source.tensors]
    if absent:
        raise MappingError(
            "the checkpoint lacks some of what its record says was made together",
            where=str(path),
            facts=[f"absent: {key}" for key in absent[:50]],
            hint="move the record away to convert by the mapping alone",
        )


def _originals(path: Path) -> dict[str, SourceTensor]:
    if not path.exists():
        return {}
    header = read_header(path)
    return {e.key: Stored(str(path), header.data_start + e.begin, e.dtype, e.shape) for e in header.tensors}


def with_originals(
    source: Source, steps: Sequence[Step], originals: Mapping[str, SourceTensor]
) -> tuple[Source, tuple[Step, ...], tuple[str, ...]]:
    """Take the originals where the source still holds what was made of them.

    Parameters
    ----------
    source : Source
        A checkpoint, or the tensors of a model.
    steps : sequence of Step
        Back to what it was.
    originals : mapping of str to SourceTensor
        Key of the result to what was kept of it.

    Returns
    -------
    Source
        With the originals among its tensors, under names that begin with the name of their file.
    tuple of Step
        The steps, those that are not needed replaced.
    tuple of str
        The keys that are computed although that gives something else than there was, because the tensors have changed.
    """
    tensors = dict(source.tensors)
    taken: list[Step] = []
    approximate: list[str] = []
    for step in steps:
        if not is_lossy(step.operations):
            taken.append(step)
        elif all(key in originals for key in step.targets) and _unchanged(step, source, originals):
            names = {f"{ORIGINALS}:{key}": key for key in step.targets}
            tensors |= {name: originals[key] for name, key in names.items()}
            taken += [Step((name,), (key,)) for name, key in names.items()]
        else:
            taken.append(step)
            approximate += step.targets
    paths = {tensor.path for tensor in originals.values() if tensor.path}
    stamps = {**source.stamps, **{path: stamp_of(path) for path in paths}}
    return replace(source, tensors=tensors, stamps=stamps), tuple(taken), tuple(approximate)


def _unchanged(step: Step, source: Source, originals: Mapping[str, SourceTensor]) -> bool:
    """Whether the originals still give what the checkpoint holds."""
    from treealign.mapping.execution.execute import run
    from treealign.mapping.execution.transposing import same_bytes

    with Reader() as reader:
        try:
            made = run(invert(step.operations), [originals[key].read(reader) for key in step.targets])
        except (MappingError, FormatError):
            return False
        held = [source.tensors[key].read(reader) for key in step.sources]
        return all(
            was.shape == now.shape and same_bytes([was.to(now.dtype), now]) for was, now in zip(made, held, strict=True)
        )
