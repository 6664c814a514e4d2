#!/usr/bin/env python3
"""Measure synthesis alone, on matches known to be right: rules, laws, CPU and memory.

    python scripts/bench_synthesis.py CORPUS.jsonl.xz ... [--only TEXT] [--every N] [--show]

Each line of a corpus is one case, as `data/README.md` describes them. Groups of one key on each side whose tensors stay
as they are are pairs; the others are conversions, for which operations that fit the shapes are made up: which ones is
for the aligner to find out and does not matter here. One line a corpus: how many cases, rules, and rules by hand where
that is known, in how many cases ours are no more, how many are proved fewest, in how many each law holds, how many
matches are made by no rule (which is said), and seconds of CPU: of all cases, of the 95th and 99th in a hundred, of
the slowest. Under it what falls short. The last line is the largest memory of the process.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from treealign.mapping import operations as ops
from treealign.synthesize import Conversion, Synthesis, synthesize
from treealign.tree.keytree import KeyTree

Shape = tuple[int, ...]
PLAIN = ("rename", "copy", "tie")
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
LAWS = ("forward", "reverse", "idempotent")
COLUMNS = ("cases", "rules", "of these", "by hand", "fine", "proved", *LAWS, "lost", "CPU s", "p95", "p99", "max")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--only", default="", help="only cases whose id contains this text")
    parser.add_argument("--every", type=int, default=1, help="each so-many-th case")
    parser.add_argument("--show", action="store_true", help="print every mapping")
    arguments = parser.parse_args()
    print(f"{'':16}" + "".join(f"{name:>11}" for name in COLUMNS))
    for corpus in arguments.corpora:
        report(corpus, arguments.only, arguments.every, arguments.show)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")
    return 0


def report(corpus: Path, only: str, every: int, show: bool) -> None:
    total: Counter[str] = Counter()
    notes: list[str] = []
    times: list[float] = []
    for case in islice(cases(corpus, only), 0, None, every):
        figures, synthesis, seconds = measure(case)
        total.update(figures)
        times.append(seconds)
        notes += remarks(case, figures, synthesis)
        if show:
            print(case["id"], len(synthesis.mapping), "bound", synthesis.bound, "by hand", case.get("hand_written"))
            print(*(f"    {transform!r}" for transform in synthesis.mapping), sep="\n")
    times.sort()
    at = {"CPU s": sum(times), "max": times[-1]} | {f"p{q}": times[len(times) * q // 100] for q in (95, 99)}
    cells = [f"{at[name]:.2f}" if name in at else f"{total[name]:,}" for name in COLUMNS]
    print(f"{corpus.name.split('.')[0]:16}" + "".join(f"{cell:>11}" for cell in cells))
    print(*(f"    {note}" for note in notes), sep="\n")


def cases(corpus: Path, only: str) -> Iterator[dict[str, Any]]:
    with (lzma if corpus.suffix == ".xz" else gzip).open(corpus, "rt") as lines:
        yield from (case for line in lines if only in (case := json.loads(line))["id"])


def measure(case: dict[str, Any]) -> tuple[Counter[str], Synthesis, float]:
    checkpoint = KeyTree.from_leaves([tuple(x[:3]) for x in case["checkpoint"]])
    model = KeyTree.from_leaves([tuple(x) for x in case["model"]], tied=case.get("tied"), ordered=True)
    assert checkpoint.folds, "folding is no part of synthesis"
    assert model.folds
    pairs, conversions = matches(case)
    start = time.process_time()
    synthesis = synthesize(pairs, conversions, checkpoint, model)
    seconds = time.process_time() - start
    figures = Counter(cases=1, proved=int(synthesis.optimal), rules=len(synthesis.mapping), lost=len(synthesis.lost))
    figures.update(laws(case, synthesis, pairs, conversions))
    if case.get("hand_written") is not None:
        figures["of these"] = len(synthesis.mapping)
        figures["by hand"] = case["hand_written"]
        figures["fine"] = int(len(synthesis.mapping) <= case["hand_written"])
    return figures, synthesis, seconds


def matches(case: dict[str, Any]) -> tuple[list[tuple[str, str]], list[Conversion]]:
    """The case's known answer."""
    shapes = {key: tuple(shape) for key, shape, *_ in [*case["checkpoint"], *case["model"]]}
    left = {key: tuple(shape) for key, shape, *_ in case["checkpoint"]}
    tied = set(case.get("tied") or ())
    pairs, conversions = [], []
    for sources, targets, operation, *_ in case["gold"]:
        if operation in PLAIN and len(sources) == 1:
            fed = [t for t in targets if t not in tied] or targets
            pairs.append((sources[0], fed[0]))
        else:
            ordered = sorted(sources, key=lambda key: _first_alike(sources, key))
            conversions.append(
                Conversion(tuple(ordered), tuple(targets), operations_for(ordered, targets, left, shapes))
            )
    return pairs, conversions


def _first_alike(keys: Sequence[str], key: str) -> int:
    """Where the first key stands that differs by numbers alone: what operations take stands pattern by pattern."""
    return next(at for at, other in enumerate(keys) if _DIGITS.sub("#", other) == _DIGITS.sub("#", key))


def operations_for(
    sources: Sequence[str], targets: Sequence[str], left: Mapping[str, Shape], right: Mapping[str, Shape]
) -> tuple[ops.Operation, ...]:
    """Operations that lead from so many tensors of these shapes to so many of those."""
    before, after = [left[key] for key in sources], [right[key] for key in targets]
    if len(before) == len(after) == 1:
        return (_turned(before[0], after[0]),)
    made: list[ops.Operation] = []
    if len(before) > 1:
        members = after[0][0] if len(after) == 1 and len(after[0]) > len(before[0]) else 0
        if members and len(before) % members == 0:
            joined = len(before) // members
            made += [ops.Stack(0, members)]
            made += [ops.Concat(1, tuple(shape[0] for shape in before[::members]))] if joined > 1 else []
        else:
            sizes = [tuple(shape[dim] for shape in before) for dim in range(len(before[0]))]
            grown = (dim for dim, size in enumerate(sizes) if len(after) == 1 and after[0][dim:][:1] == (sum(size),))
            dim = next(grown, 0)
            made += [ops.Concat(dim, sizes[dim])]
    if len(after) > 1:
        whole, rows = sum(shape[0] for shape in before), sum(shape[0] for shape in after)
        many = len(before) == 1 and before[0] == (len(after), *after[0])
        made += [ops.Unstack(0, len(after)) if many else ops.Split(0, tuple(whole * s[0] // rows for s in after))]
    return tuple(made)


def _turned(before: Shape, after: Shape) -> ops.Operation:
    if len(before) > 1 and before[::-1] == after:
        return ops.Permute(tuple(range(len(before)))[::-1])
    return ops.Interleave(0, (1, 1)) if before == after else ops.Reshape(before, after)


def laws(
    case: dict[str, Any], synthesis: Synthesis, pairs: list[tuple[str, str]], conversions: list[Conversion]
) -> dict[str, int]:
    """Which laws hold, judged as the scoreboard does."""
    lost = set(synthesis.lost)  # said to be no matches
    matched = {*pairs, *((c, m) for x in conversions for c in x.checkpoint for m in x.model)}
    matched = {(c, m) for c, m in matched if c not in lost}
    used, tied = {c for c, _ in matched}, set(case.get("tied") or ())
    mapping = synthesis.mapping
    forward = mapping.map_keys([key for key, *_ in case["checkpoint"]])
    backward = mapping.reverse.map_keys(sorted({m for _, m in matched}))
    own = [key for key, *_ in case["model"] if key not in tied]
    same = mapping.map_keys(own) if not has_cycle(dict(pairs)) else {key: (key,) for key in own}
    return {
        "forward": int({(c, m) for c, ms in forward.items() if c in used for m in ms} == matched),
        "reverse": int({(c, m) for m, cs in backward.items() for c in cs} == matched),
        "idempotent": int(all(targets == (key,) for key, targets in same.items())),
    }


def has_cycle(pairs: dict[str, str]) -> bool:
    for start, first in pairs.items():
        key, seen = first, {start}
        while key in pairs and key not in seen:
            seen.add(key)
            key = pairs[key]
        if key in seen and (key != start or first != start):
            return True
    return False


def remarks(case: dict[str, Any], figures: Counter[str], synthesis: Synthesis) -> list[str]:
    broken = [law for law in LAWS if not figures[law]]
    notes = [f"{case['id']}: breaks {', '.join(broken)}"] if broken else []
    notes += [f"{case['id']}: {finding[:200]}" for finding in synthesis.findings]
    hand = case.get("hand_written")
    if hand is not None and len(synthesis.mapping) > hand:
        notes.append(f"{case['id']}: {len(synthesis.mapping)} transforms, bound {synthesis.bound}, by hand {hand}")
    return notes


if __name__ == "__main__":
    sys.exit(main())
