"""Norms by where they stand: of sublayers that hold one function, and of blocks with two norms or with four.

Sublayers: a member of a list that holds one function and its norm, as T5 writes its blocks.

The norm of such a member bears no name of its own, `layer.1.layer_norm`; other libraries call it after the function,
`cross_attn_norm`. It is read as if it stood inside the function that it belongs to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from treealign.align.patterns import Pattern
from treealign.align.words import Token, split_words

Path = tuple[str, ...]
_TWO = frozenset({"@post_attn", "@pre_mlp"})
_ROLES = _TWO | {"@pre_attn", "@post_mlp"}


def with_functions(patterns: Sequence[Pattern]) -> list[Path]:
    """The paths to read names from: those of the patterns, a sublayer's norm below the one function beside it.

    Linear in the number of patterns.
    """
    inside: dict[Path, set[str]] = defaultdict(set)
    for p in patterns:
        for at, segment in enumerate(p.named[:-1]):
            if _is_index(segment):
                inside[p.named[: at + 1]].add(p.named[at + 1])
    return [_below_function(p.named, inside.get(p.named[:-2], set())) for p in patterns]


def with_norms_apart(patterns: Sequence[Pattern], tokens: Sequence[tuple[Token, ...]]) -> list[tuple[Token, ...]]:
    """The tokens, those of `post_attention_layernorm` for one of its two roles where its block tells which.

    In a block of two norms the one after the attention is the one before the feed-forward part. Where
    another norm of the block says that it is before the feed-forward part, it is the attention's own.
    """
    alone: dict[Path, set[str]] = defaultdict(set)
    for p, found in zip(patterns, tokens, strict=True):
        roles = _ROLES & {t.text for t in found}
        if len(roles) == 1:
            alone[_block(p)] |= roles & _TWO
    return [
        found if not {t.text for t in found} >= _TWO else tuple(t for t in found if t.text not in alone[_block(p)])
        for p, found in zip(patterns, tokens, strict=True)
    ]


def _block(p: Pattern) -> Path:
    last = max((at for at, s in enumerate(p.segments) if _is_index(s)), default=-1)
    return p.segments[: last + 1]


def _below_function(segments: Path, beside: set[str]) -> Path:
    if len(segments) < 3 or len(beside) != 2 or segments[-2] not in beside or not _is_nameless(segments[-2]):
        return segments
    (function,) = beside - {segments[-2]} or ("",)
    if _is_index(function) or "norm" in split_words(function):
        return segments
    return (*segments[:-2], function, *segments[-2:])


def _is_nameless(segment: str) -> bool:
    """Whether it says that it is a norm, and nothing else."""
    words = split_words(segment)
    return "norm" in words and set(words) <= {"norm", "layer"}


def _is_index(segment: str) -> bool:
    return segment == "{}" or segment.isdecimal()
