"""Hints as evidence: runs of names that a user says belong together, and what patterns they stand in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from treealign.align.hints import Naming, Statement
from treealign.align.paths import is_limited, leaves_of
from treealign.align.patterns import Pattern

Run = tuple[str, ...]
_CAPTURE = re.compile(r"\{[^{}]*\}")


class Hint(NamedTuple):
    """A run of segments of the checkpoint, and the run of the model that it corresponds to."""

    source: Run
    target: Run
    parts: tuple[Run, ...] = ()  # all parts of a whole in their order, where the hint names them: `qkv=q,k,v`


def evidence_of(hints: Sequence[Statement | Naming], patterns: Sequence[Pattern]) -> list[Hint]:
    """The hints that count as evidence while names are matched: those whose paths float.

    A path from the root names one place, and is settled there when all else is matched; so is what is kept to a scope,
    or to some repeats of what is matched as a whole.
    """
    found = []
    for hint in hints:
        if isinstance(hint, Naming) and hint.floats and not speaks_of_some(hint, patterns):
            sources, targets = (_runs(side) for side in (hint.source, hint.target))
            listed_ = [side for side in (sources, targets) if len(side) > 1]
            parts = tuple(listed_[0]) if listed_ else ()
            found += [Hint(source, target, parts) for source in sources for target in targets]
    return found


def _runs(paths: Sequence[str]) -> list[Run]:
    return [tuple(_CAPTURE.sub("{}", path).split(".")) for path in paths]


def speaks_of_some(hint: Statement | Naming, patterns: Iterable[Pattern]) -> bool:
    """Whether a hint speaks of some leaves of a pattern and not of others."""
    limited = [path for path in hint.every_path if is_limited(path)]
    return any(0 < len(leaves_of(path, p)) < len(p) for p in patterns for path in limited)


def names(p: Pattern, run: Run) -> bool:
    """Whether a run of segments ends with the module's own name or the parameter's."""
    return contains(p.segments, run) and run[-1] in p.segments[-2:]


def speaks_of(hint: Hint, left: Sequence[Pattern], right: Sequence[Pattern]) -> bool:
    """Whether a hint names a pattern on either side."""
    return any(names(p, hint.source) for p in left) and any(names(p, hint.target) for p in right)


def hinted_order(whole: Pattern, parts: Sequence[Pattern], hints: Sequence[Hint]) -> tuple[int, ...] | None:
    """The positions of the parts in the order that a hint gives them, if one names all of them and the whole."""
    for hint in hints:
        fused = hint.target if hint.source in hint.parts else hint.source
        places = [next((n for n, run in enumerate(hint.parts) if names(p, run)), -1) for p in parts]
        if hint.parts and names(whole, fused) and sorted(places) == list(range(len(hint.parts))):
            return tuple(sorted(range(len(parts)), key=lambda n: places[n]))
    return None


def contains(segments: Run, run: Run) -> bool:
    """Whether a path holds a run of segments; a literal index of the run also stands for a capture.

    >>> contains(("layers", "{}", "attn_norm", "weight"), ("attn_norm",))
    True
    """
    size = len(run)
    return any(
        all(a == b or (a == "{}" and b.isdigit()) for a, b in zip(segments[at : at + size], run, strict=True))
        for at in range(len(segments) - size + 1)
    )
