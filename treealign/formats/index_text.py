"""The text of an index of shards: how one was written, so that it is written so again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

_INDENT = re.compile(rb"[{]\r?\n([ \t]*)")


@dataclass(frozen=True)
class IndexText:
    """How an index is written; by default as transformers writes it.

    Attributes
    ----------
    indent : str or None
        What lines are indented by; None for a single line.
    compact : bool
        Whether no spaces follow commas and colons.
    escaped : bool
        Whether what is not ASCII is escaped.
    end : str
        What follows the last brace.
    ordered : bool
        Whether all names are sorted.
    first : str
        The entry that comes first.
    keys : tuple of str
        The order of the keys, where they are not sorted.
    """

    indent: str | None = "  "
    compact: bool = False
    escaped: bool = True
    end: str = "\n"
    ordered: bool = True
    first: str = "metadata"
    keys: tuple[str, ...] = ()

    def write(self, weight_map: Mapping[str, str], metadata: Mapping[str, Any]) -> bytes:
        """The index; keys that the order does not know come last."""
        rank = {key: at for at, key in enumerate(self.keys)}
        shards = {key: weight_map[key] for key in sorted(weight_map, key=lambda key: rank.get(key, len(rank)))}
        content: dict[str, Any] = {"metadata": dict(metadata), "weight_map": shards}
        if self.first != "metadata":
            content = dict(reversed(content.items()))
        text = json.dumps(
            content,
            indent=self.indent,
            sort_keys=self.ordered,
            ensure_ascii=self.escaped,
            separators=(",", ":") if self.compact else None,
        )
        return (text + self.end).encode("utf-8")

    def to_json(self) -> dict[str, Any]:
        """What is not the default, but for `keys`."""
        return {name: held for name, held in asdict(self).items() if name != "keys" and held != getattr(USUAL, name)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], keys: tuple[str, ...] = ()) -> IndexText:
        """From what `to_json` gives; raises what malformed data makes Python raise."""
        names = {field.name for field in fields(cls)} - {"keys"}
        return cls(**{name: data[name] for name in names & data.keys()}, keys=keys)


USUAL = IndexText()


def text_of(raw: bytes, weight_map: Mapping[str, str], metadata: Mapping[str, Any]) -> IndexText:
    """How an index was written; the usual way for one that nothing here would write so."""
    found = _INDENT.match(raw)
    text = IndexText(
        indent=found[1].decode() if found else None,
        compact=not found and b'": ' not in raw,
        escaped=raw.isascii(),
        end=raw[len(raw.rstrip()) :].decode(),
        ordered=False,
        first="metadata" if raw.find(b'"metadata"') <= raw.find(b'"weight_map"') else "weight_map",
        keys=() if list(weight_map) == sorted(weight_map) else tuple(weight_map),
    )
    ways = (replace(text, ordered=True, first="metadata", keys=()), text)
    return next((way for way in ways if way.write(weight_map, metadata) == raw), USUAL)
