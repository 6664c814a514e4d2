"""The config of an adapter, converted with its weights: in the same transaction, and back as it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treealign.checkpoint.adapters.config import migrated_config
from treealign.checkpoint.adapters.parts import CONFIG, PREFIX, is_adapter
from treealign.checkpoint.adapters.ranks import joined_ranks
from treealign.checkpoint.conversion.routing import Route
from treealign.checkpoint.sources import Source
from treealign.errors import MappingError
from treealign.formats.texts import read_bounded
from treealign.mapping.planning import Step

AFTER = f"{CONFIG}.after"  # in a record, what the conversion had made of the config: by that it is known again
PATTERNS = ("rank_pattern", "alpha_pattern")


@dataclass(frozen=True)
class SideConfig:
    """What becomes of the config beside the weights.

    Attributes
    ----------
    text : str or None
        The new one; None where there is none, or where it stays.
    before : str or None
        As it was, where it changes.
    notes : tuple of str
        What could not be migrated.
    """

    text: str | None = None
    before: str | None = None
    notes: tuple[str, ...] = ()


def side_config(route: Route) -> SideConfig:
    """The config of the result; of one that goes back, the one that was there where nobody has changed it since."""
    found = config_of(route.source)
    if found is None:
        return SideConfig()
    text, folder = found
    keys, ranks = _keys(route.steps), joined_ranks(route.steps, _parsed(text))
    if folder is None:
        moved = migrated_config(text, keys, changes=ranks).text != text
        note = f"{CONFIG}: it was not converted with the file beside it: convert the folder"
        return SideConfig(notes=(note,) if moved else ())
    beside = route.recalled.beside if route.recalled else {}
    if CONFIG in beside and beside.get(AFTER) == text:
        return SideConfig(beside[CONFIG], text)
    made = migrated_config(text, keys, _renamer(route), ranks)
    written = _with_patterns(made.text, text, beside)
    notes = tuple(f"{CONFIG}: {note}" for note in made.notes)
    return SideConfig(written, text, notes) if written != text else SideConfig(notes=notes)


def _with_patterns(made: str, text: str, beside: Mapping[str, str]) -> str:
    """On the way back: the ranks of before, where nobody has changed those that the conversion wrote."""
    if CONFIG not in beside or AFTER not in beside:
        return made
    config, now, before, after = map(_parsed, (made, text, beside[CONFIG], beside[AFTER]))
    kept = {name: before.get(name) for name in PATTERNS if now.get(name) == after.get(name) and name in config}
    if all(config[name] == value for name, value in kept.items()):
        return made
    return json.dumps(config | kept, indent=2, ensure_ascii=False) + "\n" * made.endswith("\n")


def config_of(source: Source) -> tuple[str, Path | None] | None:
    """The text of the config beside an adapter, and its folder where that is converted as a whole."""
    if not is_adapter(source.tensors):
        return None
    path = (source.folder or Path(source.path).parent) / CONFIG
    try:
        return read_bounded(path).decode("utf-8"), source.folder
    except (OSError, UnicodeDecodeError):
        return None


def _parsed(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _keys(steps: Iterable[Step]) -> list[tuple[str, str]]:
    return [(old, new) for step in steps for old in step.sources for new in step.targets]


def _renamer(route: Route) -> Callable[[str], str]:
    """The new name of a module that has no weights here, by the mapping."""

    def rename(name: str) -> str:
        key = f"{PREFIX}{name}.weight"
        try:
            made = route.transforms.map_keys([key], converted=False)[key]
        except (MappingError, ValueError):
            return name
        ends = len(made) == 1 and made[0].startswith(PREFIX) and made[0].endswith(".weight")
        return made[0].removeprefix(PREFIX).removesuffix(".weight") if ends else name

    return rename
