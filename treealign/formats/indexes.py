"""Indexes of shards (``*.index.json``): which key stands in which file, and whether the files agree."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from treealign.errors import FormatError
from treealign.formats.bounds import MAX_KEYS, MAX_METADATA, MAX_SHARDS, refuse_more
from treealign.formats.index_text import IndexText, text_of
from treealign.formats.legible import brief, legible
from treealign.formats.strict_json import parse_json, repeated_names
from treealign.formats.texts import read_bounded

LONGEST_NAME = 255  # bytes, on every file system
_MAX_FACTS = 50
_HINT = "the index and its shards do not belong together, or one was damaged: fetch or write them again"


@dataclass(frozen=True)
class Index:
    """An index of shards.

    Attributes
    ----------
    path : str
        The index file; its shards stand beside it.
    weight_map : dict of str to str
        Key to the name of its shard.
    metadata : dict
        What else the index says, such as ``total_size``.
    raw : bytes
        The file.
    """

    path: str
    weight_map: Mapping[str, str]
    metadata: Mapping[str, Any]
    raw: bytes = field(default=b"", repr=False)

    @property
    def text(self) -> IndexText:
        """How it is written."""
        return text_of(self.raw, self.weight_map, self.metadata)

    @property
    def shards(self) -> tuple[str, ...]:
        """The names of the shards, sorted."""
        return tuple(sorted(set(self.weight_map.values())))

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the shards, in the order of `shards`."""
        folder = Path(self.path).parent
        return tuple(str(folder / shard) for shard in self.shards)

    def beside(self) -> tuple[str, ...]:
        """Files of weights in its folder that it does not name."""
        folder, endings = Path(self.path).parent, {PurePosixPath(shard).suffix for shard in self.shards}
        if not folder.is_dir():  # it is elsewhere
            return ()
        found = (path.name for path in folder.iterdir() if path.suffix in endings and path.is_file())
        return tuple(sorted(set(found) - set(self.shards)))

    def absent(self) -> tuple[str, ...]:
        """The shards that are not there; a symbolic link counts as what it points to."""
        return tuple(shard for shard, file in zip(self.shards, self.files, strict=True) if not Path(file).is_file())


def read_index(path: str | os.PathLike[str]) -> Index:
    """Read an index; the shards themselves are not looked at.

    Raises
    ------
    FormatError
        If the file is no index, repeats a key, or names a shard by anything but a plain name in its own folder.
    """
    name = os.fspath(path)
    try:
        raw = read_bounded(path)
    except OSError as error:
        raise FormatError(f"cannot read the file: {error.strerror}", where=name) from error
    return parse_index(raw, name)


def parse_index(raw: bytes, name: str) -> Index:
    """As `read_index`, from the bytes of the file; `name` stands for it in errors."""
    refuse_more(raw.count(b'":'), MAX_KEYS + MAX_METADATA, "names in the index", name)
    try:
        value = parse_json(raw)
    except ValueError as error:
        raise FormatError("not an index of shards", where=name, facts=[str(error)]) from None
    weight_map = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(weight_map, dict):
        raise FormatError("not an index of shards", where=name, facts=['no "weight_map" of keys to shards'])
    refuse_more(len(weight_map), MAX_KEYS, "keys", name)
    refuse_more(len({shard for shard in weight_map.values() if isinstance(shard, str)}), MAX_SHARDS, "shards", name)
    faults = [f"{legible(key)}: stands in the index more than once" for key in repeated_names(value)]
    faults += _shard_name_faults(weight_map)
    metadata = value.get("metadata", {})
    if not isinstance(metadata, dict):
        faults.append("metadata: no object")
    if faults:
        raise FormatError("a malformed index of shards", where=name, facts=faults[:_MAX_FACTS])
    return Index(name, weight_map, metadata, raw)


def refuse_absent(index: Index, absent: Sequence[str]) -> None:
    """Refuse an index some of whose shards are not there.

    Raises
    ------
    FormatError
        Naming each absent shard with the number of its keys.
    """
    if not absent:
        return
    counts = dict.fromkeys(absent, 0)
    for shard in index.weight_map.values():
        if shard in counts:
            counts[shard] += 1
    facts = [f"{legible(shard)}: absent, with {count:,} key{'s' * (count != 1)}" for shard, count in counts.items()]
    hint = "fetch the rest of the checkpoint"
    beside = index.beside()
    if beside:
        facts.append(f"beside it lie {', '.join(map(legible, beside[:8]))}{', …' * (len(beside) > 8)}")
        hint = "fetch the rest of the checkpoint; or the index is of other files: delete it, or pass the file meant"
    if len(absent) == len(index.shards):
        hint += "; pass the index itself to read the names alone"
    raise FormatError(
        "shards are absent", where=index.path, facts=facts[:_MAX_FACTS] + facts[_MAX_FACTS:][-1:], hint=hint
    )


def check_shards(where: str, weight_map: Mapping[str, str] | None, held: Mapping[str, Iterable[str]]) -> None:
    """Check that every key stands in one shard, the one that the index names.

    Parameters
    ----------
    where : str
        The index or folder, for errors.
    weight_map : mapping of str to str, or None
        Key to shard; None where there is no index to hold the shards to.
    held : mapping of str to keys
        Shard to the keys that are in it. A key that the index does not know is no fault: the shards are what counts.

    Raises
    ------
    FormatError
        Naming the keys and their shards, keys of which the same is wrong as one.
    """
    found: dict[str, str] = {}
    twice: dict[str, tuple[str, str]] = {}
    for shard, keys in held.items():
        for key in keys:
            if found.setdefault(key, shard) != shard:
                twice.setdefault(key, (found[key], shard))
    astray = {
        key: (shard, found.get(key, ""))
        for key, shard in (weight_map or {}).items()
        if found.get(key) != shard and key not in twice
    }
    facts = [f"{keys}: in two shards, {one} and {other}" for (one, other), keys, _ in _alike(twice)]
    for (named, place), keys, it in _alike(astray):
        where_it_is = f"but in {place}" if place else "nor in any other"
        facts.append(f"{keys}: not in {named}, where the index puts {it}, {where_it_is}")
    if not facts:
        return
    unnamed = [key for key in found if key not in (weight_map or {})]
    if astray and unnamed:
        facts.append(f"{_named(unnamed)[0]}: in the shards, and the index does not know of {_named(unnamed)[1]}")
    if len(facts) > _MAX_FACTS:
        facts = [*facts[:_MAX_FACTS], f"… and {len(facts) - _MAX_FACTS} more"]
    raise FormatError("the shards do not hold what they should", where=where, facts=facts, hint=_HINT)


def _alike(faults: Mapping[str, tuple[str, str]]) -> Iterator[tuple[tuple[str, str], str, str]]:
    """Keys of which the same is wrong as one: what is wrong, the keys, and what to call them afterwards."""
    groups: dict[tuple[str, str], list[str]] = {}
    for key, fault in faults.items():
        groups.setdefault(fault, []).append(key)
    yield from ((fault, *_named(keys)) for fault, keys in groups.items())


def _named(keys: Sequence[str]) -> tuple[str, str]:
    """Keys by the first of them, and what to call them afterwards.

    >>> _named(["a"]), _named(["a", "b", "c"])
    (('a', 'it'), ('a and 2 more keys', 'them'))
    """
    first, rest = legible(keys[0]), len(keys) - 1
    return (f"{first} and {rest:,} more key{'s' * (rest > 1)}", "them") if rest else (first, "it")


def _shard_name_faults(weight_map: Mapping[str, Any]) -> list[str]:
    example: dict[Any, str] = {}
    faults = []
    for key, shard in weight_map.items():
        if not isinstance(shard, str):
            faults.append(f"{legible(key)}: its shard is no text")
        else:
            example.setdefault(shard, key)
    for shard, key in example.items():
        if not is_plain_name(shard):
            faults.append(f"{legible(key)}: its shard {brief(shard)} is no plain file name in the folder of the index")
    return faults


def is_plain_name(name: str) -> bool:
    """Whether a name stays in its folder on every system: no separators, drive, dots alone or NUL; not too long.

    >>> is_plain_name("model-00001-of-00002.safetensors"), is_plain_name("../x"), is_plain_name("C:x")
    (True, False, False)
    """
    if not name or name in (".", "..") or "\0" in name or len(name.encode(errors="replace")) > LONGEST_NAME:
        return False
    return PurePosixPath(name).name == name and PureWindowsPath(name).name == name
