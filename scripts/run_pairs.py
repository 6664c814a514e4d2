"""Run pairs of real code side by side, and write what that settles as a table: `python scripts/run_pairs.py [NAME…]`.

Each proof is checked once more without the harness: the model loads the original's own weights by the mapping, and both
are run in float32.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pairs_audio  # noqa: F401  # enters its pairs
import pairs_text  # noqa: F401
import pairs_vision  # noqa: F401
import torch
from code_pairs import OUTSIDE, PAIRS, TIMM, Pair

import treealign
from treealign.run.outputs import difference, paired

HEAD = (
    "| pair | keys | certain before | after | questions before | after | outputs differ by | in float32 | runs "
    "| times one run of both |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def measured(make: Callable[[], Pair]) -> str:
    """The columns of one pair."""
    torch.manual_seed(0)
    original, model, run = make()
    original.eval(), model.eval()
    runs = run if isinstance(run, tuple) else (run, run)
    with torch.no_grad():
        began = time.perf_counter()
        expected, _ = runs[0](original), runs[1](model)
        once = time.perf_counter() - began
    before = treealign.suggest(original.state_dict(), model)
    began = time.perf_counter()
    found = treealign.suggest(original.state_dict(), model, original=original, run=run)
    took = time.perf_counter() - began
    ran = found.ran
    check = "rejected"
    if ran.proved:
        treealign.load(model, original.state_dict(), found.mapping.accept(), strict=False)
        with torch.no_grad():
            check = f"{difference(*paired(expected, runs[1](model))):.0e}"
    sure = [sum(match.certain for match in one.matches) for one in (before, found)]
    asked = [len(one.questions) for one in (before, found)]
    cells = (len(found.matches), *sure, *asked, f"{ran.difference:.0e}", check, ran.runs, f"{took / once:.0f}")
    return " | ".join(map(str, cells))


def main(wanted: list[str]) -> None:
    every = {**PAIRS, **{f"timm {name} - transformers": make for name, make in TIMM.items()}, **OUTSIDE}
    print(HEAD)
    for name, make in every.items():
        if not wanted or any(one in name for one in wanted):
            try:
                print(f"| {name} | {measured(make)} |", flush=True)
            except ImportError as error:
                print(f"{name}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
