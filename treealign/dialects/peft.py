"""Adapters of PEFT saved under an older layout of their base model: renamed by the mapping of that model.

An adapter's keys are the names of the base model's modules, below ``base_model.model``, with the adapter's own parts
at the end. So the mapping from the old base model to the present one renames them too; its `Convert`s concern weights,
of which an adapter has none, and are refused where an adapter stands on one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from treealign.errors import FormatError, MappingError
from treealign.mapping.conversion_mapping import ConversionMapping, Converted, as_mapping
from treealign.mapping.convert import Convert
from treealign.mapping.marking import mapping_source, refuse_open

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_LEVEL = "base_model.model."
# settings of a config that name modules
_MODULE_LISTS = ("target_modules", "modules_to_save", "exclude_modules", "target_parameters")


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
        Folders with ``adapter_model.safetensors`` and ``adapter_config.json``; what else is in the first is copied.
    mapping, converted
        See `adapter_keys`.

    Returns
    -------
    dict of str to str
        Key before and after, of those that changed.

    Raises
    ------
    FormatError
        The folder holds no adapter.
    MappingError
        As `adapter_keys`; or the mapping still guesses.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    source, target, transforms = Path(adapter), Path(destination), as_mapping(mapping)
    refuse_open(transforms, "nothing was written", mapping_source(mapping))
    if not (source / WEIGHTS).is_file():
        raise FormatError("no adapter", where=str(source), hint=f"it has no {WEIGHTS}")
    with safe_open(source / WEIGHTS, framework="pt") as file:
        renamed = adapter_keys(file.keys(), transforms, converted)
        tensors, metadata = {new: file.get_tensor(old) for old, new in renamed.items()}, file.metadata()
    config = _config(source / CONFIG, transforms, converted)
    target.mkdir(parents=True, exist_ok=True)
    for other in source.iterdir():
        if other.is_file() and other.name not in (WEIGHTS, CONFIG) and source.resolve() != target.resolve():
            shutil.copy2(other, target / other.name)
    save_file(tensors, target / WEIGHTS, metadata=metadata)
    if config is not None:
        (target / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return {old: new for old, new in renamed.items() if old != new}


def _config(path: Path, mapping: ConversionMapping, converted: Converted) -> dict[str, Any] | None:
    """The config, with the full module names in it renamed; names that end in the middle of a path stay."""
    if not path.is_file():
        return None
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for setting in _MODULE_LISTS:
        if isinstance(config.get(setting), list):
            config[setting] = [_module(name, mapping, converted) for name in config[setting]]
    return config


def _module(name: str, mapping: ConversionMapping, converted: Converted) -> str:
    renames = ConversionMapping(t for t in mapping if not isinstance(t, Convert))
    made = renames.map_keys([f"{name}.weight"], converted)[f"{name}.weight"][0]
    return made.removesuffix(".weight")
