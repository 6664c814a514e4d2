"""What two patterns have in common, in words for a person to read."""

from __future__ import annotations

from collections.abc import Sequence

from treealign.align.matching.scoring import Side
from treealign.align.patterns import Pattern
from treealign.align.words import Token


def describe_evidence(sides: tuple[Side, Side], i: int, j: int) -> tuple[str, ...]:
    """What the two share, in words."""
    a, b = sides[0].patterns[i], sides[1].patterns[j]
    if a.template == b.template:
        return ("same path", _shape_text(a))
    mine, theirs = (_telling(side.tokens[n]) for side, n in zip(sides, (i, j), strict=True))
    common = sorted(mine & theirs, key=lambda t: (t[0] not in "@!~", t))
    return (*map(_token_text, common), _shape_text(a))


def _telling(tokens: Sequence[Token]) -> set[str]:
    """Tokens worth naming: what can settle, and the order of definition, which ranks."""
    return {t.text for t in tokens if t.qualified or t.text[0] == "$"}


def _token_text(text: str) -> str:
    kinds = {"@": "role ", "%": "rank ", "$": "order among siblings ", "=": "name ", "!": "hint ", "~": "read as "}
    return kinds[text[0]] + text[1:] if text[0] in kinds else f"word {text}"


def _shape_text(p: Pattern) -> str:
    sizes = set(p.shapes.values())
    shape = next(iter(sizes))
    if shape is None:
        return "shape unknown"
    return f"shape {list(shape)}" if len(sizes) == 1 else f"{len(sizes)} shapes by index"
