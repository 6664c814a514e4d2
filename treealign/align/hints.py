"""Hints: runs of segments that a user says belong together, and the order in which parts stand in a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from treealign.align.patterns import Pattern
from treealign.errors import TreealignError

Run = tuple[str, ...]


class Hint(NamedTuple):
    """A run of segments of the checkpoint, and the run of the model that it corresponds to."""

    source: Run
    target: Run
    parts: tuple[Run, ...] = ()  # all parts of a whole in their order, where the hint names them: `qkv=q,k,v`


def read_hints(
    hints: Mapping[str, str] | Sequence[str] | None, left: Sequence[Pattern], right: Sequence[Pattern]
) -> list[Hint]:
    """Parse hints and check that both sides of each name something; all complaints at once.

    A hint is ``a=b``, or ``whole=part,part,…`` or ``part,part,…=whole`` with the parts in their order.

    Raises
    ------
    TreealignError
        A hint without ``=``, or one that names nothing in the checkpoint or in the model.

    """
    pairs = list(hints.items()) if isinstance(hints, Mapping) else [tuple(h.split("=", 1)) for h in hints or ()]
    read: list[Hint] = []
    wrong = []
    for pair in pairs:
        found = _read(pair)
        wrong += [] if found else [f"`{'='.join(pair)}` is not of the form checkpoint=model"]
        read += found
    for hint in read:
        for run, side, name in ((hint.source, left, "checkpoint"), (hint.target, right, "model")):
            if not any(contains(p.segments, run) for p in side):
                wrong.append(f"`{'.'.join(run)}` names nothing in the {name}")
    if wrong:
        example = (
            "write --hint 'attn_norm=input_layernorm', names of the checkpoint, then of the model; "
            "or --hint 'qkv=q_proj,k_proj,v_proj', a whole and its parts in their order, on either side"
        )
        raise TreealignError("hints that cannot be used", facts=list(dict.fromkeys(wrong)), hint=example)
    return read


def _read(pair: Sequence[str]) -> list[Hint]:
    """One hint for two names, one for each part where either side lists the parts of the other."""
    sides = [[tuple(name.strip().split(".")) for name in side.split(",")] for side in pair]
    if len(sides) != 2 or not all(all(run) for side in sides for run in side) or min(map(len, sides)) > 1:
        return []
    sources, targets = sides
    listed = [side for side in sides if len(side) > 1]
    parts = tuple(listed[0]) if listed else ()
    return [Hint(source, target, parts) for source in sources for target in targets]


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
