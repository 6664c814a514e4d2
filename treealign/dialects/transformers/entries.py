"""Rules of transformers as data, and entries of its registry made of them: source, and what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from textwrap import wrap
from typing import Any, NamedTuple

from treealign.dialects.transformers.installed import LOADING, REGISTRY, make, registered_by_users, scope_settings
from treealign.dialects.transformers.skeleton import Part, skeleton
from treealign.formats.legible import raw_literal

_INDENT = "    "
WIDTH = 79


@dataclass(frozen=True)
class Call:
    """A class of transformers and what it is called with.

    Attributes
    ----------
    name : str
        The class: a transform, or an operation of a `WeightConverter`.
    arguments : tuple of (str, value)
        By keyword; a value is text, an int, a bool, or a tuple of texts, ints or calls.
    scope : str
        The module below which the transform works; transformers sets it for the parts of a model.
    """

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()
    scope: str = ""

    @property
    def renames(self) -> bool:
        """Whether no tensor changes."""
        return self.name != "WeightConverter"

    def scoped(self, scope: str) -> Call:
        """The same transform below a module."""
        return replace(self, scope=scope)

    def build(self) -> Any:
        """The object.

        Raises
        ------
        MappingError
            The installed release has no such class.
        """
        made = make(self.name, {key: _built(value) for key, value in self.arguments})
        for name, value in scope_settings(self.scope).items() if self.scope else ():
            setattr(made, name, value)
        return made

    def names(self) -> Iterable[str]:
        """The classes that the source needs."""
        yield self.name
        for _, value in self.arguments:
            for part in value if isinstance(value, tuple) else ():
                if isinstance(part, Call):
                    yield from part.names()

    def text(self, indent: str = "", lead: int = 0) -> str:
        """Source, on one line where that fits behind `lead` characters, else one argument a line."""
        shown = [f"{self._keyword(key)}{_text(value)}" for key, value in self.arguments]
        call = self._scoped_text(f"{self.name}({', '.join(shown)})")
        if not shown or len(indent) + lead + len(call) + 1 <= WIDTH:
            return call
        inner = indent + _INDENT
        laid = [f"{inner}{self._keyword(k)}{_laid(v, inner, len(self._keyword(k)))},\n" for k, v in self.arguments]
        return self._scoped_text(f"{self.name}(\n{''.join(laid)}{indent})")

    def _keyword(self, key: str) -> str:
        # patterns of a renaming are read by position, everything else by name
        return "" if self.name == "WeightRenaming" else f"{key}="

    def _scoped_text(self, call: str) -> str:
        return f"scoped({call}, {self.scope!r})" if self.scope else call


def _built(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_built(part) for part in value]
    return value.build() if isinstance(value, Call) else value


def _laid(value: Any, indent: str, lead: int) -> str:
    """A value behind `lead` characters, a list that does not fit there with one item a line."""
    if isinstance(value, Call):
        return value.text(indent, lead)
    flat = _text(value)
    if not isinstance(value, tuple) or len(indent) + lead + len(flat) + 1 <= WIDTH:
        return flat
    inner = indent + _INDENT
    return "[\n" + "".join(f"{inner}{_laid(part, inner, 0)},\n" for part in value) + f"{indent}]"


def _text(value: Any) -> str:
    if isinstance(value, Call):
        return value.text()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return raw_literal(value) if isinstance(value, str) and "\\" in value else _quoted(value)


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) and '"' not in value else repr(value)


def renaming(source: str, target: str) -> Call:
    """One regular expression and its replacement."""
    return Call("WeightRenaming", (("source_patterns", source), ("target_patterns", target)))


def group_renaming(sources: Sequence[str], targets: Sequence[str]) -> Call:
    """Several at once, the first one as guard."""
    return Call("GroupWeightRename", (("source_patterns", tuple(sources)), ("target_patterns", tuple(targets))))


def prefix_change(add: str | None, remove: str | None, under: str) -> Call:
    """A level that is added or removed."""
    change = ("prefix_to_add", add) if add is not None else ("prefix_to_remove", remove)
    return Call("PrefixChange", (change, *((("model_prefix", under),) if under else ())))


def converter(sources: Sequence[str], targets: Sequence[str], operations: Sequence[Call]) -> Call:
    """Keys that become others, with operations."""
    sides = (("source_patterns", _one_or_all(sources)), ("target_patterns", _one_or_all(targets)))
    return Call("WeightConverter", (*sides, ("operations", tuple(operations))))


def _one_or_all(patterns: Sequence[str]) -> Any:
    return patterns[0] if len(patterns) == 1 else tuple(patterns)


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
    lines = [
        *_docstring(heading),
        *([""] if remarks else []),
        *(line for text in remarks for line in wrap(text, WIDTH, subsequent_indent="# ")),
    ]
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
