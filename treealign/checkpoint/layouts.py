"""How a checkpoint lies in its files; torch files count as the safetensors files that replace them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from treealign.formats.checkpoints import Checkpoint, File
from treealign.formats.distributed import DistributedFolder
from treealign.formats.safetensors_header import Header
from treealign.formats.safetensors_writer import canonical_order, plan_of
from treealign.mapping.layout import FORMAT_METADATA, SINGLE, FileLayout, Layout

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
