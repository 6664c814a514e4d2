"""The mapping of a base model, made to work on the keys of its adapters, which stand below PEFT's levels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from treealign.checkpoint.adapters.fusing import Fused, Shape, fused
from treealign.checkpoint.adapters.parts import PREFIX, has_part
from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping, Converted
from treealign.mapping.convert import Convert
from treealign.mapping.operations import Operation
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename

_ROOT = PREFIX.rstrip(".")


def lifted(transforms: Iterable[Transform]) -> Iterator[Transform]:
    """What renames, below PEFT's levels; a `Convert` concerns weights, of which an adapter has none."""
    for transform in transforms:
        before, after = map(_below_root, transform.before), map(_below_root, transform.after)
        if isinstance(transform, PrefixChange):
            under = _below_root(transform.under)
            yield PrefixChange(transform.add, transform.remove, under, before, after)
        elif isinstance(transform, Rename):
            anywhere = not transform.under and transform.source.startswith("**.")
            under = "" if anywhere else _below_root(transform.under)
            yield Rename(dict(transform.pairs), None, under, before, after)


def lift(
    mapping: ConversionMapping,
    shapes: Mapping[str, Shape],
    converted: Converted = None,
) -> ConversionMapping:
    """The mapping of a base model for its adapter; one that was made for adapters is taken as it is.

    Parameters
    ----------
    mapping : ConversionMapping
        Of the base model.
    shapes : mapping of str to tuple of int
        Of the adapter's tensors.
    converted : optional
        What is known of guarded transforms; see `ConversionMapping.map_keys`.

    Raises
    ------
    MappingError
        The adapter stands on weights that cannot be converted under it exactly; each is named with the reason.
    """
    wrapped = any(key.startswith(PREFIX) for key in shapes)
    if speaks_of_adapters(mapping):
        return mapping
    renames = mapping.with_transforms(lifted(mapping) if wrapped else _renames(mapping))
    converts = [_lifted_convert(one, wrapped) for one in mapping if isinstance(one, Convert)]
    if not converts:
        return renames
    names = renames.map_keys(tuple(shapes), converted)
    found = fused(converts, {name: shapes[key] for key, (name,) in names.items()})
    _refuse(found)
    return mapping.with_transforms([*renames, *_as_converts(found)])


def _renames(mapping: ConversionMapping) -> Iterator[Transform]:
    return (one for one in mapping if isinstance(one, PrefixChange | Rename))


def _lifted_convert(convert: Convert, wrapped: bool) -> Convert:
    anywhere = not convert.under and convert.sources[0].startswith("**.")
    under = convert.under if anywhere or not wrapped else _below_root(convert.under)
    return Convert(convert.sources, convert.targets, convert.operations, under, convert.counts)


def _refuse(found: Fused) -> None:
    if found.faults:
        hint = "train the adapter anew for these, or merge it into its base model and convert that"
        what = "the adapter stands on weights that the mapping converts, and cannot follow exactly"
        raise MappingError(what, facts=found.faults[:20], hint=hint)


def _as_converts(found: Fused) -> Iterator[Convert]:
    """The steps as rules: those that differ by indices only are one, where one rule says the same of all."""
    listed = sorted(((_template(step), step) for step in found.steps), key=lambda pair: repr(pair[0][:2]))
    for (sources, targets), pairs in groupby(listed, key=lambda pair: pair[0]):
        steps = [step for _, step in pairs]
        if len({step[2] for step in steps}) == 1:
            yield Convert(_at_end(sources), _at_end(targets), steps[0][2])
        else:
            yield from (Convert(_at_end(step[0]), _at_end(step[1]), step[2]) for step in steps)


_Step = tuple[tuple[str, ...], tuple[str, ...], tuple[Operation, ...]]


def _template(step: _Step) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names with captures for the indices, where all have the same ones; else as they are."""
    sources, targets, _ = step
    indices = {tuple(s for s in name.split(".") if s.isdigit()) for name in (*sources, *targets)}
    if len(indices) != 1:
        return sources, targets
    return tuple(map(_captured, sources)), tuple(map(_captured, targets))


def _captured(name: str) -> str:
    letters = iter("ijklmnop")
    return ".".join(f"{{{next(letters)}}}" if s.isdigit() else s for s in name.split("."))


def _at_end(names: Sequence[str]) -> list[str]:
    return [f"{name}$" for name in names]


def speaks_of_adapters(mapping: ConversionMapping) -> bool:
    """Whether a mapping names PEFT's levels, or converts an adapter's own parts: it was made for adapters then."""
    converts = [one for one in mapping if isinstance(one, Convert)]
    if any(has_part(text) for one in converts for text in (*one.sources, *one.targets)):
        return True
    first = _ROOT.partition(".")[0]
    texts = (repr(transform) for transform in mapping)
    return any(f"'{first}." in text or f"'{first}'" in text for text in texts)


def _below_root(pattern: str) -> str:
    if pattern.startswith("**."):
        return pattern
    return f"{_ROOT}.{pattern}" if pattern else _ROOT
