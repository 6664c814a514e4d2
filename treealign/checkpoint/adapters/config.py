"""`adapter_config.json` after a change of names: whatever names modules in it is spelled for the new ones, or said.

PEFT finds the modules of an adapter by its config: `check_target_module_exists` (a name, the end of one behind a dot,
or a regular expression for all of it), `get_pattern_key` (of rank and alpha patterns), `_set_trainable` (the end of a
name), as of peft 0.21. A new spelling is taken where it finds the same modules among those that the adapter's keys
stand on; where nothing shorter does, their full names are written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from treealign.checkpoint.adapters.expressions import matching
from treealign.checkpoint.adapters.layers import layers_pattern
from treealign.checkpoint.adapters.modules import Moved
from treealign.checkpoint.adapters.respelling import respelled_expression, shorter_names

_ALL_LINEAR = "all-linear"
Matches = Callable[[str, str], bool]


@dataclass(frozen=True)
class MigratedConfig:
    """A config for the new names.

    Attributes
    ----------
    text : str
        The JSON; as it was where nothing had to change.
    notes : tuple of str
        What could not be migrated, a sentence each.
    """

    text: str
    notes: tuple[str, ...] = ()


def at_end(entry: str, module: str) -> bool:
    """PEFT's rule for an item of `target_modules`.

    >>> at_end("q_proj", "layers.0.q_proj"), at_end("proj", "layers.0.q_proj")
    (True, False)
    """
    return module == entry or module.endswith(f".{entry}")


def by_pattern(entry: str, module: str) -> bool:
    """PEFT's rule for a key of `rank_pattern` and `alpha_pattern`."""
    return bool(matching(rf"(.*\.)?({entry})$", [module], "match"))


def _ends(entry: str, module: str) -> bool:
    return module.endswith(entry)


# the settings that name modules, and how PEFT finds them
_LISTS: Mapping[str, Matches] = {"target_modules": at_end, "exclude_modules": at_end, "modules_to_save": _ends}
_KEYED: Mapping[str, Matches] = {
    "rank_pattern": by_pattern,
    "alpha_pattern": by_pattern,
    "trainable_token_indices": at_end,
}


def migrated_config(
    text: str,
    keys: Iterable[tuple[str, str]],
    rename: Callable[[str], str] | None = None,
    changes: Mapping[str, dict[str, Any]] | None = None,
) -> MigratedConfig:
    """The config of an adapter whose keys got other names.

    Parameters
    ----------
    text : str
        The JSON of `adapter_config.json`.
    keys : iterable of (str, str)
        Keys of the adapter's file, before and after.
    rename : callable, optional
        The new name of a module that no key of the adapter stands on.
    changes : mapping, optional
        Entries of `rank_pattern` and `alpha_pattern` that a conversion has changed.
    """
    moved = Moved.of(keys)
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        return MigratedConfig(text, ("it is no JSON, and was left as it is",) if moved.changed else ())
    if not isinstance(config, dict) or not (moved.changed or changes):
        return MigratedConfig(text)
    migrated = _Migration(moved, rename or (lambda name: name))
    made = {name: migrated.setting(name, value) for name, value in config.items()}
    made |= _layers(made, config, moved, migrated.notes)
    # the first entry that fits counts, so what a conversion has changed goes before what was there
    made |= {name: fresh | _without(made.get(name), fresh) for name, fresh in (changes or {}).items()}
    if made == config:
        return MigratedConfig(text, tuple(migrated.notes))
    indent = re.match(r"\{\s*\n( +|\t+)", text)
    written = json.dumps(made, indent=indent[1] if indent else None, ensure_ascii=text.isascii())
    return MigratedConfig(written + "\n" * text.endswith("\n"), tuple(migrated.notes))


def _without(entries: Any, fresh: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (entries or {}).items() if name not in fresh}


def _layers(made: Mapping[str, Any], config: Mapping[str, Any], moved: Moved, notes: list[str]) -> dict[str, Any]:
    if config.get("layers_to_transform") in (None, []):
        return {}
    found = layers_pattern(config.get("layers_pattern"), moved)
    if found is None:
        notes.append(
            f"layers_pattern {config.get('layers_pattern')!r} and layers_to_transform: layers are numbered anew"
        )
        return {}
    return {} if found == (made.get("layers_pattern") or []) else {"layers_pattern": found}


class _Migration:
    """Goes through the settings one by one."""

    def __init__(self, moved: Moved, rename: Callable[[str], str]) -> None:
        self.moved, self.rename = moved, rename
        self.notes: list[str] = []

    def setting(self, name: str, value: Any) -> Any:
        """The value of a setting for the new names."""
        if not value or value == _ALL_LINEAR:
            return value
        if name in _LISTS:
            return self._named(name, value)
        if name in _KEYED and isinstance(value, dict):
            return {new: one for old, one in value.items() for new in self._entry(name, old, _KEYED[name])}
        if name in ("target_parameters", "trainable_token_indices") and isinstance(value, list):
            return [new for one in value for new in (self._parameter(name, one) if isinstance(one, str) else [one])]
        return value

    def _named(self, name: str, value: Any) -> Any:
        if isinstance(value, str):
            return self._expression(name, value) if name != "modules_to_save" else value
        if not isinstance(value, list):
            return value
        made = [
            new for one in value for new in (self._entry(name, one, _LISTS[name]) if isinstance(one, str) else [one])
        ]
        return list(dict.fromkeys(made))

    def _entry(self, name: str, entry: str, matches: Matches) -> Sequence[str]:
        """What to write for one name: itself where it still finds what it found."""
        pairs = self.moved.above if matches is _ends else self.moved.pairs
        held = _found(entry, pairs, matches)
        if not held:
            return [self._unknown(name, entry)]
        wanted = frozenset(new for old in held for new in pairs[old])
        there = [new for names in pairs.values() for new in names]
        if frozenset(_found(entry, there, matches)) == wanted:
            return [entry]
        spelled = list(shorter_names(entry, held, wanted, there, matches))
        return [re.escape(one) if matches is by_pattern and _escaped(entry) else one for one in spelled]

    def _unknown(self, name: str, entry: str) -> str:
        """A name on which the adapter has nothing: by the mapping, where it is a whole name, or said to be stale."""
        there = self.rename(entry)
        if there == entry and not self.moved.gone.isdisjoint(re.findall(r"\w+", entry)):
            self.notes.append(f"{name} names {entry!r}, on which the adapter has no weights: it was left as it is")
        return there

    def _expression(self, name: str, text: str) -> Any:
        try:
            if held := matching(text, list(self.moved.pairs)):
                spelled = respelled_expression(text, held, self.moved)
                return sorted(self.moved.wanted(held)) if spelled is None else spelled
            beside = self.moved.beside(self.rename)
            held = matching(text, list(beside.pairs))
        except re.error:
            held = []
        spelled = respelled_expression(text, held, beside) if held else None
        if spelled is None and not text.startswith(".*"):
            self.notes.append(f"{name} is {text!r}, on which the adapter has no weights: it was left as it is")
        return text if spelled is None else spelled

    def _parameter(self, name: str, entry: str) -> Sequence[str]:
        """A parameter by the end of its name: its module moves, and it keeps its own name."""
        module, _, leaf = entry.rpartition(".")
        return [f"{new}.{leaf}" for new in self._entry(name, module, at_end)] if module else [entry]


def _found(entry: str, names: Iterable[str], matches: Matches) -> list[str]:
    try:
        return [name for name in names if matches(entry, name)]
    except re.error:
        return []


def _escaped(entry: str) -> bool:
    return "\\." in entry
