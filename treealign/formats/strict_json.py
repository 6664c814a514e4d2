"""JSON without leniency: names occur once, numbers are JSON numbers, text is UTF-8."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_MINUS_ZERO = re.compile(r"-0(?![0-9.eE])")


class Repeated(dict[str, Any]):
    """An object in which a name occurs more than once; the last value wins, as in `json`."""

    names: tuple[str, ...]


def parse_json(raw: bytes, keep_repeats: bool = True) -> Any:
    """The value of a JSON text.

    With `keep_repeats`, an object with a repeated name comes back as `Repeated`, for the caller to refuse; without,
    the last value wins in silence, which is faster and for callers who tell repeats in another way.

    Raises
    ------
    ValueError
        Saying what is wrong: no UTF-8, a byte order mark, invalid JSON, nesting too deep, an integer too long to
        read, NaN or infinity, half a surrogate pair.

    Notes
    -----
    Linear in the length.
    """
    text = _decode(raw)
    # an integer in JSON has no sign when it is zero; Python alone would take -0 for 0
    integer = _integer if _MINUS_ZERO.search(text) else None
    pairs = _object if keep_repeats else None
    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=_refuse_constant, parse_int=integer)
    except json.JSONDecodeError as error:
        raise ValueError(f"invalid JSON: {error}") from None
    except RecursionError:
        raise ValueError("invalid JSON: nested too deeply") from None
    if _SURROGATE.search(text):
        _refuse_lone_surrogates(value)
    return value


def repeated_names(value: Any) -> list[str]:
    """Where names are repeated in a parsed value, as dotted paths of the objects and the names.

    >>> repeated_names(parse_json(b'{"a": {"b": 1, "b": 2}}'))
    ['a: b']
    """
    found: list[str] = []
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, Repeated):
            found += [f"{path}: {name}" if path else name for name in node.names]
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        stack += [(f"{path}.{name}" if path else str(name), child) for name, child in children]
    return found


def _decode(raw: bytes) -> str:
    if raw.startswith(_BOM):
        raise ValueError("it begins with a byte order mark")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    again = Repeated(made)
    seen: set[str] = set()
    names = [name for name, _ in pairs if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    again.names = tuple(dict.fromkeys(names))
    return again


def _integer(digits: str) -> int | float:
    return -0.0 if digits == "-0" else int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"invalid JSON: {name} is no JSON number")


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        raise ValueError("invalid JSON: half a surrogate pair") from None
