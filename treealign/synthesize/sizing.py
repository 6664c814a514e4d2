"""Sizes of conversions that one `Convert` does: plain where they are equal, a table by captures where they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from treealign.mapping.operations import Operation, SizeTable
from treealign.synthesize.conversions import ConversionTemplate, replace_sizes, sizes
from treealign.synthesize.templates import column_values
from treealign.tree.segments import Captures

Sizes: TypeAlias = tuple[object, ...]
_MOST_CAPTURES = 3


@dataclass(frozen=True)
class Sized:
    """Operations whose sizes are known for every case.

    Attributes
    ----------
    operations : tuple of Operation
        Those of one case.
    rows : tuple of (tuple of str, tuple)
        What the captures hold, and the sizes that go with it: first those of the operations, then the counts.
    captures : tuple of str
        The captures that decide; empty where all sizes are equal.
    lone : tuple of str
        The captures whose counts are the last sizes.
    """

    operations: tuple[Operation, ...]
    rows: tuple[tuple[tuple[str, ...], Sizes], ...]
    captures: tuple[str, ...]
    lone: tuple[str, ...]

    def named(self, names: Mapping[str, str]) -> tuple[tuple[Operation, ...], dict[str, SizeTable]]:
        """Operations and counts with tables by the captures' final names."""
        if not self.captures:
            return self.operations, {}
        by = tuple(names[c] for c in self.captures)
        columns = list(zip(*(values for _, values in self.rows), strict=True))
        keys = [key for key, _ in self.rows]
        tables = [
            column[0] if len(set(column)) == 1 else SizeTable.by(by, dict(zip(keys, column, strict=True)))
            for column in columns
        ]
        counts = tables[len(tables) - len(self.lone) :]
        made = replace_sizes(self.operations, iter(tables))
        return made, {names[n]: c for n, c in zip(self.lone, counts, strict=True) if isinstance(c, SizeTable)}


def sized(templates: Sequence[ConversionTemplate], held: Sequence[Captures], lone: tuple[str, ...]) -> Sized | None:
    """The sizes of all cases of these templates by what is captured, or None where that does not tell them.

    `held` says for each template what its captures hold: text, or the slot of a column; `lone` names the captures that
    run over a group.
    """
    rows: list[tuple[dict[str, str], Sizes]] = []
    for t, captures in zip(templates, held, strict=True):
        for case in t.cases:
            known = {n: text for n, v in captures.items() if (text := column_values(v, case.shared)) is not None}
            rows.append((known, (*(s for o in case.operations for s in sizes(o)), *case.counts)))
    operations = templates[0].cases[0].operations
    if len({values for _, values in rows}) == 1:
        return Sized(operations, (((), rows[0][1]),), (), lone)
    common = sorted(set(rows[0][0]).intersection(*(known for known, _ in rows)))
    for count in range(1, min(len(common), _MOST_CAPTURES) + 1):
        for chosen in combinations(common, count):
            table = {tuple(known[n] for n in chosen): values for known, values in rows}
            if all(table[tuple(known[n] for n in chosen)] == values for known, values in rows):
                return Sized(operations, tuple(sorted(table.items())), chosen, lone)
    return None
