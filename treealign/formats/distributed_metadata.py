"""The metadata of `torch.distributed.checkpoint`: a pickle of plain classes, read without torch and without its code.

Every class is replaced by a stand-in that only holds what it is given; a name that is not known here is refused.
Classes: torch/distributed/checkpoint/metadata.py, filesystem.py.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from treealign.errors import FormatError
from treealign.formats.dtypes import bits_of

METADATA = ".metadata"
_HINT = "it was damaged, or written by a torch that this treealign does not know"
_MODULES = ("torch.distributed.checkpoint.", "torch.distributed._shard.")
_CLASSES = (
    "Metadata",
    "TensorStorageMetadata",
    "BytesStorageMetadata",
    "ChunkStorageMetadata",
    "ShardMetadata",
    "MetadataIndex",
    "StorageMeta",
    "TensorProperties",
    "_MEM_FORMAT_ENCODING",
    "MEM_FORMAT_ENCODING",
    "_StorageInfo",
    "_StoragePrefix",
)


@dataclass(frozen=True)
class Part:
    """A chunk of a tensor and where it is stored; `transformed` names what was done to its bytes."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    begin: int
    length: int
    transformed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A tensor as the metadata describes it; nothing is checked yet."""

    shape: tuple[int, ...]
    dtype: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Metadata:
    """What was saved.

    Attributes
    ----------
    entries : dict of str to Entry or None
        By name; None for what is no tensor.
    paths : dict of str to tuple
        Name to the keys under which it stood in nested dicts and lists.
    """

    entries: Mapping[str, Entry | None]
    paths: Mapping[str, tuple[Any, ...]]


def read_metadata(raw: bytes, where: str) -> Metadata:
    """Read the contents of a ``.metadata`` file; `where` names it in errors.

    Raises
    ------
    FormatError
        If it is no such pickle, or refers to anything else.
    """
    try:
        loaded = _Unpickler(io.BytesIO(raw)).load()
        return _metadata(loaded)
    except FormatError as error:
        raise FormatError(error.what, where=where, facts=error.facts, hint=_HINT) from None
    except (MemoryError, RecursionError, Exception) as error:
        reason = f"{type(error).__name__}: {error}"
        raise FormatError("no metadata of a distributed checkpoint", where=where, facts=[reason], hint=_HINT) from error


class _Held:
    """Stands for an object of a class of torch's: its constructor's arguments and its state."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        # a dict of fields, or (nothing, the fields of a class with slots), or what the class made of itself
        given = next((part for part in reversed(state) if isinstance(part, dict)), None) if _is_pair(state) else state
        self.fields = given if isinstance(given, dict) else {}
        self.state = state

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(name) from None


def _is_pair(state: Any) -> bool:
    return isinstance(state, tuple) and len(state) == 2 and any(isinstance(part, dict) for part in state)


class _Unpickler(pickle.Unpickler):
    """Looks up stand-ins only."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith(_MODULES) and name in _CLASSES:
            return type(name, (_Held,), {})
        plain = _PLAIN.get((module, name))
        if plain is not None:
            return plain
        if module == "torch" and bits_of(name):
            return name
        # Python 3.13 says where its paths are defined
        if module in ("pathlib", "pathlib._local") and name.endswith("Path"):
            return _joined
        raise FormatError("the metadata pickles objects that do not belong there", facts=[f"{module}.{name}"])


def _member(enum: Any, name: Any) -> Any:
    """`getattr`, as Python 3.11.0 to 3.11.3 pickle a member of an enum; of nothing else than our own stand-ins."""
    if isinstance(enum, type) and issubclass(enum, _Held) and isinstance(name, str):
        return enum(name)
    raise FormatError("the metadata pickles objects that do not belong there", facts=[f"getattr of {enum!r}"[:200]])


def _joined(*parts: str) -> str:
    return "/".join(parts)


_PLAIN: dict[tuple[str, str], Any] = {
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    ("builtins", "getattr"): _member,
    ("torch.serialization", "_get_layout"): str,
}


def _metadata(loaded: Any) -> Metadata:
    stored = {(index.fqn, _offset(index)): info for index, info in (loaded.storage_data or {}).items()}
    entries = {name: _entry(name, held, stored) for name, held in loaded.state_dict_metadata.items()}
    paths = loaded.planner_data if isinstance(loaded.planner_data, dict) else {}
    return Metadata(entries, {name: tuple(path) for name, path in paths.items() if name in entries})


def _offset(index: Any) -> tuple[int, ...]:
    # a field that has its default is not always stored
    offset = getattr(index, "offset", None)
    return () if offset is None else _sizes(offset)


def _entry(name: str, held: Any, stored: Mapping[tuple[str, tuple[int, ...]], Any]) -> Entry | None:
    if type(held).__name__ == "BytesStorageMetadata":
        return None
    properties = held.properties
    dtype = properties.state[0] if isinstance(properties.state, tuple) else properties.dtype
    if not isinstance(dtype, str) or not bits_of(dtype):
        raise FormatError("a tensor has no dtype that is known here", facts=[f"{name}: {dtype!r}"[:200]])
    return Entry(_sizes(held.size), dtype, tuple(_parts(name, held.chunks, stored)))


def _parts(name: str, chunks: Iterable[Any], stored: Mapping[tuple[str, tuple[int, ...]], Any]) -> Iterable[Part]:
    for chunk in chunks:
        offsets, sizes = _chunk(chunk)
        info = stored.get((name, offsets))
        if info is None:
            raise FormatError("a part of a tensor is stored nowhere", facts=[f"{name} from {list(offsets)} on"])
        transformed = tuple(map(str, getattr(info, "transform_descriptors", None) or ()))
        [begin, length] = _sizes((info.offset, info.length))
        yield Part(offsets, sizes, str(info.relative_path), begin, length, transformed)


def _sizes(given: Iterable[Any]) -> tuple[int, ...]:
    sizes = tuple(given)
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise FormatError("sizes are no counts", facts=[repr(sizes)[:200]])
    return sizes


def _chunk(chunk: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    offsets = getattr(chunk, "offsets", None)
    if offsets is None:  # before torch 2.2
        return _sizes(chunk.shard_offsets), _sizes(chunk.shard_sizes)
    return _sizes(offsets), _sizes(chunk.sizes)
