"""Safetensors files byte by byte, right and wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def tensor(dtype: Any = "F32", shape: Any = (1,), begin: Any = 0, end: Any = 4, **more: Any) -> dict[str, Any]:
    """How a header describes a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


def file_bytes(header: object, data: bytes | int = 0) -> bytes:
    """A file with this header: raw bytes, text, or an object to be written as JSON; `data` may be a count of zeros."""
    if not isinstance(header, str | bytes):
        header = json.dumps(header)
    raw = header.encode() if isinstance(header, str) else header
    return len(raw).to_bytes(8, "little") + raw + (bytes(data) if isinstance(data, int) else data)


def write(path: Path, contents: bytes) -> Path:
    path.write_bytes(contents)
    return path


def written(path: Path, plan: Any, data: Any, metadata: Any = None, *, header_size: int | None = None) -> Path:
    """A file with the header of a plan, and what `data` gives for each of its keys."""
    from treealign.formats.safetensors_writer import header_bytes

    header = header_bytes(plan, metadata, header_size=header_size)
    path.write_bytes(b"".join([header, *(bytes(data(one.key)) for one in plan)]))
    return path
