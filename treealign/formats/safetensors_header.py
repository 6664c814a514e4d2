"""Strict reader of safetensors headers: names, dtypes, shapes and ranges, without torch and without reading a tensor.

Stricter than safetensors' own reader where that one is silent: a key that stands in the header twice is refused, not
replaced by its last occurrence. Nothing is accepted here that the library refuses.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from treealign.errors import FormatError
from treealign.formats.bounds import MAX_KEYS, MAX_METADATA, refuse_more
from treealign.formats.cached import cached_property
from treealign.formats.collector import collector_paused
from treealign.formats.detect import HEAD, HINTS, ZIP, impostor
from treealign.formats.legible import brief, legible
from treealign.formats.safetensors_checks import FIELDS, TensorEntry, check_tensors
from treealign.formats.strict_json import Repeated, parse_json

__all__ = ["INTERRUPTED", "MAX_HEADER", "METADATA", "Header", "TensorEntry", "header_of", "read_header"]

METADATA = "__metadata__"
_PREFIX = 8  # the header's length, little endian
MAX_HEADER = 100_000_000
# in place of the header's length while the header is being rewritten: as a length it is refused by every reader
INTERRUPTED = b"treealgn"
_MAX_FACTS = 50
_DAMAGED = "the file is damaged or incomplete: fetch or write it again"


@dataclass(frozen=True)
class Header:
    """What a safetensors file holds.

    Attributes
    ----------
    path : str
        The file.
    tensors : tuple of TensorEntry
        In the order of their data.
    metadata : dict of str to str, or None
        In the header's order; None where the header has none.
    data_start : int
        Bytes before the data; ranges of the tensors count from here.
    size : int
        Bytes of the whole file.
    """

    path: str
    tensors: tuple[TensorEntry, ...]
    metadata: Mapping[str, str] | None
    data_start: int
    size: int

    @cached_property
    def entries(self) -> dict[str, TensorEntry]:
        """Key to tensor."""
        return {entry.key: entry for entry in self.tensors}


def read_header(path: str | os.PathLike[str]) -> Header:
    """The header of a safetensors file, checked.

    Raises
    ------
    FormatError
        If the file cannot be read or is not a safetensors file, with everything that is wrong with its tensors.

    Notes
    -----
    Linear in the length of the header; about twice the time of `safetensors.safe_open(...).keys()`.
    """
    name = os.fspath(path)
    return _checked(name, *_read_raw(name))


def header_of(file: BinaryIO, name: str, size: int) -> Header:
    """As `read_header`, from a file that is open at its start and `size` bytes long; `name` stands for it in errors."""
    return _checked(name, _header_of(file, name, size), size)


def _checked(name: str, raw: bytes, size: int) -> Header:
    with collector_paused():
        described = _parse(name, raw)
        metadata, findings = _take_metadata(described)
        data_start = _PREFIX + len(raw)
        entries, faults = check_tensors(described, size - data_start)
        findings += faults
        if findings:
            raise FormatError("not a valid safetensors file", where=name, facts=_shortened(findings), hint=_DAMAGED)
        return Header(name, tuple(entries), metadata, data_start, size)


def _read_raw(name: str) -> tuple[bytes, int]:
    try:
        # before it is opened: opening a pipe waits for a writer
        if not stat.S_ISREG(Path(name).stat().st_mode):
            raise FormatError("not a regular file", where=name)
        with Path(name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return _header_of(file, name, size), size
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FormatError(f"cannot read the file: {reason}", where=name) from error


def _header_of(file: BinaryIO, name: str, size: int) -> bytes:
    head = file.read(HEAD)
    _refuse_impostors(name, head)
    if size < _PREFIX:
        what = "the file is empty" if not size else f"the file has {size} bytes, too few for a safetensors header"
        raise FormatError(what, where=name, hint=_DAMAGED)
    if head.startswith(INTERRUPTED):
        hint = "run the same `treealign convert … --in-place` again: it finishes, or with --reverse takes back"
        raise FormatError("a renaming in place was cut short here", where=name, hint=hint)
    length = int.from_bytes(head[:_PREFIX], "little")
    if length > MAX_HEADER:
        raise FormatError(
            "not a safetensors file",
            where=name,
            facts=[f"its header would be {length} bytes long; the format allows {MAX_HEADER}"],
            hint="the first eight bytes are no header length: this is another format, or damaged",
        )
    if length > size - _PREFIX:
        facts = [f"the header takes {length} bytes after the first {_PREFIX}; the file has {size - _PREFIX}"]
        raise FormatError("the header runs past the end of the file", where=name, facts=facts, hint=_DAMAGED)
    file.seek(_PREFIX)
    return file.read(length)


def _refuse_impostors(name: str, head: bytes) -> None:
    kind = impostor(head)
    if kind is not None:
        raise FormatError(f"not a safetensors file but {kind.value}", where=name, hint=HINTS[kind])
    # a header of 67 million bytes begins like a zip archive, but then with a brace after its length
    if head.startswith(ZIP) and head[8:9] != b"{":
        hint = "torch files are zip archives too: if it was written by torch.save, name it .pt or .bin"
        raise FormatError("not a safetensors file but a zip archive", where=name, hint=hint)


def _parse(name: str, raw: bytes) -> dict[str, Any]:
    if raw.endswith(b"\0"):
        raise FormatError("the header is padded with NUL bytes", where=name, hint="the format pads with spaces")
    # counted before anything is made of them: a name within the header cannot hold quotation marks of its own
    tensors = raw.count(b'"data_offsets"')
    refuse_more(tensors, MAX_KEYS, "tensors", name)
    refuse_more(raw.count(b'":') - (1 + len(FIELDS)) * tensors, 4 * MAX_METADATA, "entries of metadata", name)
    try:
        parsed = parse_json(raw, keep_repeats=False)
        # as many colons as names: none can have been lost; a colon within a name only costs the second look
        if raw.count(b":") != _names_in(parsed):
            parsed = parse_json(raw)
    except ValueError as error:
        raise FormatError("the header cannot be read", where=name, facts=[str(error)], hint=_DAMAGED) from None
    if not isinstance(parsed, dict) or raw[0] != ord("{"):
        raise FormatError("the header is no JSON object", where=name, hint=_DAMAGED)
    if isinstance(parsed, Repeated):
        facts = _shortened([f"{legible(key)}: stands in the header more than once" for key in parsed.names])
        hint = "which of the tensors is meant cannot be told: write the file again with distinct keys"
        raise FormatError("the header repeats keys", where=name, facts=facts, hint=hint)
    return parsed


def _names_in(parsed: Any) -> int:
    """How many names a well-formed header of these contents has; of an ill-formed one, any number but a negative."""
    if not isinstance(parsed, dict):
        return 0
    metadata = parsed.get(METADATA)
    extra = 0 if metadata is None else len(metadata) - len(FIELDS) if isinstance(metadata, dict) else 0
    return (1 + len(FIELDS)) * len(parsed) + extra


def _take_metadata(described: dict[str, Any]) -> tuple[dict[str, str] | None, list[str]]:
    if METADATA not in described:
        return None, []
    metadata = described.pop(METADATA)
    if not isinstance(metadata, dict):
        return None, [f"{METADATA}: no object of texts"]
    refuse_more(len(metadata), MAX_METADATA, "entries of metadata", "the header")
    if isinstance(metadata, Repeated):
        return None, [f"{METADATA}: {brief(key)} stated twice" for key in metadata.names]
    return metadata, [
        f"{METADATA}: {brief(key)} is no text" for key, text in metadata.items() if not isinstance(text, str)
    ]


def _shortened(findings: Sequence[str]) -> list[str]:
    if len(findings) <= _MAX_FACTS:
        return list(findings)
    return [*findings[:_MAX_FACTS], f"… and {len(findings) - _MAX_FACTS} more"]
