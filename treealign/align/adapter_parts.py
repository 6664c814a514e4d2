"""Two libraries' words for the parts of one adapter: `lora_down` is `lora_A`, and the model adds the adapter's name.

Sources: kohya-ss/sd-scripts `networks/lora.py` (``lora_down``, ``lora_up``), diffusers
`loaders/lora_conversion_utils.py` and transformers' PEFT integration (down to A, up to B), peft `tuners/lora/layer.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from treealign.align.spelling import respelled
from treealign.tree.keytree import KeyTree

_WORDS = {"lora_down": "lora_A", "lora_up": "lora_B"}


def with_adapter_parts(tree: KeyTree, other: KeyTree) -> KeyTree:
    """A tree whose adapter's parts are called as the other side calls them; the tree itself where nothing differs."""
    if not (_has_parts(tree) and _has_parts(other)):
        return tree
    named = _names(other.keys)
    return respelled(tree, [_spelled(key, named) for key in tree.keys])


def _has_parts(tree: KeyTree) -> bool:
    return any(part in fold.template for fold in tree.folds for part in (*_WORDS, *_WORDS.values()))


def _names(keys: Iterable[str]) -> dict[str, str]:
    """Part to the name of the adapter behind it, empty for none; nothing where there are several adapters."""
    found: dict[str, set[str]] = {}
    for key in keys:
        segments = key.split(".")
        for at, segment in enumerate(segments):
            if segment in _WORDS.values():
                found.setdefault(segment, set()).add(".".join(segments[at + 1 : -1]))
    return {part: next(iter(names)) for part, names in found.items() if len(names) == 1}


def _spelled(key: str, named: dict[str, str]) -> str:
    segments = key.split(".")
    at = next((at for at, one in enumerate(segments) if _WORDS.get(one, one) in named), None)
    if at is None or len(segments) != at + 2:
        return key
    part = _WORDS.get(segments[at], segments[at])
    return ".".join([*segments[:at], part, *filter(None, [named[part]]), segments[-1]])
