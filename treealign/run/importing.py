"""What a text names in the user's code: ``package.module:factory``."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from treealign.errors import TreealignError, look_alikes

_NAMED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_named(text: str) -> bool:
    """Whether a text has the form of ``package.module:name``.

    >>> is_named("package.module:factory"), is_named("reference.safetensors")
    (True, False)
    """
    return _NAMED.fullmatch(text) is not None


def named_object(text: str) -> Any:
    """The object that ``package.module:name`` names; modules of the working directory are found too.

    Raises
    ------
    TreealignError
        The text has another form, the module does not import, or has no such name.
    """
    if not is_named(text):
        raise TreealignError("no object of a module", where=text, hint="write package.module:name")
    module, _, path = text.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        made: Any = import_module(module)
    except ImportError as error:
        facts = [f"{type(error).__name__}: {error}"]
        hint = "modules are looked for in this folder, and among what is installed"
        raise TreealignError("the module does not import", where=text, facts=facts, hint=hint) from error
    for name in path.split("."):
        if not hasattr(made, name):
            raise TreealignError(f"the module has no {path}", where=text, facts=look_alikes(name, dir(made)))
        made = getattr(made, name)
    return made


def module_of(given: Any) -> Any:
    """A module from one, from a factory, or from the text that names either.

    Raises
    ------
    TreealignError
        It does not build.
    """
    named = named_object(given) if isinstance(given, str) else given
    if hasattr(named, "named_parameters") and not isinstance(named, type):
        return named
    if not callable(named):
        return named
    try:
        return named()
    except Exception as error:
        facts = [f"{type(error).__name__}: {error}"]
        raise TreealignError("the module does not build", where=str(given), facts=facts) from error
