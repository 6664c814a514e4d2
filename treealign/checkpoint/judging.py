"""The verdict on a load, before anything is touched: what goes where, and everything that stands in the way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from treealign.checkpoint.assigning import is_sharded
from treealign.checkpoint.places import Places, dtype_name, shape_of
from treealign.checkpoint.sources import Source
from treealign.errors import MappingError
from treealign.mapping.execution.transposing import same_bytes
from treealign.mapping.mismatches import Mismatch, Shape, cannot_become
from treealign.mapping.operations import is_lossy, output_shapes
from treealign.mapping.planning import Step
from treealign.tree.fold import fold_names


@dataclass(frozen=True)
class Verdict:
    """What a load would do.

    Attributes
    ----------
    steps : tuple of Step
        What to load into parameters and persistent buffers.
    copies : tuple of Step
        Second names of tied weights: their tensors equal those of `steps`, and are not loaded again.
    recomputed : tuple of Step
        Tensors of the checkpoint for buffers that the model computes itself.
    missing, unexpected : tuple of str
        As in torch; a tied weight is missing under one name only.
    mismatched : tuple of Mismatch
        What cannot be loaded although both sides have it.
    lossy : tuple of Step
        Conversions that lose something, not allowed.
    uninitialised : tuple of str
        Buffers on the meta device that no checkpoint fills, for `state_dict` leaves them out.
    counters : tuple of str
        What the checkpoint lacks and torch does without: counters of batch norms stay as they are.
    """

    steps: tuple[Step, ...]
    copies: tuple[Step, ...] = ()
    recomputed: tuple[Step, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    lossy: tuple[Step, ...] = ()
    uninitialised: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()

    def facts(self, in_question: Collection[str] = ()) -> list[str]:
        """All that speaks against the load, repeats folded; keys that are in question are said elsewhere."""
        lossy = [f"{', '.join(s.sources)} -> {', '.join(s.targets)}" for s in self.lossy]
        lists = (
            ("missing: the checkpoint does not fill", fold_names(k for k in self.missing if k not in in_question)),
            ("unexpected: the model has no place for", fold_names(k for k in self.unexpected if k not in in_question)),
            ("mismatched", _capped(self._mismatch_lines())),
            ("lossy", _capped(lossy)),
            ("on the meta device, and in no checkpoint", fold_names(self.uninitialised)),
        )
        return [line for title, lines in lists if lines for line in (f"{title}:", *(f"  {x}" for x in lines))]

    def _mismatch_lines(self) -> Iterator[str]:
        alike: dict[str, list[str]] = {}
        for mismatch in self.mismatched:
            alike.setdefault(mismatch.problem, []).append(mismatch.model)
        return (f"{name}: {problem}" for problem, keys in alike.items() for name in fold_names(keys))


def judge(
    steps: Sequence[Step], source: Source, places: Places, *, to_model: bool = False, allow_lossy: bool = False
) -> Verdict:
    """Hold steps against both sides. Reads tensors only to compare weights that are tied in the model.

    Parameters
    ----------
    steps : sequence of Step
        From the checkpoint's keys to the model's.
    source, places
        The two sides.
    to_model : bool
        Whether tensors will be cast to the model's dtypes.
    allow_lossy : bool
        Whether conversions that cannot be undone may be used.

    Raises
    ------
    MappingError
        Two keys of the checkpoint reach one key of the model.
    """
    _refuse_collisions(steps)
    judged = _Judge(source, places, to_model, allow_lossy)
    for step in steps:
        judged.take(step)
    return judged.verdict()


class _Judge:
    """Takes steps one by one and sorts them."""

    def __init__(self, source: Source, places: Places, to_model: bool, allow_lossy: bool) -> None:
        self.source, self.places, self.to_model, self.allow_lossy = source, places, to_model, allow_lossy
        self.steps: list[Step] = []
        self.copies: list[Step] = []
        self.recomputed: list[Step] = []
        self.lossy: list[Step] = []
        self.mismatched: list[Mismatch] = []
        self.filled: dict[str, Step] = {}
        self.met: set[str] = set()  # keys of the checkpoint that are dealt with, loaded or not

    def take(self, step: Step) -> None:
        if step.absent or not all(map(self.places.places.__contains__, step.targets)):
            if not step.operations and step.targets[0] in self.places.recomputed:
                self.met.update(step.sources)
                self._take_recomputed(step)
            return
        self.met.update(step.sources)
        if _fits_plainly(step, self.source, self.places):
            self._fill(step)
        elif found := list(_differences(step, self.source, self.places, self.to_model)):
            self.mismatched += found
        elif step.operations and is_lossy(step.operations) and not self.allow_lossy:
            self.lossy.append(step)
        else:
            self._fill(step)

    def _take_recomputed(self, step: Step) -> None:
        place = self.places.recomputed[step.targets[0]]
        fits = self.source.tree.leaf(step.sources[0]).shape == tuple(place.tensor.shape)
        (self.steps if place.tensor.is_meta and fits else self.recomputed).append(step)

    def _fill(self, step: Step) -> None:
        heads = [self.places.tied.get(key, key) for key in step.targets]
        before = self.filled.get(heads[0])
        if before is None:
            self.filled.update(dict.fromkeys(heads, step))
            self.steps.append(step)
        elif _same_tensors(before, step, self.source):
            self.copies.append(step)
        else:
            reason = f"tied to {before.targets[0]} in the model, but the checkpoint holds two different tensors"
            self.mismatched.append(Mismatch(step.sources[0], step.targets[0], None, None, reason))

    def verdict(self) -> Verdict:
        places = self.places
        elsewhere = {m.model for m in self.mismatched} | {key for step in self.lossy for key in step.targets}
        absent = [key for key in places.names if key not in self.filled]
        unfilled = [key for key in absent if not places.places[key].is_counted_by_torch]
        fed = {key for step in self.steps for key in step.targets}
        return Verdict(
            tuple(self.steps),
            tuple(self.copies),
            tuple(self.recomputed),
            tuple(key for key in unfilled if elsewhere.isdisjoint(place.key for place in places.names[key])),
            tuple(key for key in self.source.tree.keys if key not in self.met),
            tuple(self.mismatched),
            tuple(self.lossy),
            tuple(key for key, place in places.recomputed.items() if place.tensor.is_meta and key not in fed),
            tuple(key for key in absent if places.places[key].is_counted_by_torch),
        )


def _fits_plainly(step: Step, source: Source, places: Places) -> bool:
    """Whether a name and perhaps a width is all that changes; asked first, for so it is of most steps."""
    if step.operations:
        return False
    _, shape, dtype, _ = source.tree.leaf(step.sources[0])
    tensor = places.places[step.targets[0]].tensor
    return shape == shape_of(tensor) and _of_one_kind(dtype, tensor.dtype) and not is_sharded(tensor)


@cache
def _of_one_kind(given: str | None, wanted: torch.dtype) -> bool:
    return given is not None and _kind(getattr(torch, given)) == _kind(wanted)


def _differences(step: Step, source: Source, places: Places, to_model: bool) -> Iterator[Mismatch]:
    leaves = [source.tree.leaf(key) for key in step.sources]
    shapes = [leaf.shape or () for leaf in leaves]
    dtypes = sorted({str(leaf.dtype) for leaf in leaves})
    try:
        made = output_shapes(step.operations, shapes)
    except MappingError as error:
        reason = "; ".join([error.what, *error.facts])
        yield Mismatch(step.sources[0], step.targets[0], shapes[0], _shape(places, step.targets[0]), reason)
        return
    for key, shape in zip(step.targets, made, strict=True):
        if shape != _shape(places, key):
            yield Mismatch(step.sources[0], key, shape, _shape(places, key))
    if step.operations and len(dtypes) > 1 and not to_model:
        yield Mismatch(step.sources[0], step.targets[0], None, None, f"its parts differ in dtype: {', '.join(dtypes)}")
    yield from _kind_mismatches(step, dtypes[0], source, places)
    yield from _sharded_mismatches(step, dtypes[0], places, to_model)


def _kind_mismatches(step: Step, dtype: str, source: Source, places: Places) -> Iterator[Mismatch]:
    """Integers for floating-point parameters and the like; a buffer may change its kind where nothing is lost."""
    for key in step.targets:
        place, given = places.places[key], getattr(torch, dtype)
        wanted = place.tensor.dtype
        if _kind(given) == _kind(wanted):
            continue
        if place.kind == "parameter" or step.operations or not _survives(source.read(step.sources[0]), wanted):
            yield Mismatch(step.sources[0], key, None, None, cannot_become(dtype, dtype_name(wanted)))


def _sharded_mismatches(step: Step, dtype: str, places: Places, to_model: bool) -> Iterator[Mismatch]:
    for key in step.targets:
        tensor, here = places.places[key].tensor, (step.sources[0], key, None, None)
        if is_sharded(tensor) and tensor.is_meta:
            yield Mismatch(*here, "sharded and on the meta device: give it memory first, with `to_empty`")
        elif is_sharded(tensor) and not to_model and dtype_name(tensor.dtype) != dtype:
            reason = f"sharded, so it keeps its {dtype_name(tensor.dtype)}: load this {dtype} with dtype='model'"
            yield Mismatch(*here, reason)


def _kind(dtype: torch.dtype) -> str:
    return "floating" if dtype.is_floating_point else "complex" if dtype.is_complex else "integer"


def _survives(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    return same_bytes([tensor, tensor.to(dtype).to(tensor.dtype)])


def _same_tensors(one: Step, other: Step, source: Source) -> bool:
    """Whether two steps bring the same bytes; conversions count as different."""
    if one.operations or other.operations:
        return one.operations == other.operations and all(
            _same(a, b, source) for a, b in zip(one.sources, other.sources, strict=True)
        )
    return _same(one.sources[0], other.sources[0], source)


def _same(a: str, b: str, source: Source) -> bool:
    tree = source.tree
    if tree.tied.get(a, a) == tree.tied.get(b, b):
        return True
    return tree.leaf(a)[1:3] == tree.leaf(b)[1:3] and same_bytes([source.read(a), source.read(b)])


def _refuse_collisions(steps: Sequence[Step]) -> None:
    every = [key for step in steps for key in step.targets]
    if len(set(every)) == len(every):
        return
    reached: dict[str, Step] = {}
    facts = []
    for step in steps:
        for key in step.targets:
            before = reached.setdefault(key, step)
            if before is not step:
                facts.append(f"{', '.join((*before.sources, *step.sources))} -> {key}")
    if facts:
        raise MappingError(
            "two keys of the checkpoint reach one key of the model",
            facts=_capped(facts),
            hint="say which of them is meant: a more specific pattern, or a checkpoint without the other",
        )


def _shape(places: Places, key: str) -> Shape:
    return shape_of(places.places[key].tensor)


def _capped(lines: Iterable[str], limit: int = 20) -> list[str]:
    found = list(lines)
    return found if len(found) <= limit else [*found[:limit], f"… and {len(found) - limit} more"]
