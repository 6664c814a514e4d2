"""How those who use a name resolve it: each reader as the regular expression that it amounts to.

The sources: PEFT's `check_target_module_exists`, `get_pattern_key` and `_set_trainable`; transformers'
`should_convert_module` (of releases from 5.0 on, and the one that looked inside names before) and its tensor-parallel
plans; compressed-tensors' `match_name` and `match_class`, which llm-compressor and vLLM follow; ModelOpt's and Python's
`fnmatch`; accelerate's device maps; and Python's own string methods.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from treealign.changes.references.mentions import HOLE

_SOMETHING = r"[^.\n]+"
_MOST_REPEATS = 5  # of unbounded repeats in a foreign pattern: more could take for ever to fail


class Reader(NamedTuple):
    """`pattern` turns the text into a regular expression for `search`; `names` says what it is searched in."""

    pattern: Callable[[str], str]
    # "modules", or "layers", which are those that hold weights themselves; "keys"; "names", which is both; "classes"
    names: str
    is_regex: bool = False


def _literal(text: str) -> str:
    return _SOMETHING.join(map(re.escape, text.split(HOLE)))


def _skip(text: str) -> str:
    """Of skip lists: the start up to a module's end, as text or as a pattern; or the end of the text."""
    literal = _literal(text)
    own = text if _compiles(text) and HOLE not in text else literal
    return rf"(?:^(?:{own})(?:(?<=\.)|(?=\.|$)))|(?:{literal})$"


def _glob(text: str) -> str:
    """As `fnmatch` does: `*` is any run of characters, dots included."""
    parts = [fnmatch.translate(part)[: -len(r"\Z")] for part in text.split(HOLE)]
    return f"^{_SOMETHING.join(part.removeprefix('(?s:').removesuffix(')') for part in parts)}$"


def _plan(text: str) -> str:
    """Of plans: `*` stands for one segment; the plan of a base model is read below the name of that one, too."""
    return rf"(?:^|\.){r'[^.]+'.join(map(_literal, text.split('*')))}$"


def _rank(text: str) -> str:
    return rf"^(?:.*\.)?(?:{text})$"


READERS: dict[str, Reader] = {
    "exact": Reader(lambda t: f"^{_literal(t)}$", "names"),
    "path": Reader(lambda t: rf"^{_literal(t)}(?:\.|$)", "names"),
    "run": Reader(lambda t: rf"(?:^|\.){_literal(t)}(?:\.|$)", "names"),
    "chain": Reader(lambda t: rf"(?:^|\.){_literal(t)}(?:\.|$)", "names"),
    "level": Reader(lambda t: rf"(?:^|\.){_literal(t)}\.[0-9]+\.", "modules"),
    "suffix": Reader(lambda t: rf"(?:^|\.){_literal(t)}$", "modules"),
    "key search": Reader(lambda t: t, "keys", is_regex=True),
    "key suffix": Reader(lambda t: rf"(?:^|\.){_literal(t)}$", "keys"),
    "startswith": Reader(lambda t: f"^{_literal(t)}", "names"),
    "endswith": Reader(lambda t: f"{_literal(t)}$", "names"),
    "module end": Reader(lambda t: f"{_literal(t)}$", "modules"),
    "contains": Reader(_literal, "names"),
    "skip": Reader(_skip, "layers"),
    "skip inside": Reader(lambda t: rf"(?:^|\.){_literal(t.strip('.'))}(?:\.|$)", "modules"),
    "layer": Reader(lambda t: f"^{_literal(t)}$", "layers"),
    "layer match": Reader(lambda t: f"^(?:{t})", "layers", is_regex=True),
    "layer glob": Reader(_glob, "layers"),
    "glob": Reader(_glob, "names"),
    "plan": Reader(_plan, "names"),
    "class": Reader(lambda t: f"^{_literal(t)}$", "classes"),
    "rank": Reader(_rank, "modules", is_regex=True),
    "module fullmatch": Reader(lambda t: f"^(?:{t})$", "modules", is_regex=True),
    "fullmatch": Reader(lambda t: f"^(?:{t})$", "names", is_regex=True),
    "match": Reader(lambda t: f"^(?:{t})", "names", is_regex=True),
    "search": Reader(lambda t: t, "names", is_regex=True),
}


@lru_cache(maxsize=4096)
def compiled(text: str, reader: str) -> re.Pattern[str] | None:
    """The regular expression of a text, or None where it is none, or one that may never end."""
    rule = READERS[reader]
    if rule.is_regex:
        text = text.replace(HOLE, _SOMETHING)
        if not _compiles(text):
            return None
    try:
        return re.compile(rule.pattern(text))
    except (re.error, RecursionError, OverflowError):
        return None


@lru_cache(maxsize=4096)
def _compiles(text: str) -> bool:
    """Whether a text is a regular expression that surely ends soon."""
    try:
        repeats, nested = _repeats(re._parser.parse(text))  # type: ignore[attr-defined]
    except (re.error, RecursionError, OverflowError):
        return False
    return repeats <= _MOST_REPEATS and not nested


def _repeats(parsed: Any) -> tuple[int, bool]:
    """How many unbounded repeats a parsed pattern holds, and whether one stands inside another."""
    count, nested = 0, False
    for operator, argument in parsed:
        unbounded = str(operator) in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] > 100
        below = [_repeats(part) for part in _parts(argument)]
        inner = sum(number for number, _ in below)
        nested = nested or any(deep for _, deep in below) or (unbounded and inner > 0)
        count += inner + unbounded
    return count, nested


def _parts(argument: Any) -> list[Any]:
    """The patterns inside the argument of an operator."""
    if type(argument).__name__ == "SubPattern":
        return [argument]
    if isinstance(argument, tuple | list):
        return [part for item in argument for part in _parts(item)]
    return []
