"""Names in TOML: texts and keys, each with the setting that it belongs to."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator

from treealign.changes.references.data_files import NotReadError, settings_mentions
from treealign.changes.references.mentions import Mention

# texts of several lines, comments, texts, marks, and all else that has no blank in it
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|'
    r"'''.*?'''|#[^\n]*|"
    r'"(?:[^"\\\n]|\\.)*"|'
    r"'[^'\n]*'|[\[\]{}=,\n]|[^\s\[\]{}=,#\"']+",
    re.DOTALL,
)


def toml_mentions(source: str) -> list[Mention]:
    """Everything in a TOML file that may name a part of a tree.

    Raises
    ------
    NotReadError
        It is no TOML.
    """
    try:
        tomllib.loads(source.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise NotReadError(f"no TOML: {error}") from None
    return list(_Reader(source).mentions())


class _Reader:
    """Goes through the tokens of a file that is known to be right."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._starts = [0, *(found.end() for found in re.finditer("\n", source))]
        self._open: list[tuple[str, str]] = []  # brackets, each with the key that it stands under
        self._key, self._table = "", ""

    def mentions(self) -> Iterator[Mention]:
        tokens = [found for found in _TOKEN.finditer(self._source) if not found.group().startswith("#")]
        in_value = header = False
        for at, token in enumerate(tokens):
            text = token.group()
            if text == "\n":
                in_value, header = in_value and bool(self._open), False
            elif text in "[{" and in_value:
                self._open.append((text, self._key if text == "[" or not self._open else self._open[-1][1]))
                in_value = text == "["
            elif text == "[":
                header = True
            elif text in "]}" and self._open and not header:
                _, self._key = self._open.pop()
                in_value = True
            elif text == "=":
                in_value = True
            elif text == "," and self._open and self._open[-1][0] == "{":
                in_value = False
            elif text not in "],":
                follows = tokens[at + 1].group() if at + 1 < len(tokens) else ""
                yield from self._text(token, in_value, header, follows)

    def _text(self, token: re.Match[str], in_value: bool, header: bool, follows: str) -> Iterator[Mention]:
        text = token.group()
        quoted = text[0] in "\"'"
        value, span = (text[1:-1], (token.start() + 1, token.end() - 1)) if quoted else (text, token.span())
        if header:
            self._table = value.rpartition(".")[2]
        elif in_value and quoted:
            inside = bool(self._open) and self._open[-1][0] == "["
            yield from self._mention(value, self._key, "items" if inside else "text", span)
        elif not in_value and follows == "=":
            owner = self._open[-1][1] if self._open else self._table
            yield from self._mention(value, owner, "keys", span)
            self._key = value if quoted else value.rpartition(".")[2]

    def _mention(self, value: str, owner: str, role: str, span: tuple[int, int]) -> Iterator[Mention]:
        line = bisect_right(self._starts, span[0])
        if "\\" in value and self._source[span[0] - 1] == '"':
            value = str(tomllib.loads(f'value = "{value}"')["value"])
        yield from settings_mentions(value, owner, role, line, span[0] - self._starts[line - 1], span)
