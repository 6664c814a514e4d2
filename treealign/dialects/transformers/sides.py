"""The keys on which emitted rules are tried: those of the given trees, or made up from the patterns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

from treealign.dialects.transformers.skeleton import Part, parts_named, parts_of
from treealign.dialects.transformers.stages import SAMPLES, Journey, follow
from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.convert import Convert
from treealign.mapping.operations import Operation, output_shapes
from treealign.mapping.planning import Step
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename
from treealign.tree.fold import fold_names
from treealign.tree.keytree import KeyTree
from treealign.tree.patterns import Capture, Choice, KeyPattern
from treealign.tree.reading import read_tree

_MOST = 64  # values of an index with one


class Sides(NamedTuple):
    """What rules are tried on.

    Attributes
    ----------
    journey : Journey
        The keys and what the mapping makes of them.
    shapes : dict
        Key of the checkpoint to its shape, None where it is unknown.
    parts : dict of str to Part
        The parts of the model that are models.
    sampled : bool
        The keys are made up.
    """

    journey: Journey
    shapes: dict[str, tuple[int, ...] | None]
    parts: Mapping[str, Part]
    sampled: bool

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of the checkpoint; where both sides are known, those that reach the model."""
        return self.journey.keys

    @property
    def steps(self) -> tuple[Step, ...]:
        """What the mapping does with them."""
        return self.journey.steps

    def used(self, mapping: ConversionMapping) -> list[Transform]:
        """The transforms that touch a key, in order."""
        touched = {at for step in self.steps for at in step.transforms}
        return [transform for at, transform in enumerate(mapping) if at in touched]

    @property
    def config(self) -> Any:
        """The model's config, where there is one."""
        return self.parts[""].config if "" in self.parts else None


def sides_of(mapping: ConversionMapping, checkpoint: Any, model: Any) -> Sides:
    """Keys for a mapping, from whichever side is given.

    Raises
    ------
    TreealignError
        A side cannot be read, or the mapping cannot be run on it.
    """
    parts = parts_in(model)
    left, right = _tree(checkpoint), _tree(model)
    model_keys = None if right is None else [key for key in right.keys if key not in right.tied]
    if left is not None:
        shapes = {leaf.key: leaf.shape for leaf in left.leaves}
        return Sides(_used(mapping, follow(mapping, left.keys, model_keys)), shapes, parts, sampled=False)
    if right is not None and model_keys is not None:
        shapes = _shapes_before(mapping, model_keys, {leaf.key: leaf.shape for leaf in right.leaves})
        return Sides(_used(mapping, follow(mapping, tuple(shapes), model_keys)), shapes, parts, sampled=False)
    keys = sample_keys(mapping)
    journey = follow(mapping, keys, None)
    return Sides(journey, dict(_sample_shapes(journey)), parts, sampled=True)


def _used(mapping: ConversionMapping, journey: Journey) -> Journey:
    """The journey; refused where a mapping that is not empty does nothing on it, for it belongs to something else."""
    if len(mapping) and not any(step.transforms for step in journey.steps):
        raise MappingError(
            "the mapping touches none of the keys that it is emitted for",
            facts=[*map(repr, mapping), *fold_names(journey.keys, limit=5)],
            hint="does it belong to this checkpoint and model?",
        )
    return journey


def _tree(source: Any) -> KeyTree | None:
    return source if source is None or isinstance(source, KeyTree) else read_tree(source)


def parts_in(model: Any) -> dict[str, Part]:
    """The parts of a model, or of whatever `read_tree` makes one of, that are models themselves."""
    if hasattr(model, "config") and hasattr(model, "named_modules") and hasattr(model, "base_model_prefix"):
        return parts_of(model)
    tree = _tree(model)
    return parts_named(tree.modules) if tree is not None and tree.modules else {}


def _shapes_before(
    mapping: ConversionMapping, keys: list[str], shapes: Mapping[str, tuple[int, ...] | None]
) -> dict[str, tuple[int, ...] | None]:
    """The checkpoint that the mapping would load into these keys."""
    found: dict[str, tuple[int, ...] | None] = {}
    for step in mapping.reverse.plan(keys):
        step.refuse_incomplete()
        held = [shape for key in step.sources if (shape := shapes.get(key)) is not None]
        known = len(held) == len(step.sources)
        made = output_shapes(step.operations, held) if known else (None,) * len(step.targets)
        found |= dict(zip(step.targets, made, strict=True))
    return found


# -- made up keys ------------------------------------------------------------------------------------------------------


def sample_keys(mapping: ConversionMapping) -> tuple[str, ...]:
    """Keys of a checkpoint that between them are touched by all transforms.

    Raises
    ------
    MappingError
        A transform is never reached, whatever the keys.
    """
    found: dict[str, None] = {}
    for at, transform in enumerate(mapping):
        before = ConversionMapping(tuple(mapping)[:at])
        reached = False
        for name in _sample_names(transform):
            key = _traced_back(before, name)
            if key is not None and (transform.map_key(name) is not None):
                reached = True
                found[key] = None
        if not reached:
            raise MappingError("no key is known that this transform touches", facts=[repr(transform)], hint=_HINT)
    return tuple(found)


_HINT = "pass the checkpoint or the model that the mapping was made for"


def _traced_back(before: ConversionMapping, name: str) -> str | None:
    if any(isinstance(transform, Convert) and transform.map_key(name) for transform in before):
        return None
    renames = ConversionMapping(t for t in before if not isinstance(t, Convert))
    try:
        key = renames.reverse.map_keys([name], converted=False)[name][0]
        return key if renames.map_keys([key], converted=False)[key] == (name,) else None
    except MappingError:
        return None


def _sample_names(transform: Transform) -> Iterator[str]:
    heads = list(_filled(transform.scope, transform)) if transform.scope else [""]
    for pattern in _runs(transform):
        gaps = _gaps(transform, pattern)
        tail = "" if pattern is not None and pattern.at_end else ".weight"
        bodies = list(_filled(pattern, transform)) if pattern is not None else ["part"]
        for head, gap, body in product(heads, gaps, bodies):
            yield ".".join(part for part in (head, gap.rstrip("."), body) if part) + tail


def _gaps(transform: Transform, pattern: KeyPattern | None) -> tuple[str, ...]:
    """What may stand before the run; before that of a conversion always something, so that one rule does."""
    if pattern is None or not pattern.anywhere:
        return ("",)
    return ("block.0.",) if isinstance(transform, Convert) else ("", "block.0.")


def _runs(transform: Transform) -> list[KeyPattern | None]:
    if isinstance(transform, PrefixChange):
        return [None] if transform.add is not None else [KeyPattern.parse(".".join((*transform.levels, "part")))]
    if isinstance(transform, Rename):
        return [source for source, _ in transform._patterns]
    return list(transform._patterns[0]) if isinstance(transform, Convert) else []


def _filled(pattern: KeyPattern, transform: Transform) -> Iterator[str]:
    lone = transform._lone if isinstance(transform, Convert) else {}
    names = list(pattern.captures)
    for values in product(*(_values(pattern.captures[name], name in lone) for name in names)):
        yield ".".join(str(part) for part in pattern.substitute(dict(zip(names, values, strict=True))))


def _values(capture: Capture | Choice, every: bool) -> list[str]:
    if isinstance(capture, Choice):
        return list(capture.options)
    if capture.high is None or (capture.high - capture.low > _MOST and not every):
        return [str(index) for index in range(capture.low, capture.low + SAMPLES)]
    return [str(index) for index in range(capture.low, capture.high + 1)]


def _sample_shapes(journey: Journey) -> Iterator[tuple[str, tuple[int, ...]]]:
    for step in journey.steps:
        yield from zip(step.sources, _fitting(step), strict=False)


def _fitting(step: Step) -> list[tuple[int, ...]]:
    """Shapes that the operations take: the first of a few guesses, from either end."""
    for rank in (2, 1, 3, 4, 5):
        for shapes in (_guess(step.operations[0], len(step.sources), rank) if step.operations else [],):
            if _fits(step.operations, shapes):
                return shapes
        ends = _guess(step.operations[-1].inverse, len(step.targets), rank) if step.operations else []
        back = tuple(operation.inverse for operation in reversed(step.operations))
        if ends and _fits(back, ends):
            return list(output_shapes(back, ends))
    return []


def _guess(operation: Operation, count: int, rank: int) -> list[tuple[int, ...]]:
    sizes, dim = getattr(operation, "sizes", None), getattr(operation, "dim", 0)
    before = getattr(operation, "before", None)
    if isinstance(before, tuple):
        return [tuple(int(size) for size in before)] * count
    each = [sum(sizes)] if sizes and operation.arity[0] == 1 else list(sizes or [4])
    return [tuple(each[at % len(each)] if d == dim else 4 for d in range(rank)) for at in range(count)]


def _fits(operations: tuple[Operation, ...], shapes: list[tuple[int, ...]]) -> bool:
    try:
        return bool(shapes) and bool(output_shapes(operations, shapes))
    except MappingError:
        return False
