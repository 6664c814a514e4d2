"""How a checkpoint lies in its files: which keys in which file, in which order, with which metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from treealign.checkpoint.packing import pack_keys, unpack_keys
from treealign.errors import FormatError
from treealign.formats.cached import cached_property
from treealign.formats.checkpoints import Checkpoint, File
from treealign.formats.distributed import DistributedFolder
from treealign.formats.index_text import USUAL, IndexText
from treealign.formats.indexes import is_plain_name
from treealign.formats.legible import legible
from treealign.formats.safetensors_header import Header
from treealign.formats.safetensors_writer import canonical_order, plan_of

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# what transformers wants to see in a file that torch is to read
FORMAT_METADATA = {"format": "pt"}


@dataclass(frozen=True)
class FileLayout:
    """One file of weights.

    Attributes
    ----------
    name : str
        Name in its folder, as it is written again.
    keys : tuple of str
        In the order of their data.
    sorted : bool
        Whether that order is the one in which safetensors itself writes; then `keys` is in no particular order, for a
        tensor that has changed its dtype moves.
    metadata : mapping of str to str, or None
        None where the file has none.
    header_size : int or None
        Bytes of the header with its padding, less its length; None for the least.
    """

    name: str
    keys: tuple[str, ...]
    sorted: bool = True
    metadata: Mapping[str, str] | None = None
    header_size: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; what holds its default is left out."""
        data: dict[str, Any] = {"name": self.name, "keys": pack_keys(self.keys)}
        if not self.sorted:
            place = {key: at for at, key in enumerate(unpack_keys(data["keys"]))}
            data["order"] = [place[key] for key in self.keys]
        if self.metadata is not None:
            data["metadata"] = dict(self.metadata)
        if self.header_size is not None:
            data["header_size"] = self.header_size
        return data

    @classmethod
    def from_json(cls, data: Any) -> FileLayout:
        """File layout from `to_json`; raises what malformed data makes Python raise."""
        keys = unpack_keys(data["keys"])
        if "order" in data:
            keys = [keys[at] for at in data["order"]]
        return cls(str(data["name"]), tuple(keys), "order" not in data, data.get("metadata"), data.get("header_size"))


@dataclass(frozen=True)
class Layout:
    """All files of a checkpoint.

    Attributes
    ----------
    files : tuple of FileLayout
        In the order in which the index names them.
    index : mapping, or None
        The metadata of the index; None for a file without an index.
    index_name : str
        The name of the index.
    nbytes : int
        Bytes of all tensors.
    text : IndexText
        How the index is written.
    """

    files: tuple[FileLayout, ...]
    index: Mapping[str, Any] | None = None
    index_name: str = INDEX
    nbytes: int = 0
    text: IndexText = USUAL

    @cached_property
    def file_of(self) -> dict[str, int]:
        """Key to the position of its file."""
        return {key: at for at, file in enumerate(self.files) for key in file.keys}

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        data: dict[str, Any] = {"files": [file.to_json() for file in self.files]}
        data["nbytes"] = self.nbytes
        if self.index is None:
            return data
        data |= {"index": dict(self.index), "index_name": self.index_name}
        if self.text != USUAL:
            place = {key: at for at, key in enumerate(_keys(data))}
            data["index_text"] = self.text.to_json() | {"order": [place[key] for key in self.text.keys]}
        return data

    @classmethod
    def from_json(cls, data: Any) -> Layout:
        """Layout from `to_json`.

        Raises
        ------
        FormatError
            The data is not what `to_json` gives, or names files that would be written elsewhere than in their folder.
        """
        try:
            files = tuple(FileLayout.from_json(file) for file in data["files"])
            text = _text(data)
            layout = cls(files, data.get("index"), data.get("index_name", INDEX), data["nbytes"], text)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
            raise FormatError("the layout of files cannot be read", facts=[repr(e)]) from e
        refuse_elsewhere([*(file.name for file in files), layout.index_name])
        return layout


def _keys(data: Any) -> list[str]:
    return [key for file in data["files"] for key in unpack_keys(file["keys"])]


def _text(data: Any) -> IndexText:
    if "index_text" not in data:
        return USUAL
    keys = _keys(data)
    return IndexText.from_json(data["index_text"], tuple(keys[at] for at in data["index_text"]["order"]))


def refuse_elsewhere(names: Iterable[str]) -> None:
    """Refuse names by which a file that anybody may have written would have others written outside of its folder.

    Raises
    ------
    FormatError
        Naming them.
    """
    bad = [legible(str(name)) for name in names if not is_plain_name(str(name))]
    if bad:
        raise FormatError("these are no plain names of files in one folder", facts=bad[:20])


_ENDINGS = "bin|pt|pth|ckpt|gguf|npz|msgpack|h5|onnx|nemo"
_OTHER_NAME = re.compile(rf"(?:pytorch_)?(.*)\.(?:{_ENDINGS})(\.index\.json)?", re.DOTALL)


def layout_of(found: Checkpoint) -> Layout:
    """The layout of a checkpoint."""
    index = found.index
    files = tuple(map(_file_layout, found.files))
    nbytes = sum(_nbytes(file) for file in found.files)
    if index is None:
        # shards without an index are given one
        return Layout(files, {"total_size": nbytes} if len(files) > 1 else None, nbytes=nbytes)
    return Layout(files, dict(index.metadata), safetensors_name(Path(index.path).name), nbytes, index.text)


def in_folder(layout: Layout) -> Layout:
    """The layout of a checkpoint as it is saved into a folder: one file without an index has the usual name there."""
    if len(layout.files) != 1 or layout.index is not None:
        return layout
    return replace(layout, files=(replace(layout.files[0], name=SINGLE),))


def _nbytes(file: File) -> int:
    if isinstance(file, Header):
        return file.size - file.data_start
    return sum(tensor.nbytes for tensor in file.tensors.values())


def _file_layout(file: File) -> FileLayout:
    name = SINGLE if isinstance(file, DistributedFolder) else safetensors_name(Path(file.path).name)
    if not isinstance(file, Header):
        return FileLayout(name, tuple(file.tensors), sorted=False, metadata=FORMAT_METADATA)
    plan = plan_of(file)
    keys = tuple(tensor.key for tensor in plan)
    # beyond the least that the format allows, padding is the writer's choice
    return FileLayout(name, keys, canonical_order(plan) == plan, file.metadata, file.data_start - 8)


def safetensors_name(name: str) -> str:
    """The name of the safetensors file that replaces a torch file.

    >>> safetensors_name("pytorch_model.bin.index.json"), safetensors_name("model.safetensors")
    ('model.safetensors.index.json', 'model.safetensors')
    """
    found = _OTHER_NAME.fullmatch(name)
    return f"{found[1]}.safetensors{found[2] or ''}" if found else name
