"""Orbax: the folder that JAX programs save a tree of arrays into; names from its metadata, shapes where it has them.

Format: orbax-checkpoint `metadata/tree.py` (``_METADATA``) and `metadata/array_metadata_store.py`
(``array_metadatas/process_*``); without these, zarr's ``.zarray`` in the folder of each array.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from treealign.errors import FormatError
from treealign.formats.bounds import refuse_more
from treealign.formats.exports.listed import ListedFile, ListedTensor, announced, listed
from treealign.formats.indexes import is_plain_name
from treealign.formats.texts import read_bounded

METADATA = "_METADATA"
_HINT = "orbax.checkpoint.PyTreeCheckpointer().restore(folder) reads it: pass its tree flattened, {path: array}"
_MOST = 50_000  # arrays: each has a folder
_DTYPES = {"<f4": "float32", "<f2": "float16", "<f8": "float64", "<i4": "int32", "<i8": "int64"}


def read_orbax(folder: Path) -> ListedFile:
    """The arrays of a folder, their paths joined by dots.

    Raises
    ------
    FormatError
        Its metadata cannot be read.
    """
    path = folder / METADATA
    entries = _json(path).get("tree_metadata")
    if not isinstance(entries, dict):
        raise FormatError("the metadata of orbax names no tree", where=str(path))
    refuse_more(len(entries), _MOST, "arrays", str(path))
    keys = [_key(entry, text) for text, entry in entries.items()]
    shapes = _shapes(folder)
    found = [(key, shapes.get(key) or _zarr(folder, key)) for key in keys]
    return listed(str(folder), [(key, one or ListedTensor(None, "unknown")) for key, one in found], 0, hint=_HINT)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_bounded(path))
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError("the metadata of orbax cannot be read", where=str(path), facts=[str(error)]) from error
    return value if isinstance(value, dict) else {}


def _key(entry: Any, text: str) -> str:
    try:
        return ".".join(str(one["key"]) for one in entry["key_metadata"]) or text
    except (KeyError, TypeError):
        return text


def _shapes(folder: Path) -> dict[str, ListedTensor]:
    """Shapes by path; none of an array that several devices may share, of which the shape of a part is written."""
    sharding, written = folder / "_sharding", sorted(folder.glob("array_metadatas/process_*"))
    whole = len(written) == 1
    if sharding.is_file():
        whole = all("SingleDevice" in str(one) for one in _json(sharding).values())
    return {key: tensor for path in written for key, tensor in _arrays(_json(path))} if whole else {}


def _each(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; what is none is passed over."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _arrays(said: dict[str, Any]) -> Iterator[tuple[str, ListedTensor]]:
    for one in _each(said.get("array_metadatas")):
        for inner in _each([one.get("array_metadata")]):
            if "param_name" in inner and "write_shape" in inner:
                yield str(inner["param_name"]), ListedTensor(announced(inner["write_shape"]), "unknown")


def _zarr(folder: Path, key: str) -> ListedTensor | None:
    path = folder / key / ".zarray"
    if not is_plain_name(key) or not path.is_file():
        return None
    said = _json(path)
    kind = str(said.get("dtype", ""))
    return ListedTensor(announced(said.get("shape", ())), _DTYPES.get(kind, kind))
