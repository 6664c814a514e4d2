"""Evidence in words and numbers: what is shown to a person of the tokens that two patterns share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from treealign.align.hinted import Hint
from treealign.align.patterns import Pattern

SMALL = 0.05  # of evidence; less is not worth a line
Weighed = tuple[tuple[str, float], ...]


def total(items: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Equal texts added up."""
    found: dict[str, float] = defaultdict(float)
    for text, value in items:
        found[text] += value
    return found


def more(mine: dict[str, float], theirs: dict[str, float]) -> Weighed:
    """What one has more of than the other."""
    rest = {text: round(value - theirs.get(text, 0.0), 2) for text, value in mine.items()}
    return tuple(sorted(((t, v) for t, v in rest.items() if v > SMALL), key=lambda item: (-item[1], item[0])))


def is_shared(text: str) -> bool:
    """Whether a sentence of a link's evidence is one of those that are weighed here."""
    return text.split(" ", maxsplit=1)[0] in {"role", "rank", "name", "hint", "read", "word"} or text == "same path"


def token_text(token: str, hints: Sequence[Hint]) -> str:
    """A token in words; see `treealign.align.words` and `series` for the kinds."""
    if token[0] == "!":
        hint = hints[int(token[1:])]
        return f"hint {'.'.join(hint.source)}={'.'.join(hint.target)}"
    if token[0] == "~":
        return f"read as {token[1:]}"
    if token[0] == "%":
        rank, _, members = token[1:].partition("/")
        return f"number {int(rank) + 1} in a series of {members}"
    kinds = {"@": "role", "=": "name"}
    if token[0] in kinds:
        return f"{kinds[token[0]]} {token[1:]}"
    return f"words {token}" if " " in token else f"word {token}"


def sizes_text(p: Pattern) -> str:
    """The shapes of a pattern, the first few."""
    sizes = sorted({"unknown" if shape is None else str(list(shape)) for shape in p.shapes.values()})
    return ", ".join(sizes[:3])
