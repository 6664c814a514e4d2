"""What a safetensors file begins with, and the index of several: laid out as safetensors' own writer does.

It takes raw bytes, so it needs no torch. A file that safetensors wrote, and whose `Header` gives order, metadata and
header length, comes back byte for byte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from treealign.errors import FormatError
from treealign.formats.dtypes import BITS, RANK
from treealign.formats.index_text import USUAL, IndexText
from treealign.formats.legible import legible
from treealign.formats.safetensors_header import MAX_HEADER, METADATA, Header

_ALIGNMENT = 8


class TensorPlan(NamedTuple):
    """A tensor to be written; `dtype` and `shape` as safetensors spells and counts them."""

    key: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * BITS[self.dtype] // 8


@dataclass(frozen=True)
class Shard:
    """One file of several: its name in the folder, its tensors, its metadata and, optionally, its header's length."""

    name: str
    plan: tuple[TensorPlan, ...]
    metadata: Mapping[str, str] | None = None
    header_size: int | None = None


def plan_of(header: Header) -> tuple[TensorPlan, ...]:
    """The plan that writes the tensors of `header` in the same order."""
    return tuple(TensorPlan(entry.key, entry.dtype, entry.shape) for entry in header.tensors)


def canonical_order(plan: Iterable[TensorPlan]) -> tuple[TensorPlan, ...]:
    """The order of safetensors' own writer: widest dtype first, then by key."""
    return tuple(sorted(plan, key=lambda tensor: (-RANK[tensor.dtype], tensor.key)))


def split_into_shards(
    plan: Sequence[TensorPlan], max_bytes: int, *, stem: str = "model", metadata: Mapping[str, str] | None = None
) -> tuple[Shard, ...]:
    """Shards of at most `max_bytes` of tensors, in order, named ``model-00001-of-00003.safetensors``.

    Cut where `huggingface_hub.split_state_dict_into_shards_factory` cuts: a tensor larger than that has a shard of its
    own, before the one that others are being put into. One shard is enough for all: it is named ``model.safetensors``.
    """
    groups: list[list[TensorPlan]] = []
    current: list[TensorPlan] = []
    held = 0
    for tensor in plan:
        if tensor.nbytes > max_bytes:
            groups.append([tensor])
            continue
        if held + tensor.nbytes > max_bytes:
            groups.append(current)
            current, held = [], 0
        current.append(tensor)
        held += tensor.nbytes
    groups += [current] if current or not groups else []
    if len(groups) == 1:
        return (Shard(f"{stem}.safetensors", tuple(groups[0]), metadata),)
    total = len(groups)
    names = [f"{stem}-{at:05d}-of-{total:05d}.safetensors" for at in range(1, total + 1)]
    return tuple(Shard(name, tuple(group), metadata) for name, group in zip(names, groups, strict=True))


def header_bytes(
    plan: Sequence[TensorPlan],
    metadata: Mapping[str, str] | None = None,
    *,
    header_size: int | None = None,
    where: str = "",
) -> bytes:
    """The header of a file, its eight-byte length included; `where` names the file in errors.

    Raises
    ------
    FormatError
        If a key occurs twice or is reserved, a dtype is unknown, a shape fills no whole bytes, or the header would be
        longer than the format allows.
    """
    faults = _plan_faults(plan, metadata)
    if faults:
        raise FormatError("these tensors cannot be written as safetensors", where=where, facts=faults)
    header: dict[str, Any] = {} if metadata is None else {METADATA: dict(metadata)}
    at = 0
    for tensor in plan:
        end = at + tensor.nbytes
        header[tensor.key] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    least = len(text) + -len(text) % _ALIGNMENT
    text = text.ljust(header_size if header_size is not None and header_size >= len(text) else least)
    if len(text) > MAX_HEADER:
        raise FormatError(f"the header would be {len(text)} bytes long; the format allows {MAX_HEADER}", where=where)
    return len(text).to_bytes(8, "little") + text


def index_bytes(
    shards: Sequence[Shard], metadata: Mapping[str, Any] | None = None, where: str = "", text: IndexText = USUAL
) -> bytes:
    """The index of shards, written as `text` says.

    Raises
    ------
    FormatError
        If a key stands in two shards, or two shards have one name.
    """
    weight_map: dict[str, str] = {}
    faults = []
    for shard in shards:
        for tensor in shard.plan:
            if weight_map.setdefault(tensor.key, shard.name) != shard.name:
                faults.append(f"{legible(tensor.key)}: in {weight_map[tensor.key]} and in {shard.name}")
    if len({shard.name for shard in shards}) < len(shards):
        faults.append("two shards have one name")
    if faults:
        raise FormatError("these shards cannot be indexed", where=where, facts=faults)
    total = {"total_size": sum(tensor.nbytes for shard in shards for tensor in shard.plan)}
    return text.write(weight_map, total if metadata is None else metadata)


def _plan_faults(plan: Sequence[TensorPlan], metadata: Mapping[str, str] | None) -> list[str]:
    faults, seen = [], set()
    for key, dtype, shape in plan:
        if key in seen or key == METADATA:
            faults.append(f"{legible(key)}: {'named twice' if key in seen else 'a reserved name'}")
        seen.add(key)
        if not key.isascii() and not _is_encodable(key):
            faults.append(f"{key!r}: not writable as UTF-8")
        if dtype not in BITS:
            faults.append(f"{legible(key)}: unknown dtype {dtype!r}")
        elif math.prod(shape) * BITS[dtype] % 8:
            faults.append(f"{legible(key)}: {dtype} of shape {list(shape)} does not fill whole bytes")
    texts = (metadata or {}).items()
    return faults + [f"{METADATA}: {name!r} is no text" for name, text in texts if not isinstance(text, str)]


def _is_encodable(key: str) -> bool:
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
