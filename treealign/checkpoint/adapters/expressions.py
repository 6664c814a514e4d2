"""Regular expressions of an adapter's config, on the names of its modules: as PEFT takes them, but not for ever.

Anybody may have written the config, and a short expression can take longer than the universe on a name of forty
letters. One that may is run in a process of its own, which is ended after some seconds.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence

from treealign.errors import TreealignError

SECONDS = 3.0
_FEW = 4
_REPEATED = re.compile(r"[*+{]")
_NESTED = re.compile(r"\)\s*[*+{]")
_WORK = """
import json, re, sys
expression, names, how = json.load(sys.stdin)
match = getattr(re.compile(expression), how)
print(json.dumps([found.groupdict() if found else None for found in map(match, names)]))
"""


def matches_of(expression: str, names: Sequence[str], how: str = "fullmatch") -> list[dict[str, str | None] | None]:
    """What an expression captures by name in each of the names; None where it does not match.

    Raises
    ------
    re.error
        It is no regular expression.
    TreealignError
        It takes too long.
    """
    compiled = re.compile(expression)
    if not may_hang(expression):
        match: Callable[[str], re.Match[str] | None] = getattr(compiled, how)
        return [found.groupdict() if found else None for found in map(match, names)]
    command = [sys.executable, "-I", "-c", _WORK]
    given = json.dumps([expression, names, how])
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=SECONDS, check=True)
    except subprocess.TimeoutExpired as error:
        what = "a regular expression of the adapter's config takes for ever on the names of its own modules"
        raise TreealignError(what, facts=[expression], hint="write it without repeats of repeats") from error
    found: list[dict[str, str | None] | None] = json.loads(done.stdout)
    return found


def matching(expression: str, names: Sequence[str], how: str = "fullmatch") -> list[str]:
    """The names that an expression matches; errors as in `matches_of`."""
    return [name for name, found in zip(names, matches_of(expression, names, how), strict=True) if found is not None]


def may_hang(expression: str) -> bool:
    """Whether it repeats something that is repeated itself, or repeats very often.

    >>> may_hang(".*(q|v)_proj"), may_hang("(a+)+b")
    (False, True)
    """
    return len(_REPEATED.findall(expression)) > _FEW or _NESTED.search(expression) is not None
