"""The tree JSON: one side's names, shapes, dtypes, kinds, module classes and ties, in a file made to be diffed.

One leaf a line, one module a line; sizes of the file are about a quarter of a line of source per parameter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from treealign.errors import FormatError
from treealign.formats.atomic import written_whole
from treealign.formats.bounds import MAX_VALUES, refuse_more
from treealign.formats.legible import brief, legible
from treealign.formats.strict_json import parse_json, repeated_names
from treealign.formats.texts import read_bounded

FORMAT = "treealign.tree"
VERSION = 1
KINDS = ("parameter", "buffer")
_MAX_FACTS = 20
_LIBRARIES = ("treealign", "torch", "transformers", "timm", "diffusers")
_HINT = "write it with `treealign snapshot MODEL -o tree.json`"

Row = tuple[str, tuple[int, ...] | None, str | None, str]


@dataclass(frozen=True)
class TreeFile:
    """What a tree JSON holds; see `treealign.tree.keytree.KeyTree` for the meaning of each.

    `leaves` are (key, shape, dtype, kind). `libraries` are the versions of the libraries that defined the modules.
    """

    leaves: tuple[Row, ...]
    modules: dict[str, str]
    tied: dict[str, str]
    ordered: bool
    libraries: dict[str, str]
    trace: dict[str, Any] | None = None


def installed_libraries(names: Iterable[str] = _LIBRARIES) -> dict[str, str]:
    """The versions of the libraries that are installed; imports none of them."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_tree_json(
    path: str | os.PathLike[str],
    leaves: Iterable[tuple[Any, ...]],
    modules: Mapping[str, str],
    tied: Mapping[str, str],
    ordered: bool,
    *,
    libraries: Mapping[str, str] | None = None,
    trace: Mapping[str, Any] | None = None,
) -> None:
    """Write a tree JSON, whole or not at all.

    Parameters
    ----------
    path : str or PathLike
        The file.
    leaves : iterable of (key, shape, dtype, kind)
        `shape` a sequence of ints or None, `dtype` as torch spells it or None, `kind` "parameter" or "buffer".
    modules, tied, libraries : mapping of str to str
        Module path to class name; key to the key whose storage it shares; library to version.
    ordered : bool
        Whether the leaves stand in order of definition.
    trace : mapping, optional
        What one run of the model showed: lists of keys, of pairs of module paths and of module paths.
    """
    head = {"format": FORMAT, "version": VERSION, "ordered": ordered, "libraries": dict(libraries or {})}
    lines = [f"{_text(name)}: {_text(value)}" for name, value in head.items()]
    if trace is not None:
        lines.append(f'"trace": {_lines("{", _members(trace), "}")}')
    lines.append(f'"modules": {_lines("{", _members(modules), "}")}')
    lines.append(f'"tied": {_lines("{", _members(tied), "}")}')
    lines.append(f'"leaves": {_lines("[", (_row(*leaf) for leaf in leaves), "]")}')
    with written_whole(path) as file:
        file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8"))


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _members(mapping: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_text(name)}: {_text(value)}" for name, value in mapping.items())


def _row(key: str, shape: Iterable[int] | None, dtype: str | None, kind: str = "parameter") -> str:
    row: list[object] = [key, None if shape is None else list(shape), dtype]
    return _text(row if kind == "parameter" else [*row, kind])


def _lines(opening: str, lines: Iterable[str], closing: str) -> str:
    body = ",\n".join(lines)
    return f"{opening}\n{body}\n{closing}" if body else opening + closing


def read_tree_json(path: str | os.PathLike[str]) -> TreeFile:
    """Read a tree JSON.

    Raises
    ------
    FormatError
        If the file cannot be read, has another version, or is malformed; with everything that is wrong with it.
    """
    name = os.fspath(path)
    try:
        raw = read_bounded(path)
    except OSError as error:
        raise FormatError(f"cannot read the file: {error.strerror}", where=name) from error
    return parse_tree_json(raw, name)


def parse_tree_json(raw: bytes, where: str) -> TreeFile:
    """As `read_tree_json`, from the bytes of the file; `where` names it in errors."""
    refuse_more(raw.count(b","), MAX_VALUES, "values", where)
    try:
        value = parse_json(raw)
    except ValueError as error:
        raise FormatError("not a tree JSON", where=where, facts=[str(error)], hint=_HINT) from None
    _refuse_other_formats(value, where)
    findings = [f"{name}: stated twice" for name in repeated_names(value)] + _faults(value)
    if findings:
        raise FormatError("a malformed tree JSON", where=where, facts=findings[:_MAX_FACTS], hint=_HINT)
    rows = tuple(_read_row(*row) for row in value["leaves"])
    return TreeFile(rows, value["modules"], value["tied"], value["ordered"], value["libraries"], value.get("trace"))


def _refuse_other_formats(value: Any, where: str) -> None:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise FormatError("not a tree JSON", where=where, facts=[f'no "format": "{FORMAT}"'], hint=_HINT)
    found = value.get("version")
    if found != VERSION or isinstance(found, bool):
        raise FormatError(
            f"a tree JSON of version {brief(found)}",
            where=where,
            facts=[f"this treealign reads version {VERSION}"],
            hint="upgrade treealign, or write the file again with this one",
        )


def _faults(value: dict[str, Any]) -> list[str]:
    known = ("format", "version", "ordered", "libraries", "modules", "tied", "leaves", "trace")
    faults = [f"unknown field {brief(name)}" for name in value if name not in known]
    if not isinstance(value.get("ordered"), bool):
        faults.append("ordered: no truth value")
    faults += [f"{name}: no object of texts" for name in known[3:6] if not _is_texts(value.get(name))]
    faults += _trace_faults(value.get("trace"))
    leaves = value.get("leaves")
    if not isinstance(leaves, list):
        return [*faults, "leaves: no list"]
    faults += [f"leaves: {brief(row)} is no [key, shape, dtype, kind]" for row in leaves if not _is_row(row)]
    return faults or _key_faults(leaves, value["tied"])


def _trace_faults(trace: Any) -> list[str]:
    if trace is None:
        return []
    if not isinstance(trace, dict):
        return ["trace: no object"]
    names = {"order": _is_text, "activated": _is_text, "attended": _is_text, "feeds": _is_pair}
    faults = [f"trace: unknown field {brief(name)}" for name in trace if name not in (*names, "problem")]
    faults += [] if isinstance(trace.get("problem", ""), str) else ["trace: problem is no text"]
    wrong = (
        n for n, fits in names.items() if not isinstance(trace.get(n, []), list) or not all(map(fits, trace.get(n, [])))
    )
    return faults + [f"trace: {name} is malformed" for name in wrong]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_text, value))


def _key_faults(leaves: list[list[Any]], tied: dict[str, str]) -> list[str]:
    keys = [row[0] for row in leaves]
    known = set(keys)
    faults = []
    if len(known) < len(keys):
        seen: set[str] = set()
        faults = [f"{legible(key)}: named twice" for key in keys if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
    ends = [key for pair in tied.items() for key in pair]
    return faults + [f"{legible(key)}: tied, but no leaf" for key in dict.fromkeys(ends) if key not in known]


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_row(row: Any) -> bool:
    if not isinstance(row, list) or len(row) not in (3, 4) or not isinstance(row[0], str):
        return False
    shape, dtype, kind = row[1], row[2], row[3] if len(row) == 4 else "parameter"
    shaped = shape is None or (isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape))
    return shaped and (dtype is None or isinstance(dtype, str)) and kind in KINDS


def _read_row(key: str, shape: list[int] | None, dtype: str | None, kind: str = "parameter") -> Row:
    return key, None if shape is None else tuple(shape), dtype, kind
