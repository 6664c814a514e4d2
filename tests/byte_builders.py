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
