"""The record beside weights: one file, whose sections say what a save and what a conversion did.

``parts``: from the keys in the files to those of the model that they were saved from. ``conversion``: from the keys
before a conversion to those in the files; see `treealign.checkpoint.conversion.undoing`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from treealign.checkpoint.load_record import Record
from treealign.errors import FormatError, MappingError
from treealign.formats.texts import read_bounded
from treealign.mapping.planning import Step

NAME = "treealign_record.json"
BEFORE = "treealign_conversion.json"  # what conversions wrote until there was one file for both
FORMAT = "treealign.records"
VERSION = 2
T = TypeVar("T")
_MALFORMED = (OSError, FormatError, MappingError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Levels:
    """Which part of what a record knows was saved, and where.

    Attributes
    ----------
    path : str
        The saved module in the record's model; empty for all of it.
    strip : str
        The levels that its keys have in the record's checkpoint and not in the files.
    mount : str
        The levels that its keys have in the files before what is left.
    module : str
        The module in the saved model.
    """

    path: str = ""
    strip: str = ""
    mount: str = ""
    module: str = ""

    def file_key(self, key: str) -> str | None:
        """A key of the record's checkpoint as it stands in the files; None if it does not."""
        return moved(key, self.strip, self.mount)

    def model_key(self, key: str) -> str | None:
        """A key of the record's model as it stands in the saved model; None if it does not."""
        return moved(key, self.path, self.module)

    def translate(self, step: Step) -> Step | None:
        """A step of the record as one from keys in the files to keys of the saved model; None if it is not there."""
        sources = [self.file_key(key) for key in step.sources]
        targets = [self.model_key(key) for key in step.targets]
        if None in sources or None in targets:
            return None
        return step._replace(sources=tuple(map(str, sources)), targets=tuple(map(str, targets)))


WHOLE = Levels()


class Part(NamedTuple):
    """A record, and which part of what it knows was saved."""

    record: Record
    levels: Levels = WHOLE


def moved(name: str, start: str, to: str) -> str | None:
    """A key or path with its start replaced, whole levels only; None where it starts otherwise.

    >>> moved("model.vision.norm.weight", "model.vision", "tower"), moved("visions.w", "vision", "")
    ('tower.norm.weight', None)
    """
    if not start:
        return f"{to}.{name}" if to and name else to or name
    if name == start:
        return to
    rest = name.removeprefix(f"{start}.")
    return None if rest == name else f"{to}.{rest}" if to else rest


def to_bytes(parts: Sequence[Part] = (), conversion: Mapping[str, Any] | None = None) -> bytes:
    """The file. Dtypes of parts are left out: they are those in the weights beside it."""
    data: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    data |= {"parts": [_part_to_data(part) for part in parts]} if parts else {}
    data |= {"conversion": conversion} if conversion is not None else {}
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def read_parts(folder: Path) -> tuple[Part, ...] | None:
    """The parts that were saved in a folder; None where there is no record of a save.

    Raises
    ------
    FormatError
        The record cannot be read; the message names the file.
    """
    hint = "delete the file to load without it, or pass a mapping"
    return read_section(folder / NAME, "parts", lambda parts: tuple(map(_part_from_data, parts)), hint)


def read_section(path: Path, name: str, parse: Callable[[Any], T], hint: str) -> T | None:
    """What one of the two sections of a record says; None where there is no file, or no such section in it.

    Raises
    ------
    FormatError
        The file is no record, of another version, or malformed; the message names it.
    """
    try:
        data = json.loads(read_bounded(path))
        section = _sections(data).get(name)
        return None if section is None else parse(section)
    except FileNotFoundError:
        return None
    except _MALFORMED as error:
        facts = [error.what, *error.facts] if isinstance(error, FormatError | MappingError) else [str(error)]
        raise FormatError("the record beside weights is unreadable", where=str(path), facts=facts, hint=hint) from error


def _sections(data: Any) -> dict[str, Any]:
    known = (data.get("format"), data.get("version")) if isinstance(data, dict) else ()
    if known == ("treealign.conversion", 1):  # until there was one file for both
        return {"conversion": data}
    if known not in ((FORMAT, VERSION), ("treealign.saved", 1)):
        raise FormatError(f"no record, or not of version {VERSION}")
    found: dict[str, Any] = data
    return found


def _part_to_data(part: Part) -> dict[str, Any]:
    levels = {name: text for name, text in asdict(part.levels).items() if text}
    return levels | {"record": replace(part.record, dtypes={}).to_data()}


def _part_from_data(data: Any) -> Part:
    levels = Levels(**{field.name: str(data.get(field.name, "")) for field in fields(Levels)})
    return Part(Record.from_data(data["record"]), levels)
