"""From vLLM: a `WeightsMapper` as a conversion mapping.

Each entry is read as it is written where it is a key pattern, in the order in which vLLM applies them. What drops
weights, matches inside segments, or takes weights apart is reported with the reason, and is still run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from treealign.dialects.regex_reading import GAP, Reading, read_or_why
from treealign.dialects.substitutions import Substitution
from treealign.dialects.vllm import PASSES, Entry, map_by, map_name
from treealign.dialects.vllm_stacking import Shards, conversions
from treealign.errors import PatternError, TreealignError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.scope import Transform
from treealign.tree.keytree import KeyTree

_FIELD = "orig_to_new_"
_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x"}
_DROPS = "it drops the weights that it matches, which no renaming does"
_SHAPES = "it makes one weight of several: pass the checkpoint, whose shapes say how"


def read_mapper(source: Any, keys: Iterable[str] | None = None) -> Reading:
    """A `WeightsMapper`, or a dict of its fields (``orig_to_new_prefix`` and so on), as a conversion mapping.

    Parameters
    ----------
    source
        The mapper.
    keys : iterable of str, or KeyTree
        Keys of the checkpoint. Of a tree the shapes are used too: what vLLM stacks is read as a conversion then.

    Raises
    ------
    TreealignError
        It is neither, or has fields that this version does not know.
    """
    entries = _entries(source)
    names = None if keys is None else list(keys)
    transforms, unread = list[Transform](), list[tuple[Any, str]]()
    for entry in entries:
        read, why = _read(entry, names)
        if read is not None:
            transforms.append(read)
        elif entry.kind != "stacked":
            unread.append((entry, why))
        if names is not None:
            names = [made for name in names if (made := name if entry.kind == "stacked" else map_by(entry, name))]
    stacked = [entry for entry in entries if entry.kind == "stacked"]
    if stacked:
        conversions, left = _stacked(entries, transforms, keys)
        transforms += conversions
        unread += left
    return Reading(ConversionMapping(transforms), tuple(unread), tuple(entries), partial(map_name, entries))


def _entries(source: Any) -> list[Entry]:
    fields = source if isinstance(source, Mapping) else _fields(source)
    unknown = [field for field in fields if field.removeprefix(_FIELD) not in PASSES and fields[field]]
    if unknown or not all(str(field).startswith(_FIELD) for field in fields):
        raise TreealignError("no WeightsMapper, nor a dict of its fields", facts=unknown or [repr(source)])
    return [entry for kind in PASSES for entry in _of(kind, fields.get(_FIELD + kind) or {})]


def _fields(source: Any) -> dict[str, Any]:
    """Whatever a mapper holds, also what later versions add: nothing of it may be passed over."""
    found = {name: getattr(source, name) for name in dir(source) if name.startswith(_FIELD)}
    if not found:
        raise TreealignError("no WeightsMapper, nor a dict of its fields", facts=[repr(source)])
    return found


def _of(kind: str, held: Any) -> Iterator[Entry]:
    if kind == "renaming":
        yield from (Entry(kind, str(rule.source_patterns), str(rule.target_patterns), rule) for rule in held)
        return
    for old, new in held.items():
        if kind == "stacked":
            yield Entry(kind, old, *new)
        else:
            yield Entry(kind, getattr(old, "pattern", old), new, old if hasattr(old, "pattern") else None)


def _read(entry: Entry, names: list[str] | None) -> tuple[Transform | None, str]:
    if entry.kind == "renaming":
        return _of_transformers(entry.held, names)
    if entry.new is None:
        return None, _DROPS
    if entry.kind == "stacked":
        return None, _SHAPES
    try:
        read, why = read_or_why(_as_pair(entry), names)
    except re.error as error:
        return None, f"`{entry.old}` is no regular expression of Python's own: {error}"
    if read is None and names is not None and entry.kind != "regex":
        # fixed text that could match inside segments, and does not in these names
        read, _ = read_or_why(_as_segments(entry), names)
        read = None if read is None or _differ(entry, read, names) else read
    return read, why


def _differ(entry: Entry, read: Transform, names: list[str]) -> bool:
    return any(map_by(entry, name) != (read.map_key(name) or (name,))[0] for name in names)


def _of_transformers(rule: Any, names: list[str] | None) -> tuple[Transform | None, str]:
    from treealign.dialects.transformers.reader import read_rule

    try:
        return read_rule(rule, names), ""
    except PatternError as error:
        return None, error.what


def _as_pair(entry: Entry) -> Substitution:
    """The same as one substitution."""
    old, new = entry.old, (entry.new or "")
    if entry.kind == "regex":
        flags = getattr(entry.held, "flags", 0)
        set_ = "".join(letter for flag, letter in _FLAGS.items() if flags & flag)
        return Substitution(f"(?{set_}){old}" if set_ else old, new)
    literal, text = re.escape(old).replace("\\-", "-"), new.replace("\\", r"\\")
    return Substitution({"substr": literal, "prefix": f"^{literal}", "suffix": f"{literal}$"}[entry.kind], text)


def _as_segments(entry: Entry) -> Substitution:
    """Fixed text as whole segments."""
    old, new = re.escape(entry.old.strip(".")).replace("\\-", "-"), (entry.new or "").strip(".").replace("\\", r"\\")
    if entry.kind == "prefix":
        return Substitution(f"^{old}(?=\\.|$)", new)
    return Substitution(f"^{GAP}{old}" + ("$" if entry.kind == "suffix" else r"(?=\.|$)"), rf"\1{new}")


def _stacked(
    entries: list[Entry], transforms: list[Transform], keys: Iterable[str] | None
) -> tuple[list[Transform], list[tuple[Any, str]]]:
    """What is stacked as conversions, where shapes are known and they then do what vLLM does; else the reason."""
    stacked = [entry for entry in entries if entry.kind == "stacked"]
    if not isinstance(keys, KeyTree):
        return [], [(entry, _SHAPES) for entry in stacked]
    shards = Shards(entries, keys)
    made, left = list[Transform](), list[tuple[Any, str]]()
    for target in dict.fromkeys(entry.new for entry in stacked):
        group = [entry for entry in stacked if entry.new == target]
        try:
            found = conversions(group, shards)
            shards.refuse_difference([*transforms, *made, *found], group)
        except PatternError as error:
            left += [(entry, error.what) for entry in group]
        else:
            made += found
    return made, left
