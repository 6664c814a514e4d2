"""Adapters of PEFT saved under an older layout of their base model: renamed by the mapping of that model.

An adapter's keys are the names of the base model's modules, below ``base_model.model``, with the adapter's own parts
at the end. So the mapping from the old base model to the present one renames them too; its `Convert`s concern weights,
of which an adapter has none, and are refused where an adapter stands on one.
"""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from treealign.checkpoint.adapters.lifting import lift
from treealign.checkpoint.adapters.parts import WEIGHTS
from treealign.errors import FormatError, MappingError
from treealign.mapping.conversion_mapping import ConversionMapping, Converted, as_mapping
from treealign.mapping.convert import Convert
from treealign.mapping.marking import mapping_source, refuse_open

_LEVEL = "base_model.model."


def adapter_keys(keys: Iterable[str], mapping: ConversionMapping, converted: Converted = None) -> dict[str, str]:
    """What an adapter's keys become by the mapping of its base model, checkpoint -> model.

    Parameters
    ----------
    keys : iterable of str
        As PEFT saves them, below ``base_model.model``.
    mapping : ConversionMapping
        From the names under which the adapter was saved to those of the model.
    converted : optional
        What the base model's checkpoint said about guarded transforms; see `ConversionMapping.map_keys`.

    Raises
    ------
    MappingError
        An adapter stands on weights that the mapping converts, or two keys reach one name.
    """
    names = {key: key.removeprefix(_LEVEL) for key in keys}
    renames = ConversionMapping(t for t in mapping if not isinstance(t, Convert))
    made = renames.map_keys(names.values(), converted)
    stuck = [t for t in mapping if isinstance(t, Convert) for to in made.values() if t.map_key(to[0])]
    if stuck:
        raise MappingError(
            "the adapter stands on weights that the mapping converts", facts=map(repr, dict.fromkeys(stuck))
        )
    return {key: key[: len(key) - len(name)] + made[name][0] for key, name in names.items()}


def migrate_adapter(
    adapter: str | PathLike[str],
    destination: str | PathLike[str],
    mapping: ConversionMapping | str | PathLike[str] | Iterable[Any],
    converted: Converted = None,
) -> dict[str, str]:
    """Write an adapter under the names of the present layout of its base model.

    Parameters
    ----------
    adapter, destination : path
        Folders with ``adapter_model.safetensors`` and ``adapter_config.json``; what else is in the first is copied. All
        appears at once, or nothing does.
    mapping, converted
        See `adapter_keys`.

    Returns
    -------
    dict of str to str
        Key before and after, of those that changed; of a key that was split, the last.

    Raises
    ------
    FormatError
        The folder holds no adapter.
    MappingError
        As `adapter_keys`; or the mapping still guesses.
    """
    from safetensors import safe_open

    from treealign.checkpoint.conversion.converting import convert_checkpoint

    source, transforms = Path(adapter), as_mapping(mapping)
    refuse_open(transforms, "nothing was written", mapping_source(mapping))
    if not (source / WEIGHTS).is_file():
        raise FormatError("no adapter", where=str(source), hint=f"it has no {WEIGHTS}")
    with safe_open(source / WEIGHTS, framework="pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118  it is no dict
    made = lift(transforms, shapes, converted).map_keys(tuple(shapes), converted)
    convert_checkpoint(source, destination, transforms, converted=converted)
    return {old: name for old, names in made.items() for name in names if (name,) != (old,)}
