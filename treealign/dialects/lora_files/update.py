"""An adapter between its files: updates of modules under PEFT's names, with the scale of each; and PEFT's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from treealign.checkpoint.adapters.config import by_pattern
from treealign.checkpoint.adapters.parts import CONFIG, PREFIX, WEIGHTS, has_part
from treealign.errors import FormatError
from treealign.formats.transaction.transaction import transaction

_RANKED = {"lora_A.weight": 0, "lora_embedding_A": 0, "hada_w1_b": 0}  # the part that shows the rank, and its dimension


@dataclass(frozen=True)
class Update:
    """What an adapter does to the modules of one model.

    Attributes
    ----------
    tensors : dict of str to dict
        Module to its tensors, by PEFT's names of parts: ``lora_A.weight``.
    alphas : dict of str to float
        Module to its alpha; the update is scaled by alpha over rank.
    config : dict
        Other settings of PEFT's config.
    notes : dict
        What another format has and PEFT has not, so that it can be given back.
    given_ranks, settings : dict
        Ranks that no part shows, and what its kind needs besides in PEFT's config.
    """

    tensors: dict[str, dict[str, Any]]
    alphas: dict[str, float]
    config: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    given_ranks: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def ranks(self) -> dict[str, int]:
        """Module to the rank of its update."""
        return self.given_ranks or {
            module: int(parts[name].shape[dim])
            for module, parts in self.tensors.items()
            for name, dim in _RANKED.items()
            if name in parts
        }


_KINDS = {"hada_": "LOHA", "lokr_": "LOKR"}
_NOTES = "treealign.notes"


def read_peft(folder: str | PathLike[str]) -> Update:
    """The adapter in a folder of PEFT.

    Raises
    ------
    FormatError
        There is none, or its keys are not PEFT's.
    """
    from safetensors import safe_open

    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise FormatError("no adapter", where=str(folder), hint=f"it has no {WEIGHTS}")
    tensors: dict[str, dict[str, Any]] = {}
    with reading(path), safe_open(path, framework="pt") as file:
        config = json.loads((path.parent / CONFIG).read_text(encoding="utf-8"))
        for key in file.keys():  # noqa: SIM118  it is no dict
            module, tail = split_key(key.removeprefix(PREFIX), str(path))
            tensors.setdefault(module, {})[tail] = file.get_tensor(key)
        notes = json.loads((file.metadata() or {}).get(_NOTES, "{}"))
    found = Update(tensors, {}, config, notes)
    if config.get("peft_type") == "LOKR":
        found.given_ranks.update({module: _by_pattern("rank_pattern", "r", module, config) for module in tensors})
    found.alphas.update({module: _alpha_of(module, config) for module in found.ranks})
    return found


@contextmanager
def reading(path: str | PathLike[str]) -> Iterator[None]:
    """What is wrong with the files of an adapter, in our words."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise FormatError("the adapter cannot be read", where=str(path), facts=[str(error)]) from error


def split_key(name: str, where: str) -> tuple[str, str]:
    """Module and part of a key.

    Raises
    ------
    FormatError
        It has no part that an adapter adds: a module that is saved whole, say.
    """
    segments = name.split(".")
    at = next((at for at, segment in enumerate(segments) if has_part(segment)), None)
    if at is None or segments[at] == "modules_to_save":
        raise FormatError(
            "not an update of a module", where=where, facts=[name], hint="only PEFT's own format has these"
        )
    return ".".join(segments[:at]), ".".join(segments[at:])


def _alpha_of(module: str, config: Mapping[str, Any]) -> float:
    name = "alpha" if config.get("peft_type") in ("LOHA", "LOKR") else "lora_alpha"
    return float(_by_pattern("alpha_pattern", name, module, config))


def _by_pattern(patterns: str, name: str, module: str, config: Mapping[str, Any]) -> Any:
    """A setting of a module: by the first pattern that fits, or that of all."""
    found = (value for key, value in (config.get(patterns) or {}).items() if by_pattern(key, module))
    return next(found, config.get(name, 8))


def write_peft(update: Update, folder: str | PathLike[str], config: dict[str, Any] | None = None) -> tuple[str, ...]:
    """Write a folder that PEFT loads, with a config of its own or the one that the updates need; its files."""
    from safetensors.torch import save

    metadata = {"format": "pt"} | ({_NOTES: json.dumps(update.notes)} if update.notes else {})
    flat = {
        f"{PREFIX}{module}.{tail}": tensor for module, parts in update.tensors.items() for tail, tensor in parts.items()
    }
    text = json.dumps(config_of(update) if config is None else config, indent=2, sort_keys=True)
    contents = {CONFIG: text.encode(), WEIGHTS: save({k: t.contiguous() for k, t in flat.items()}, metadata)}
    write_files(Path(folder), contents)
    return tuple(contents)


def write_files(folder: Path, contents: Mapping[str, bytes], *, single: bool = False) -> None:
    """Write files, all or none."""
    at = folder / next(iter(contents)) if single else folder
    with transaction(at, single=single) as held:
        for name, content in contents.items():
            with held.open(name) as file:
                file.write(content)
        held.commit(list(contents))


def config_of(update: Update) -> dict[str, Any]:
    """PEFT's config: every module by its name, the rank and alpha that most have, and what differs from these."""
    ranks, alphas = update.ranks, update.alphas
    rank, alpha = _most(ranks.values()), _most(alphas.values())
    held = {part for parts in update.tensors.values() for part in parts}
    kind = next((kind for start, kind in _KINDS.items() if any(part.startswith(start) for part in held)), "LORA")
    given: dict[str, Any] = {
        "peft_type": kind,
        "target_modules": sorted(update.tensors),
        "r": rank,
        "lora_alpha" if kind == "LORA" else "alpha": alpha,
        "rank_pattern": {module: one for module, one in ranks.items() if one != rank},
        "alpha_pattern": {module: one for module, one in alphas.items() if one != alpha},
        "inference_mode": True,
        **update.settings,
    }
    if any("lora_magnitude_vector" in parts for parts in update.tensors.values()):
        given["use_dora"] = True
    return given


def _most(values: Iterable[Any]) -> Any:
    """The value that most have; of several, the smallest; a whole number as one."""
    counts: dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    best = min(counts, key=lambda value: (-counts[value], value), default=8)
    return int(best) if best == int(best) else best
