"""Names in notebooks: the Python of their code cells, each name with its place in the file."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Set
from dataclasses import replace

from treealign.changes.references.data_files import NotReadError
from treealign.changes.references.mentions import Mention
from treealign.changes.references.python_files import python_mentions

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_SOURCE = re.compile(r'"source"\s*:\s*(\[[^\[\]"]*(?:"(?:[^"\\]|\\.)*"[^\[\]"]*)*\]|"(?:[^"\\]|\\.)*")')
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)|[^\\]", re.DOTALL)
_MAGIC = re.compile(r"^([ \t]*)[%!?]", re.MULTILINE)  # lines that IPython reads and Python does not


def notebook_mentions(source: str, words: Set[str]) -> list[Mention]:
    """Everything in the code of a notebook that may name a part of a tree with these words for segments.

    A cell that is no Python (`%%bash`, say) is passed over.

    Raises
    ------
    NotReadError
        It is no notebook.
    """
    try:
        cells = json.loads(source).get("cells")
    except (ValueError, RecursionError, AttributeError) as error:
        raise NotReadError(f"no notebook: {error}") from None
    if not isinstance(cells, list):
        raise NotReadError("no notebook: it has no cells")
    starts = [0, *(found.end() for found in re.finditer("\n", source))]
    kinds = [cell.get("cell_type") for cell in cells if isinstance(cell, dict) and "source" in cell]
    found = list(_SOURCE.finditer(source))
    if len(found) != len(kinds):
        raise NotReadError("no notebook that is read here: some cells hold what looks like a cell")
    code = (match for match, kind in zip(found, kinds, strict=True) if kind == "code")
    return [mention for match in code for mention in _in_cell(source, match.span(1), words, starts)]


def _in_cell(source: str, span: tuple[int, int], words: Set[str], starts: list[int]) -> Iterator[Mention]:
    letters: list[str] = []
    places: list[int] = []
    for text in _TEXT.finditer(source, *span):
        for one in _ESCAPE.finditer(source, text.start() + 1, text.end() - 1):
            letters.append(json.loads(f'"{one.group()}"', strict=False) if one.group()[0] == "\\" else one.group())
            places.append(one.start())
    code = _MAGIC.sub(r"\1#", "".join(letters))
    if code.startswith("#%"):
        return
    try:
        mentions = python_mentions(code, words)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for mention in mentions:
        begin, end = mention.span
        if end <= begin or end > len(places):
            continue
        start, stop = places[begin], places[end - 1] + 1
        line = bisect_right(starts, start)
        yield replace(mention, line=line, column=start - starts[line - 1], span=(start, stop))
