"""By which steps a checkpoint is converted: by the record of what made it, or by what a mapping makes of its keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from treealign.checkpoint.adapters.lifting import lift
from treealign.checkpoint.adapters.parts import is_adapter
from treealign.checkpoint.conversion.again import decided_steps, refuse_idle, refuse_unsaid, says_converted
from treealign.checkpoint.conversion.recalling import Recalled, recall, with_originals
from treealign.checkpoint.sources import Source
from treealign.errors import LoadError, MappingError
from treealign.formats.dtypes import torch_shape
from treealign.mapping.conversion_mapping import ConversionMapping, Converted
from treealign.mapping.guards import GuardDecision
from treealign.mapping.operations import is_lossy
from treealign.mapping.planning import Step
from treealign.tree.fold import fold_names
from treealign.tree.keytree import KeyTree


@dataclass(frozen=True)
class Route:
    """How a checkpoint is converted.

    Attributes
    ----------
    source : Source
        The checkpoint, with the tensors that were kept beside it where they are needed.
    transforms : ConversionMapping
        In the direction of the conversion.
    decision : GuardDecision
        About its guards, for all keys.
    steps : tuple of Step
        What to do; no two give the same key.
    by_mapping : tuple of Step
        Those of them that come of the mapping.
    recalled : Recalled or None
        The record that is followed, if one is.
    approximate : tuple of str
        Keys of the result that a record cannot bring back as they were.
    done : bool
        Whether the files say that they were converted so already: nothing is left to do.
    """

    source: Source
    transforms: ConversionMapping
    decision: GuardDecision
    steps: tuple[Step, ...]
    by_mapping: tuple[Step, ...]
    recalled: Recalled | None = None
    approximate: tuple[str, ...] = ()
    done: bool = False

    @property
    def changes_nothing(self) -> bool:
        """Whether every tensor stays as it is, under the name that it has."""
        return all(not step.operations and step.sources == step.targets for step in self.steps)


def find_route(
    source: Source, mapping: ConversionMapping, *, reverse: bool = False, converted: Converted = None
) -> Route:
    """The steps of a conversion: by the record beside the checkpoint where it is of this mapping, else by the mapping.

    Raises
    ------
    MappingError
        Two keys reach one name, keys that a `Convert` needs are absent, or no key is touched.
    UndecidedError
        Nothing tells whether the checkpoint was converted already.
    FormatError
        The record cannot be read.
    """
    transforms = _lifted(source, mapping.reverse if reverse else mapping, converted)
    if converted is None and says_converted(source, mapping, reverse):
        return _as_it_is(source)
    recalled = recall(source, mapping, reverse)
    done = recalled.keys if recalled else frozenset()
    keys = KeyTree.from_leaves([(key, None, None) for key in source.tensors if key not in done], source=source.path)
    told = says_converted(source, mapping, not reverse)
    decision, steps = decided_steps(transforms, keys, converted, source.path, told=told)
    if recalled is None:
        if converted is None and not told:
            refuse_unsaid(steps, _shapes(source), source.path)
        refuse_idle(transforms, steps, keys, source)
        return Route(source, transforms, decision, steps, steps)
    source, back, approximate = with_originals(source, recalled.steps, recalled.originals)
    _refuse_meeting([*back, *steps])
    return Route(source, transforms, decision, (*back, *steps), steps, recalled, approximate)


def _lifted(source: Source, transforms: ConversionMapping, converted: Converted) -> ConversionMapping:
    """The mapping for the keys that are there: for those of an adapter, that of its base model is made to fit."""
    if not is_adapter(source.tensors):
        return transforms
    return lift(transforms, _shapes(source), converted)


def _shapes(source: Source) -> dict[str, tuple[int, ...]]:
    return {key: torch_shape(tensor.dtype, tensor.shape) for key, tensor in source.tensors.items()}


def _as_it_is(source: Source) -> Route:
    steps = tuple(Step((key,), (key,)) for key in source.tensors)
    return Route(source, ConversionMapping(), GuardDecision(()), steps, steps, done=True)


def _refuse_meeting(steps: Sequence[Step]) -> None:
    counts = Counter(key for step in steps for key in step.targets)
    met = [key for key, count in counts.items() if count > 1]
    if met:
        raise MappingError(
            "two keys reach one name: one by the record of a conversion, the other by the mapping",
            facts=fold_names(met),
            hint="drop one of the keys, or move the record away to convert by the mapping alone",
        )


def refuse_lossy(steps: Sequence[Step]) -> None:
    """Refuse steps whose result does not give back what went in.

    Raises
    ------
    LoadError
        Naming what they make.
    """
    lossy = [key for step in steps if is_lossy(step.operations) for key in step.targets]
    if lossy:
        raise LoadError(
            "these conversions cannot be undone from their result",
            facts=fold_names(lossy),
            hint="allow lossy conversions, and the originals are kept beside the result",
        )
