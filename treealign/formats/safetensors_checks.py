"""Checks of a parsed safetensors header: what each tensor says of itself, and whether all of them tile the data."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from treealign.formats.dtypes import BITS, torch_dtype, torch_shape
from treealign.formats.legible import brief, legible
from treealign.formats.strict_json import Repeated

FIELDS = ("dtype", "shape", "data_offsets")
_LIMIT = 2**64  # what the format's own reader counts in


class TensorEntry(NamedTuple):
    """One tensor of a safetensors file.

    `dtype` is spelled as safetensors spells it; `begin` and `end` are bytes from the start of the data.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def torch_dtype(self) -> str:
        """The dtype as torch spells it."""
        return torch_dtype(self.dtype)

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape as torch gives it; differs from `shape` for F4 only."""
        return torch_shape(self.dtype, self.shape)


_begin_end = itemgetter(3, 4)


def check_tensors(described: dict[str, Any], data_size: int) -> tuple[list[TensorEntry], list[str]]:
    """The tensors of a header in the order of their data, and everything that is wrong with them.

    Parameters
    ----------
    described : dict
        Key to the parsed ``{"dtype": …, "shape": …, "data_offsets": …}``.
    data_size : int
        Bytes of the file after its header.

    Notes
    -----
    One pass over the tensors and one sort, which is linear for a header in file order.
    """
    made = [_entry(key, info) for key, info in described.items()]
    entries = [entry for entry in made if entry is not None]
    if len(entries) < len(made):
        wrong = {key: info for key, info in described.items() if _entry(key, info) is None}
        return entries, _all_findings(entries, wrong, data_size)
    entries.sort(key=_begin_end)
    return entries, _tiling_findings(entries, data_size)


def _entry(key: str, info: Any) -> TensorEntry | None:
    """The entry, or None where `_fault` has something to say; kept flat, for it runs once per tensor."""
    try:
        dtype, shape, (begin, end) = info["dtype"], info["shape"], info["data_offsets"]
        bits = BITS[dtype]
    except (KeyError, TypeError, ValueError):
        return None
    if type(info) is not dict or len(info) != 3 or type(shape) is not list:
        return None
    count = 1
    for extent in shape:
        if type(extent) is not int or not 0 <= extent < _LIMIT:
            return None
        count *= extent
        if count >= _LIMIT:
            return None
    if type(begin) is not int or type(end) is not int or begin < 0 or (end - begin) * 8 != count * bits:
        return None
    return TensorEntry(key, dtype, tuple(shape), begin, end)


def _all_findings(entries: list[TensorEntry], wrong: dict[str, Any], data_size: int) -> list[str]:
    """What is wrong with each tensor, and what is wrong with all ranges, those of wrong tensors included."""
    faults = [f"{legible(key)}: {_fault(info)}" for key, info in wrong.items()]
    ranges: dict[str, Any] = {key: info.get("data_offsets") for key, info in wrong.items() if isinstance(info, dict)}
    placed = [TensorEntry(key, "", (), *offsets) for key, offsets in ranges.items() if _is_range(offsets)]
    everything = sorted([*entries, *placed], key=_begin_end)
    # a tensor without a range leaves a hole, which would only repeat that it has none
    return faults + _tiling_findings(everything, data_size, gapless=len(placed) == len(wrong))


def _fault(info: Any) -> str:
    if isinstance(info, Repeated):
        return f"{', '.join(map(legible, info.names[:3]))} stated twice"
    if not isinstance(info, dict):
        return f"described by {_kind(info)} instead of an object"
    absent = [field for field in FIELDS if field not in info]
    if absent:
        return f"no {', '.join(absent)}"
    unknown = [field for field in info if field not in FIELDS]
    if unknown:
        return f"unknown field {', '.join(map(brief, unknown[:3]))}"
    return _field_fault(info["dtype"], info["shape"], info["data_offsets"])


def _field_fault(dtype: Any, shape: Any, offsets: Any) -> str:
    if not isinstance(dtype, str) or dtype not in BITS:
        return f"unknown dtype {brief(dtype)}"
    if not isinstance(shape, list) or not all(_is_count(extent) for extent in shape):
        return f"shape {brief(shape)} is no list of sizes"
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_integer, offsets)):
        return f"data_offsets {brief(offsets)} are no pair of integers"
    begin, end = offsets
    if not _is_range(offsets):
        return f"range {begin}..{end} is {'negative' if min(begin, end) < 0 else 'reversed'}"
    return _size_fault(dtype, shape, end - begin)


def _size_fault(dtype: str, shape: list[int], held: int) -> str:
    count = 1
    for extent in shape:
        count *= extent
        if count >= _LIMIT:
            return f"shape {brief(shape)} has more elements than can be counted"
    needed, odd = divmod(count * BITS[dtype], 8)
    if odd:
        return f"{dtype} of shape {brief(shape)} does not fill whole bytes"
    return f"{dtype} of shape {brief(shape)} takes {needed} bytes, its range holds {held}"


def _tiling_findings(entries: Sequence[TensorEntry], data_size: int, *, gapless: bool = True) -> list[str]:
    """Where ranges overlap or pass the end and, where they should be `gapless`, what they leave out."""
    begins, ends = [e.begin for e in entries], [e.end for e in entries]
    # the usual case, compared in one go
    if [*begins, data_size] == [0, *ends]:
        return []
    if ends[-1:] > [data_size] and begins == [0, *ends[:-1]]:
        cut = next(at for at, end in enumerate(ends) if end > data_size)
        whole = len(ends) - cut == 1
        return [
            f"{legible(entries[-1].key)}: ends at {ends[-1]}, past the end of the data at {data_size}"
            if whole
            else f"cut short: {data_size} of {ends[-1]} bytes of data are there, {len(ends) - cut} of {len(ends)} "
            f"tensors are not whole, the first is {legible(entries[cut].key)}"
        ]
    findings, covered, last = [], 0, "the header"
    for entry, _, _, begin, end in entries:
        key = legible(entry)
        if begin > covered and gapless:
            findings.append(f"{key}: begins at {begin}, a hole of {begin - covered} bytes after {last}")
        elif begin < covered:
            findings.append(f"{key}: begins at {begin}, overlaps {last}, which ends at {covered}")
        if end > data_size:
            findings.append(f"{key}: ends at {end}, past the end of the data at {data_size}")
        if end >= covered:
            covered, last = end, key
    if covered < data_size and gapless:
        findings.append(f"{data_size - covered} trailing bytes after {last} belong to no tensor")
    return findings


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_range(value: Any) -> bool:
    pair = isinstance(value, list) and len(value) == 2 and all(map(_is_integer, value))
    return pair and 0 <= value[0] <= value[1]


def _is_count(value: Any) -> bool:
    return _is_integer(value) and 0 <= value < _LIMIT


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "a truth value", str: "text", list: "a list", int: "a number", float: "a number"}[type(value)]
