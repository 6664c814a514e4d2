"""What a test is about and an older release of transformers lacks: looked up in the installed one, never assumed.

The suite is written for one release, which lacks nothing: there a test that would be left out fails. Of the older ones,
`scripts/releases` says how many tests were left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature

import pytest
from tiny_models import homes

from treealign.dialects.transformers.installed import LOADING, version
from treealign.errors import MappingError

WRITTEN_FOR = (5, 24)


def leave_out(lacking: str) -> None:
    """Skip a test for what the installed release lacks, if it is older than the one that the suite is written for."""
    release = tuple(map(int, re.findall(r"\d+", version())[:2]))
    (pytest.skip if release < WRITTEN_FOR else pytest.fail)(f"transformers {version()} has no {lacking}")


@contextmanager
def refusal_left_out() -> Iterator[None]:
    """What an older release cannot do or undo has to be refused: nothing else may go wrong."""
    try:
        yield
    except MappingError as error:
        leave_out(f"way to do this: {' '.join((error.what, *error.facts[-1:]))}")


def need_class(*names: str) -> None:
    """Model classes, exported or not."""
    for name in names:
        if name not in homes():
            leave_out(f"class {name}")


def need_entry(name: str) -> None:
    """An entry of the registry."""
    from treealign.dialects.transformers.entries import existing

    if existing(name) is None:
        leave_out(f"entry {name}")


def need_setting(name: str) -> None:
    """An attribute of all rules."""
    if not hasattr(import_module(LOADING).WeightTransform, name):
        leave_out(f"{name} of rules")


def need_rule(*names: str, argument: str = "") -> None:
    """Classes of rules or of operations, with an argument."""
    for name in names:
        kind = getattr(import_module(LOADING), name, None)
        if kind is None or (argument and argument not in signature(kind).parameters):
            leave_out(f"{name}({argument})" if argument else name)
