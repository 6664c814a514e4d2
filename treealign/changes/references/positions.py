"""Where a node of a syntax tree stands, in characters: the tree counts in bytes of UTF-8."""

from __future__ import annotations

import ast
import re
from itertools import accumulate

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")


class Positions:
    """Positions in one source."""

    def __init__(self, source: str) -> None:
        self._ascii = source.isascii()
        # as the tokenizer counts lines: a form feed is none
        self._lines = _LINE.findall(source)
        self._starts = [0, *accumulate(map(len, self._lines))]

    def of(self, node: ast.expr) -> tuple[int, int, tuple[int, int]]:
        """Line from 1, column from 0, and the span in the source."""
        column = self._column(node.lineno, node.col_offset)
        start = self._starts[node.lineno - 1] + column
        end_line = node.end_lineno or node.lineno
        end = self._starts[end_line - 1] + self._column(end_line, node.end_col_offset or 0)
        return node.lineno, column, (start, end)

    def _column(self, line: int, offset: int) -> int:
        if self._ascii:
            return offset
        return len(self._lines[line - 1].encode("utf-8")[:offset].decode("utf-8", "ignore"))
