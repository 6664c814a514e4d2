"""Registry entries: what is registered under which name, as source, and what transformers then makes of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from textwrap import wrap
from typing import Any, NamedTuple

from treealign.dialects.transformers.calls import WIDTH, Call
from treealign.dialects.transformers.installed import LOADING, REGISTRY, registered_by_users, scope_settings
from treealign.dialects.transformers.skeleton import Part, skeleton

PLACEHOLDER = "your_model_type"


class Entry(NamedTuple):
    """What is registered under a class name or model type."""

    name: str
    calls: tuple[Call, ...]
    overwrite: bool = False


def source_text(entries: Sequence[Entry], heading: str, remarks: Sequence[str] = ()) -> str:
    """Python source that registers the entries, ready to run."""
    calls = [call for entry in entries for call in entry.calls]
    needed = sorted({name for call in calls for name in call.names()})
    lines = [*_docstring(heading), *([""] if remarks else []), *(line for text in remarks for line in _comment(text))]
    if entries:
        lines += ["", *import_lines(REGISTRY, ["register_checkpoint_conversion_mapping"])]
    if needed:
        lines += import_lines(LOADING, needed)
    if any(call.scope for call in calls):
        lines += ["", "", *_scoped_text()]
    for entry in entries:
        lines += ["", *_registration(entry)]
    return "\n".join(lines) + "\n"


def _docstring(text: str) -> list[str]:
    first, *rest = wrap(f'"""{text}', WIDTH - 3)
    return [first, *rest, '"""'] if rest else [f'{first}"""']


def _comment(text: str) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent="# ")


def import_lines(module: str, names: Sequence[str]) -> list[str]:
    """One import, on several lines if it is long."""
    line = f"from {module} import {', '.join(names)}"
    return [line] if len(line) <= WIDTH else [f"from {module} import (", *(f"    {name}," for name in names), ")"]


def _scoped_text() -> tuple[str, ...]:
    """A function of the source that limits a rule to a module."""
    settings = scope_settings("prefix")
    names = ", ".join(f"transform.{name}" for name in settings)
    values = ", ".join(value or '""' for value in settings.values())
    return "def scoped(transform, prefix):", f"    {names} = {values}", "    return transform", ""


def _registration(entry: Entry) -> list[str]:
    again = ["    overwrite=True,"] if entry.overwrite else []
    body = [f"        {call.text(' ' * 8)}," for call in entry.calls]
    return [
        "register_checkpoint_conversion_mapping(",
        f'    "{entry.name}",',
        *(["    [", *body, "    ],"] if body else ["    [],"]),
        *again,
        ")",
    ]


def existing(name: str | None) -> list[Any] | None:
    """The entry that transformers has under a name."""
    found: list[Any] | None = import_module(REGISTRY).get_checkpoint_conversion_mapping(name) if name else None
    return found


@contextmanager
def registry_restored() -> Iterator[dict[str, Any]]:
    """Whatever is registered inside is forgotten afterwards; gives the registry itself."""
    home = import_module(REGISTRY)
    home.get_checkpoint_conversion_mapping("")  # builds it
    before, users = dict(home._checkpoint_conversion_mapping_cache), set(registered_by_users())
    try:
        yield home._checkpoint_conversion_mapping_cache
    finally:
        home._checkpoint_conversion_mapping_cache.clear()
        home._checkpoint_conversion_mapping_cache.update(before)
        registered_by_users().clear()
        registered_by_users().update(users)


def rules_of(parts: Mapping[str, Part], legacy: bool = True) -> list[Any]:
    """The rules that transformers would use for a model with these parts, those for names of any model included."""
    rules: list[Any] = import_module(REGISTRY).get_model_conversion_mapping(skeleton({}, parts), add_legacy=legacy)
    return rules


def run_source(text: str) -> None:
    """Run emitted source, as the person who pastes it would."""
    exec(compile(text, "<emitted>", "exec"), {"__name__": "emitted"})
