"""The record beside saved weights: from the keys in the files to those of the model they were saved from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from treealign.errors import FormatError
from treealign.mapping.load_record import Record
from treealign.mapping.planning import Step

NAME = "treealign_record.json"
FORMAT = "treealign.saved"
VERSION = 1


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


def parts_to_bytes(parts: Sequence[Part]) -> bytes:
    """The file. Dtypes are left out: they are those in the weights beside it."""
    data = {"format": FORMAT, "version": VERSION, "parts": [_part_to_data(part) for part in parts]}
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def read_parts(folder: Path) -> tuple[Part, ...] | None:
    """The parts that were saved in a folder; None where there is no record.

    Raises
    ------
    FormatError
        The record cannot be read; the message names the file.
    """
    path = folder / NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FormatError(f"cannot read the file: {error.strerror}", where=str(path)) from error
    try:
        return _parts_from_data(json.loads(raw))
    except (FormatError, ValueError, KeyError, TypeError, RecursionError) as error:
        facts = [error.what, *error.facts] if isinstance(error, FormatError) else [str(error)]
        hint = "delete the file to load without it, or pass a mapping"
        raise FormatError("the record of weights is unreadable", where=str(path), facts=facts, hint=hint) from error


def _parts_from_data(data: Any) -> tuple[Part, ...]:
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise FormatError(f"no record, or not of version {VERSION}")
    return tuple(_part_from_data(part) for part in data["parts"])


def _part_to_data(part: Part) -> dict[str, Any]:
    levels = {name: text for name, text in asdict(part.levels).items() if text}
    return levels | {"record": replace(part.record, dtypes={}).to_data()}


def _part_from_data(data: Any) -> Part:
    levels = Levels(**{field.name: str(data.get(field.name, "")) for field in fields(Levels)})
    return Part(Record.from_data(data["record"]), levels)
