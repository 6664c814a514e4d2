"""What the names near a leaf say of it: roles of its own and its module's name, and words that tell something."""

from __future__ import annotations

from treealign.align.words import CONTAINERS, tokens

AROUND = frozenset(f"@{role}" for role in CONTAINERS)
NEAR = 3  # levels up to the names of which it is one: `attention.output.LayerNorm`
Path = tuple[str, ...]


def near_roles(path: Path) -> frozenset[str]:
    """What a leaf stands for by its own name and its module's, but for what these hold."""
    return frozenset(t.text for t in tokens(path) if t.text[0] == "@" and t.depth <= 1) - AROUND


def near_words(path: Path) -> frozenset[str]:
    """Words near a leaf that tell anything by themselves."""
    near = (t for t in tokens(path) if t.qualified and 1 <= t.depth <= NEAR)
    return frozenset(t.text for t in near if t.text[0] not in "@=")
