"""Sizes that operations carry: a plain int, or a table of ints where repeats differ in size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from treealign.errors import MappingError, PatternError
from treealign.tree.keys import natural_key

Captures: TypeAlias = Mapping[str, int | str]


@dataclass(frozen=True, repr=False)
class SizeTable:
    """A size that depends on captures: the width of each stage of a Swin, 4 to 64 experts by layer.

    Attributes
    ----------
    captures : tuple of str
        The captures that decide: ``("i",)``.
    entries : tuple of (tuple of str, int)
        What those captures hold, as text, and the size; in natural order. `SizeTable.by` builds it.

    Examples
    --------
    >>> table = SizeTable.by("i", {1: 192, 0: 96})
    >>> table
    SizeTable.by('i', {0: 96, 1: 192})
    >>> table.resolve({"i": "1", "j": "7"})
    192
    """

    captures: tuple[str, ...]
    entries: tuple[tuple[tuple[str, ...], int], ...]

    @classmethod
    def by(cls, captures: str | tuple[str, ...], sizes: Mapping[Any, int]) -> SizeTable:
        """Table from a mapping: what the capture holds (a tuple where there are several captures) to the size.

        Raises
        ------
        PatternError
            The table is empty, an entry holds too few or too many captures, or a size is not an int of 0 or more.
        """
        names = (captures,) if isinstance(captures, str) else tuple(captures)
        rows = {_as_text(key): size for key, size in sizes.items()}
        reasons = [f"{_shown(key)}: {size!r}" for key, size in rows.items() if not _good(key, size, len(names))]
        if reasons or not rows or not names:
            raise PatternError(
                f"a size table by {', '.join(names) or 'no capture'} cannot be read",
                facts=reasons or ["the table is empty"],
                hint="each entry is what the captures hold, in the order of their names, and a size of 0 or more",
            )
        return cls(names, tuple(sorted(rows.items(), key=lambda row: [natural_key(part) for part in row[0]])))

    def resolve(self, captures: Captures) -> int:
        """The size for these captures; further captures do not matter.

        Raises
        ------
        MappingError
            A capture is absent, or the table has no entry for what it holds.
        """
        absent = [name for name in self.captures if name not in captures]
        if absent:
            raise MappingError(
                f"a size depends on {{{absent[0]}}}, which is not captured",
                facts=[f"captured: {', '.join(captures) or 'nothing'}"],
            )
        key = tuple(str(captures[name]) for name in self.captures)
        for known, size in self.entries:
            if known == key:
                return size
        raise MappingError(
            f"no size for {', '.join(f'{n}={v}' for n, v in zip(self.captures, key, strict=True))}",
            facts=[f"the table knows {', '.join(_shown(known) for known, _ in self.entries)}"],
        )

    def __repr__(self) -> str:
        names = repr(self.captures[0] if len(self.captures) == 1 else self.captures)
        return f"SizeTable.by({names}, {{{', '.join(f'{_shown(key)}: {size}' for key, size in self.entries)}}})"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: the captures, and rows of what they hold followed by the size."""
        return {"by": list(self.captures), "sizes": [[*key, size] for key, size in self.entries]}

    @classmethod
    def from_json(cls, data: Any) -> SizeTable:
        """Table from `to_json`.

        Raises
        ------
        PatternError
            The data is not what `to_json` writes.
        """
        if not (isinstance(data, dict) and set(data) == {"by", "sizes"} and _strings(data["by"])):
            raise PatternError("a size table cannot be read", facts=[repr(data)], hint="it holds `by` and `sizes`")
        rows = data["sizes"]
        if not (isinstance(rows, list) and all(isinstance(row, list) and _strings(row[:-1]) for row in rows)):
            raise PatternError("a size table cannot be read", facts=[repr(rows)], hint="`sizes` holds rows")
        table = cls.by(tuple(data["by"]), {tuple(row[:-1]): row[-1] for row in rows})
        if len(table.entries) != len(rows):
            raise PatternError("a size table has two rows for the same captures", facts=[repr(rows)])
        return table


Size: TypeAlias = int | SizeTable


def _strings(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)


def _as_text(key: Any) -> tuple[str, ...]:
    return tuple(str(part) for part in (key if isinstance(key, tuple) else (key,)))


def _good(key: tuple[str, ...], size: Any, names: int) -> bool:
    return len(key) == names and type(size) is int and size >= 0


def _shown(key: tuple[str, ...]) -> str:
    parts = [part if part.isdigit() else repr(part) for part in key]
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
