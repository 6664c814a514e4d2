"""Names in JSON and YAML: texts and keys, each with the setting that it belongs to."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

from treealign.changes.references.items import reader_of
from treealign.changes.references.mentions import Mention, Strength, with_holes
from treealign.changes.references.readers import READERS
from treealign.changes.references.settings import JSON_TEXT, Setting, setting_of

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_PLAIN = Setting("run", "run", "run", strength="text")
_MOST = 200_000  # of tokens: vocabularies and indexes of shards hold no settings
_DEEPEST = 200


class NotReadError(ValueError):
    """Why a file was not read."""


def json_mentions(source: str) -> list[Mention]:
    """Everything in a JSON file that may name a part of a tree.

    Raises
    ------
    NotReadError
        It is no JSON, or too large for a file of settings.
    """
    try:
        value = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise NotReadError(f"no JSON: {error}") from None
    if isinstance(value, dict) and _is_no_setting(value):
        return []
    return list(_json_mentions(source))


def _is_no_setting(value: dict[str, Any]) -> bool:
    """Trees and mappings of ours, indexes of shards, vocabularies: names there are contents, not settings."""
    return str(value.get("format", "")).startswith("treealign.") or "weight_map" in value or "added_tokens" in value


def _json_mentions(source: str) -> Iterator[Mention]:
    starts = [0, *(m.end() for m in re.finditer("\n", source))]
    path: list[tuple[str, str]] = []  # of each open bracket: which one, and the key that it stands under
    key, is_key = "", False
    for count, token in enumerate(_TOKEN.finditer(source)):
        text = token.group()
        if count > _MOST:
            raise NotReadError("too long for a file of settings")
        if text in "{[":
            # a list in a list stands under the key of that one
            path.append((text, path[-1][1] if path and path[-1][0] == "[" else key))
            key, is_key = "", text == "{"
        elif text in "}]":
            path.pop()
            is_key = False
        elif text in ",:":
            is_key = text == "," and bool(path) and path[-1][0] == "{"
        elif text[0] == '"':
            value = json.loads(text, strict=False)
            at = (token.start() + 1, token.end() - 1)
            yield from _mentions(value, is_key, key, path, at, starts)
            key = value if is_key else key


def _mentions(
    value: str, is_key: bool, key: str, path: list[tuple[str, str]], at: tuple[int, int], starts: list[int]
) -> Iterator[Mention]:
    inside_list = bool(path) and path[-1][0] == "["
    owner = path[-1][1] if path and (is_key or inside_list) else key
    line = bisect_right(starts, at[0])
    yield from settings_mentions(value, owner, _role(is_key, inside_list), line, at[0] - starts[line - 1], at)


def _role(is_key: bool, inside_list: bool) -> str:
    return "keys" if is_key else "items" if inside_list else "text"


def settings_mentions(
    value: str, owner: str, role: str, line: int, column: int, span: tuple[int, int]
) -> Iterator[Mention]:
    """What a text is read as that stands under the key `owner`: as a key itself, an item of a list, or the value."""
    setting = setting_of(owner) or _PLAIN
    if setting is JSON_TEXT and value.lstrip().startswith("{"):
        yield from _inside(value, line, column, span)
        return
    reader: str = getattr(setting, role)
    if not reader or not value or len(value) > 2000 or "\n" in value:
        return
    strength: Strength = setting.strength
    for part in value.split(",") if setting.split and "," in value else [value]:
        bare = part.strip()
        how, bare = reader_of(bare, reader)
        if bare:
            text = bare if READERS[how].is_regex else with_holes(bare)
            yield Mention(text, how, strength, line, column, span, group=owner if strength == "consumer" else "")


def _inside(value: str, line: int, column: int, span: tuple[int, int]) -> Iterator[Mention]:
    """What stands in JSON that is written as one text; its places are known where the text is written as it is read."""
    try:
        found = json_mentions(value)
    except NotReadError:
        return
    as_read = span[1] - span[0] == len(value) and "\n" not in value
    for mention in found:
        place = (span[0] + mention.span[0], span[0] + mention.span[1]) if as_read else (0, 0)
        yield replace(mention, line=line, column=column + (mention.column if as_read else 0), span=place)


def yaml_mentions(source: str) -> list[Mention]:
    """Everything in a YAML file that may name a part of a tree; composed, nothing is constructed.

    Raises
    ------
    NotReadError
        It is no YAML, or PyYAML is not installed.
    """
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise NotReadError("PyYAML is not installed") from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        documents = list(yaml.compose_all(source, Loader=loader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise NotReadError(f"no YAML: {' '.join(str(error).split())[:100]}") from None
    return [mention for document in documents for mention in _yaml_mentions(document, "", "text", set(), 0)]


def _yaml_mentions(node: Any, owner: str, role: str, seen: set[int], depth: int) -> Iterator[Mention]:
    if node is None or id(node) in seen or depth > _DEEPEST:
        return
    seen.add(id(node))  # an alias is the node that it names: read it once
    if node.id == "scalar":
        mark, end = node.start_mark, node.end_mark
        quoted = node.style in ("'", '"')
        span = (mark.index + quoted, end.index - quoted)
        yield from settings_mentions(node.value, owner, role, mark.line + 1, mark.column + quoted, span)
    elif node.id == "sequence":
        for item in node.value:
            yield from _yaml_mentions(item, owner, "items", seen, depth + 1)
    elif node.id == "mapping":
        for key, value in node.value:
            name = key.value if key.id == "scalar" else ""
            yield from _yaml_mentions(key, owner, "keys", seen, depth + 1)
            yield from _yaml_mentions(value, name, "text", seen, depth + 1)
