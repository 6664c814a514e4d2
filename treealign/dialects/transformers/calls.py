"""A transform of transformers as data: it can be printed as source and built as an object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from treealign.dialects.transformers.installed import make, scope_settings
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
