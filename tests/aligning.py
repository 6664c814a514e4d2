"""Short ways to build two trees and look at what was matched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from treealign import KeyTree, suggest
from treealign.align.alignment import Alignment
from treealign.suggestion import Suggestion

Leaves = Iterable[tuple[Any, ...]]


def tree(leaves: Leaves | Mapping[str, tuple[int, ...]], ordered: bool = False, **known: Any) -> KeyTree:
    """A tree from leaves, or from keys with shapes."""
    if isinstance(leaves, Mapping):
        leaves = [(key, shape, "float32") for key, shape in leaves.items()]
    return KeyTree.from_leaves(leaves, ordered=ordered, **known)


def aligned(checkpoint: Any, model: Any, hints: Any = None, **known: Any) -> Suggestion:
    """Suggest from plain tables; the model is ordered, as models are."""
    return suggest(tree(checkpoint), tree(model, ordered=True, **known), hints=hints)


def certain_pairs(suggestion: Suggestion) -> dict[str, str]:
    """Certain one-to-one matches."""
    return {m.checkpoint[0]: m.model[0] for m in suggestion.matches if m.certain and len(m.checkpoint + m.model) == 2}


def guessed_pairs(suggestion: Suggestion) -> dict[str, str]:
    """All one-to-one matches."""
    return {m.checkpoint[0]: m.model[0] for m in suggestion.matches if len(m.checkpoint + m.model) == 2}


def certain_links(alignment: Alignment) -> dict[str, str]:
    """Certain renames of an alignment, before any mapping is made."""
    left, right = alignment.checkpoint.keys, alignment.model.keys
    links = [link for link in alignment.links if link.certain and not link.operations]
    return {left[g.left[0]]: right[g.right[0]] for link in links for g in link.expand()}


def layers(leaves: Mapping[str, tuple[int, ...]], prefix: str = "layers") -> Leaves:
    """The leaves in each of two blocks."""
    return {f"{prefix}.{n}.{key}": shape for n in range(2) for key, shape in leaves.items()}
