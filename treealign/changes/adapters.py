"""The mapping of a base model, made to work on the keys of its adapters.

PEFT keeps a model's names below ``base_model.model`` and adds its own behind the name of a module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from treealign.changes.references.adapters import PREFIX, base_name
from treealign.changes.translation import Translation
from treealign.checkpoint.adapters.lifting import lift, lifted
from treealign.errors import MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.convert import Convert
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename
from treealign.tree.keytree import KeyTree


def adapter_mapping(
    mapping: ConversionMapping, translation: Translation, keys: KeyTree | Iterable[str]
) -> ConversionMapping:
    """The mapping old -> new for the keys of an adapter, to be given to `convert_checkpoint`.

    Parameters
    ----------
    mapping : ConversionMapping
        Of the base model, old -> new.
    translation : Translation
        What the keys of the result are held against, one by one.
    keys : KeyTree or iterable of str
        Of the adapter. With its shapes, updates of weights that are fused or split are converted too.

    Raises
    ------
    MappingError
        Some keys belong to a module that was removed, or fused or split so that they cannot follow exactly; they are
        named.
    """
    if isinstance(keys, KeyTree) and any(isinstance(one, Convert) for one in mapping):
        return _converting(mapping, keys)
    listed = tuple(keys.keys if isinstance(keys, KeyTree) else keys)
    wrapped = any(map(_is_wrapped, listed))
    made = mapping.with_transforms(lifted(mapping.transforms) if wrapped else _renaming(mapping))
    mapped = made.map_keys(listed, converted=False)
    facts = [fact for key in listed for fact in _fault(key, mapped[key], translation)]
    if facts:
        hint = "train the adapter anew for these, or merge it into the old base model and convert that"
        raise MappingError("renaming does not migrate this adapter", facts=facts[:20], hint=hint)
    return made.used(listed, converted=False)


def _converting(mapping: ConversionMapping, adapter: KeyTree) -> ConversionMapping:
    made = lift(mapping, {leaf.key: leaf.shape or () for leaf in adapter.leaves}, converted=False)
    return made.used(adapter.keys, converted=False)


def _is_wrapped(key: str) -> bool:
    return key.startswith(PREFIX)


def _renaming(mapping: ConversionMapping) -> Iterator[Transform]:
    return (transform for transform in mapping.transforms if isinstance(transform, PrefixChange | Rename))


@dataclass(frozen=True)
class _Place:
    """Where a key of an adapter belongs: the name in the base model, and what stands around it."""

    prefix: str
    name: str
    tail: str


def _place(key: str, translation: Translation) -> _Place | None:
    prefix = PREFIX if _is_wrapped(key) else ""
    name = base_name(key.removeprefix(prefix), translation)
    return _Place(prefix, name, key[len(prefix) + len(name) :]) if name else None


def _fault(key: str, mapped: tuple[str, ...], translation: Translation) -> Iterator[str]:
    place = _place(key, translation)
    if place is None:
        return  # nothing of the base model: it keeps its name
    there = translation.of(place.name)
    exact = len(there) == 1 and _alone(place.name, translation)
    if not exact:
        yield f"{key}: {place.name} was fused, split or removed"
    elif mapped != (expected := f"{place.prefix}{there[0]}{place.tail}",):
        yield f"{key}: {', '.join(mapped)} instead of {expected}"


def _alone(name: str, translation: Translation) -> bool:
    """Whether a module's tensors are the same on the other side, none of them fused with others."""
    leaves = [name] if name in translation.pairs else translation.below(name)
    return all(len(translation.back[target]) == 1 for leaf in leaves for target in translation.pairs[leaf])
