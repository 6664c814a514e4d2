"""Settle what is open by a probe: the model is loaded in one way after another, and scored each time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from treealign.align.alignment import Alignment
from treealign.align.asking.probing import Probed, settle_by_probe
from treealign.align.asking.rows import HeadLayout
from treealign.align.links import Link, keys_of
from treealign.checkpoint.sources import open_source
from treealign.mapping.planning import Step
from treealign.run.recorder import drawn
from treealign.run.steps import Steps
from treealign.run.text_probe import probe_of
from treealign.run.trials import Trials, head_layouts, rounding, trials

_TIMES = 2  # other values that keys without weights are given, to see whether the score depends on them


def settle_by_scores(
    alignment: Alignment, checkpoint: Any, model: Any, probe: Any, max_probes: int
) -> tuple[Alignment, Probed | None]:
    """Settle what is open by loading the model in one way after another.

    Keys of the model that nothing fills do not matter as long as the score does not depend on them.

    Raises
    ------
    TreealignError
        The model cannot be run, the checkpoint has no tensors, or the probe gives no number.
    """
    probe = probe_of(probe, checkpoint, model)
    name = getattr(probe, "__name__", type(probe).__name__)
    with open_source(checkpoint) as source, trials(model, source, probe) as tried:
        steps = Steps(alignment)
        unfilled = keys_of(alignment.model, [*alignment.right, *(p for x in alignment.resized for p in x.right)])
        if unfilled:
            max_probes -= 1 + _TIMES
            if max_probes < 1 or _reads(tried, steps.all(alignment.links), unfilled):
                return replace(alignment, findings=(*alignment.findings, _unasked(unfilled))), None

        def score(links: Sequence[Link], shuffled: Sequence[Link] = (), seed: int = 0) -> float:
            return tried.score(steps.all(links), {key for step in steps.all(shuffled) for key in step.targets}, seed)

        def layouts(link: Link) -> Sequence[HeadLayout]:
            return head_layouts(model, alignment.model.keys[next(iter(link.right[0].cells.values()))])

        tolerance = rounding(model)
        return settle_by_probe(alignment, score, layouts, name=name, max_probes=max_probes, tolerance=tolerance)


def _unasked(unfilled: Sequence[str]) -> str:
    names = ", ".join(unfilled[:3]) + (", …" if len(unfilled) > 3 else "")
    return (
        f"the probe was not asked: keys of the model stay without weights ({names}), and its score depends on them, "
        "so that it would mean nothing"
    )


@torch.no_grad()
def _reads(tried: Trials, steps: Sequence[Step], keys: Sequence[str]) -> bool:
    """Whether the score depends on what stands in these keys; they have their values again afterwards."""
    base = tried.score(steps)
    if not math.isfinite(base):
        return True
    tensors = [tried.places.places[key].tensor for key in keys if key in tried.places.places]
    kept = [tensor.detach().clone() for tensor in tensors]
    generator = torch.Generator().manual_seed(0)
    try:
        for _ in range(_TIMES):
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(drawn(value, generator))
            if tried.score(steps) != base:
                return True
    finally:
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)
    return False
