"""vLLM: a `WeightsMapper`, which renames in passes: regular expressions, substrings, prefixes, suffixes.

Within a pass the entries apply one after the other, in order, and each sees what the one before made; None drops the
weight. Regular expressions replace all that they match, the others the first occurrence (a suffix the last). Before
them come renamings of transformers, and after the substrings those that also say into which shard of a parameter the
weight goes. That is what `vllm.model_executor.models.utils.WeightsMapper` does (0.33); `map_name` here does the same,
on names alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

PASSES = ("renaming", "regex", "substr", "stacked", "prefix", "suffix")


class Entry(NamedTuple):
    """One entry of a `WeightsMapper`.

    Attributes
    ----------
    kind : str
        In which of the passes.
    old, new : str
        From what, to what; None drops the weight.
    held : optional
        Of a regular expression its compiled form, of a renaming the rule of transformers, of a stacked weight the
        shard that it becomes.
    """

    kind: str
    old: str
    new: str | None
    held: Any = None


def map_name(entries: Sequence[Entry], key: str) -> str | None:
    """What vLLM makes of a name; None where it drops the weight."""
    name: str | None = key
    for entry in sorted(entries, key=lambda entry: PASSES.index(entry.kind)):
        name = None if name is None else map_by(entry, name)
    return name


def map_by(entry: Entry, key: str) -> str | None:
    """What one entry makes of a name."""
    if entry.kind == "renaming":
        renamed: str = entry.held.rename_source_key(key)[0]
        return renamed
    if not _found(entry, key) or entry.new is None:
        return None if _found(entry, key) else key
    if entry.kind == "regex":
        made: str = _pattern(entry).sub(entry.new, key)
        return made
    if entry.kind == "suffix":
        return entry.new.join(key.rsplit(entry.old, 1))
    return key.replace(entry.old, entry.new, 1)


def _found(entry: Entry, key: str) -> bool:
    if entry.kind == "regex":
        return _pattern(entry).search(key) is not None
    asked = {"prefix": key.startswith, "suffix": key.endswith}
    return asked.get(entry.kind, key.__contains__)(entry.old)


def _pattern(entry: Entry) -> Any:
    """Of `re`, or of the module of other makers that vLLM uses."""
    return re.compile(entry.old) if entry.held is None else entry.held
