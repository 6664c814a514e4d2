"""Conversion mappings as JSON: versioned, strict in reading, everything wrong named at once.

{"format": "treealign.mapping", "version": 1, "transforms": [
  {"kind": "PrefixChange", "add": "model", "under": "vision"},
  {"kind": "Rename", "pairs": [["**.attn", "**.self_attn"]], "before": ["**.attn"], "after": ["**.self_attn"]},
  {"kind": "Convert", "sources": […], "targets": […], "operations": […]}],
 "questions": [{"about": "rows", "checkpoint": ["layers.{0..31}.wq.weight"], "model": […], "why": …, "options": […]}],
 "accepted": [], "answers": ["wq=q_proj"]}

`questions` is what is still a guess, `accepted` what was taken as guessed; where there are none, they are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any

from treealign.errors import MappingError, TreealignError
from treealign.formats.atomic import written_whole
from treealign.formats.texts import read_bounded
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.open_questions import question_from_data, question_to_data
from treealign.mapping.operations import SizeTable, sequence_from_json, sequence_to_json
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import Convert, PrefixChange, Rename

FORMAT = "treealign.mapping"
VERSION = 1
_MARKS = ("questions", "accepted", "answers")
_HINT = "`treealign suggest CHECKPOINT MODEL -o FILE` writes a mapping"


def write_mapping_json(path: str | PathLike[str], mapping: ConversionMapping) -> None:
    """Write a mapping file, whole or not at all."""
    with written_whole(path) as file:
        file.write(mapping_to_text(mapping).encode())


def mapping_to_text(mapping: ConversionMapping) -> str:
    """What a mapping file holds."""
    return f"{json.dumps(mapping_to_data(mapping), indent=2, ensure_ascii=False)}\n"


def read_mapping_json(path: str | PathLike[str]) -> ConversionMapping:
    """Read a mapping file.

    Raises
    ------
    MappingError
        The file cannot be read, is no mapping, is of another version, or is malformed.
    """
    try:
        data = json.loads(read_bounded(path).decode("utf-8"), object_pairs_hook=_once_each)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MappingError(f"the mapping cannot be read: {reason}", where=str(path), hint=_HINT) from error
    except (ValueError, RecursionError) as error:
        raise MappingError("this is no JSON", where=str(path), facts=[str(error)], hint=_HINT) from error
    return mapping_from_data(data, where=str(path))


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{', '.join(n for n in data if names.count(n) > 1)} stands in an object twice")
    return data


def mapping_to_data(mapping: ConversionMapping | Iterable[Transform]) -> dict[str, Any]:
    """A mapping as plain JSON data."""
    whole = mapping if isinstance(mapping, ConversionMapping) else ConversionMapping(mapping)
    marks = {
        "questions": [question_to_data(question) for question in whole.questions],
        "accepted": [question_to_data(question) for question in whole.accepted],
        "answers": list(whole.answers),
    }
    data = {"format": FORMAT, "version": VERSION, "transforms": [transform_to_data(t) for t in whole]}
    return data | {name: found for name, found in marks.items() if found}


def mapping_from_data(data: Any, where: str = "") -> ConversionMapping:
    """The mapping of `mapping_to_data`.

    Raises
    ------
    MappingError
        The data is no mapping, is of another version, or is malformed; the message lists everything wrong.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise MappingError("this is no conversion mapping", where=where, hint=_HINT)
    if type(data.get("version")) is not int or data["version"] != VERSION:
        facts = [f"the file says {data.get('version')!r}", f"this treealign reads {VERSION}"]
        raise MappingError("unknown version of a mapping", where=where, facts=facts, hint="upgrade treealign")
    reasons = [f"unknown field `{name}`" for name in data if name not in ("format", "version", "transforms", *_MARKS)]
    listed = data.get("transforms")
    if not isinstance(listed, list):
        reasons.append("`transforms` is no list")
        listed = []
    made = [_read(item, f"transforms[{at}]", reasons) for at, item in enumerate(listed)]
    marks = {name: _marks(data.get(name, []), name, reasons) for name in _MARKS}
    if reasons:
        raise MappingError("a malformed mapping", where=where, facts=reasons)
    return ConversionMapping((transform for transform in made if transform is not None), **marks)


def _marks(listed: Any, name: str, reasons: list[str]) -> list[Any]:
    if not isinstance(listed, list) or (name == "answers" and not _texts(listed)):
        reasons.append(f"`{name}` is no list" + (" of texts" if name == "answers" else ""))
        return []
    if name == "answers":
        return listed
    return [question_from_data(item, f"{name}[{at}]", reasons) for at, item in enumerate(listed)]


def transform_to_data(transform: Transform) -> dict[str, Any]:
    """One transform as plain JSON data; empty fields are left out."""
    data: dict[str, Any] = {"kind": type(transform).__name__}
    if isinstance(transform, PrefixChange):
        data |= {"add": transform.add} if transform.add is not None else {"remove": transform.remove}
    elif isinstance(transform, Rename):
        data["pairs"] = [list(pair) for pair in transform.pairs]
    elif isinstance(transform, Convert):
        data |= {"sources": list(transform.sources), "targets": list(transform.targets)}
        data["operations"] = sequence_to_json(transform.operations)
        data["counts"] = {name: table.to_json() for name, table in transform.counts}
    data |= {"under": transform.under, "before": list(transform.before), "after": list(transform.after)}
    return {name: value for name, value in data.items() if value or name in ("add", "remove")}


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _pairs(value: Any) -> bool:
    return isinstance(value, list) and all(_texts(pair) and len(pair) == 2 for pair in value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


_SHARED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "under": (_text, "text"),
    "before": (_texts, "a list of texts"),
    "after": (_texts, "a list of texts"),
}
_FIELDS: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    "PrefixChange": {"add": (_text, "text"), "remove": (_text, "text")},
    "Rename": {"pairs": (_pairs, "a list of pairs of texts")},
    "Convert": {
        "sources": (_texts, "a list of texts"),
        "targets": (_texts, "a list of texts"),
        "operations": (lambda value: isinstance(value, list), "a list"),
        "counts": (lambda value: isinstance(value, dict), "an object"),
    },
}
_REQUIRED = {"PrefixChange": (), "Rename": ("pairs",), "Convert": ("sources", "targets", "operations")}


def _read(data: Any, at: str, reasons: list[str]) -> Transform | None:
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in _FIELDS:
        reasons.append(f"{at} is no transform: its `kind` is none of {', '.join(_FIELDS)}")
        return None
    found = _field_reasons(data, kind)
    if found:
        reasons += [f"{at}, {kind}: {reason}" for reason in found]
        return None
    try:
        return _made(kind, {name: value for name, value in data.items() if name != "kind"})
    except TreealignError as error:
        reasons.append(f"{at}, {kind}: " + "; ".join([error.what, *error.facts]))
        return None


def _field_reasons(data: dict[str, Any], kind: str) -> list[str]:
    known = _FIELDS[kind] | _SHARED
    reasons = [f"unknown field `{name}`" for name in data if name not in known and name != "kind"]
    reasons += [f"no field `{name}`" for name in _REQUIRED[kind] if name not in data]
    wrong = [(name, known[name][1]) for name in data if name in known and not known[name][0](data[name])]
    return reasons + [f"`{name}` is not {wanted}" for name, wanted in wrong]


def _made(kind: str, given: dict[str, Any]) -> Transform:
    if kind == "PrefixChange":
        return PrefixChange(**given)
    if kind == "Rename":
        pairs = given.pop("pairs")
        _refuse_repeated([source for source, _ in pairs])
        return Rename(dict(pairs), **given)
    given["operations"] = sequence_from_json(given["operations"])
    given["counts"] = {name: SizeTable.from_json(table) for name, table in given.get("counts", {}).items()}
    return Convert(**given)


def _refuse_repeated(sources: Sequence[str]) -> None:
    repeated = [source for source in dict.fromkeys(sources) if sources.count(source) > 1]
    if repeated:
        raise MappingError("a source stands in it twice", facts=repeated)
