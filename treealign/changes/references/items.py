"""Items of settings: what their own text says of how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from treealign.changes.references.mentions import Mention


def reader_of(text: str, reader: str) -> tuple[str, str]:
    """How an item is read, and the text of it that counts: `re:` and `*` say it where readers go by them."""
    if reader == "key search":  # llama.cpp's --override-tensor: a pattern, and the buffer or type for what it finds
        return reader, text.partition("=")[0]
    if reader == "layer match":
        return reader, text.removeprefix("-:").removeprefix("+:")
    if text.startswith("re:") and reader in ("skip", "layer"):
        return "layer match", text.removeprefix("re:")
    return ("layer glob" if "*" in text and reader in ("layer", "suffix") else reader), text


def in_setting(mentions: Sequence[Mention], group: str) -> list[Mention]:
    """Mentions as items of a setting; as they are where there is none."""
    return [_item(mention, group) if group and mention.strength == "consumer" else mention for mention in mentions]


def _item(mention: Mention, group: str) -> Mention:
    reader, text = reader_of(mention.text, mention.reader)
    return replace(mention, reader=reader, text=text, group=mention.group or group)
