"""Hints: runs of segments that a user says belong together."""

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


def read_hints(
    hints: Mapping[str, str] | Sequence[str] | None, left: Sequence[Pattern], right: Sequence[Pattern]
) -> list[Hint]:
    """Parse hints and check that both sides of each name something; all complaints at once.

    Raises
    ------
    TreealignError
        A hint without ``=``, or one that names nothing in the checkpoint or in the model.

    """
    pairs = list(hints.items()) if isinstance(hints, Mapping) else [tuple(h.split("=", 1)) for h in hints or ()]
    wrong = [f"`{'='.join(p)}` is not of the form checkpoint=model" for p in pairs if len(p) != 2 or not all(p)]
    read = [Hint(tuple(p[0].split(".")), tuple(p[1].split("."))) for p in pairs if len(p) == 2 and all(p)]
    for hint in read:
        for run, side, name in ((hint.source, left, "checkpoint"), (hint.target, right, "model")):
            if not any(contains(p.segments, run) for p in side):
                wrong.append(f"`{'.'.join(run)}` names nothing in the {name}")
    if wrong:
        example = "write --hint 'attn_norm=input_layernorm': names of the checkpoint, then of the model"
        raise TreealignError("hints that cannot be used", facts=wrong, hint=example)
    return read


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
