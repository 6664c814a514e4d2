#!/usr/bin/env python3
"""Measure synthesis alone, on matches known to be right: laws, transforms against those written by hand, time.

    python scripts/bench_synthesis.py CORPUS.jsonl.gz ... [--only TEXT] [--show]

Each line of a corpus is one case, as `data/README.md` describes them. Groups of one key on each side whose tensors stay
as they are are pairs; the others are conversions, for which operations that fit the shapes are made up: which ones is
for the aligner to find out and does not matter here.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from treealign.mapping import operations as ops
from treealign.synthesize import Conversion, Synthesis, synthesize
from treealign.tree.keytree import KeyTree

Shape = tuple[int, ...]
PLAIN = ("rename", "copy", "tie")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+")
    parser.add_argument("--only", default="", help="only cases whose id contains this text")
    parser.add_argument("--show", action="store_true", help="print every mapping")
    arguments = parser.parse_args()
    for corpus in arguments.corpora:
        report(corpus, arguments.only, arguments.show)
    return 0


def report(corpus: str, only: str, show: bool) -> None:
    total: Counter[str] = Counter()
    notes: list[str] = []
    slowest = (0.0, "")
    for case in cases(corpus, only):
        figures, synthesis, seconds = measure(case)
        total.update(figures)
        slowest = max(slowest, (seconds, case["id"]))
        total["milliseconds"] += round(1000 * seconds)
        notes += remarks(case, figures, synthesis)
        if show:
            print(case["id"], len(synthesis.mapping), "bound", synthesis.bound, "by hand", case.get("hand_written"))
            print(*(f"    {transform!r}" for transform in synthesis.mapping), sep="\n")
    print(*notes, sep="\n")
    seconds = total["milliseconds"] / 1000
    print(f"{corpus}: {total['cases']} cases, {seconds:.1f} s, slowest {slowest[1]} {slowest[0]:.2f} s")
    laws = "  ".join(f"{law} {total[law]}" for law in ("forward", "reverse", "idempotent"))
    print(f"  laws: {laws}  optimal {total['optimal']}")
    for kind in ("renamings", "conversions"):
        better = f"no more than by hand in {total[f'{kind} fine']} of {total[f'{kind} cases']}"
        print(f"  {kind}: {total[f'{kind} rules']} transforms, {total[f'{kind} hand']} by hand, {better}")


def cases(corpus: str, only: str) -> Iterator[dict[str, Any]]:
    with gzip.open(corpus, "rt") as lines:
        yield from (case for line in lines if only in (case := json.loads(line))["id"])


def measure(case: dict[str, Any]) -> tuple[Counter[str], Synthesis, float]:
    checkpoint = KeyTree.from_leaves([tuple(x[:3]) for x in case["checkpoint"]])
    model = KeyTree.from_leaves([tuple(x) for x in case["model"]], tied=case.get("tied"), ordered=True)
    assert checkpoint.folds, "folding is no part of synthesis"
    assert model.folds
    pairs, conversions = matches(case)
    start = time.perf_counter()
    synthesis = synthesize(pairs, conversions, checkpoint, model)
    seconds = time.perf_counter() - start
    figures = Counter(cases=1, optimal=int(synthesis.optimal), **laws(case, synthesis, pairs, conversions))
    kind = "conversions" if any(group[2] not in PLAIN for group in case["gold"]) else "renamings"
    if case.get("hand_written") is not None:
        figures[f"{kind} cases"] = 1
        figures[f"{kind} rules"] = len(synthesis.mapping)
        figures[f"{kind} hand"] = case["hand_written"]
        figures[f"{kind} fine"] = int(len(synthesis.mapping) <= case["hand_written"])
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
            made = operations_for(operation, [left[s] for s in sources], [shapes[t] for t in targets])
            conversions.append(Conversion(tuple(sources), tuple(targets), made))
    return pairs, conversions


def operations_for(name: str, sources: Sequence[Shape], targets: Sequence[Shape]) -> tuple[ops.Operation, ...]:
    """Operations of the named kind that fit the shapes."""
    kind, half = name.split(":", maxsplit=1)[0], len(sources) // 2
    turned = tuple(range(len(targets[0])))[::-1]
    if kind == "stack":
        return (ops.Stack(0, len(sources)),)
    if kind in ("stack+concat", "concat+reshape"):
        return (ops.Stack(0, half), ops.Concat(1, (sources[0][0], sources[half][0])))
    if kind == "concat":
        dim = next(n for n, (a, b) in enumerate(zip(sources[0], targets[0], strict=True)) if a != b)
        return (ops.Concat(dim, tuple(shape[dim] for shape in sources)),)
    if kind in ("chunk", "split", "chunk+permute") and len(targets) > 1:
        return (ops.Split(0, tuple(sources[0][0] * shape[0] // sum(s[0] for s in targets) for shape in targets)),)
    if kind == "reshape":
        return (ops.Reshape(sources[0], targets[0]),)
    return (ops.Permute(turned) if kind == "transpose" else ops.Interleave(0, (1, 1)),)


def laws(
    case: dict[str, Any], synthesis: Synthesis, pairs: list[tuple[str, str]], conversions: list[Conversion]
) -> dict[str, int]:
    """Which laws hold, judged as the scoreboard does."""
    matched = {*pairs, *((c, m) for x in conversions for c in x.checkpoint for m in x.model)}
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
    broken = [law for law in ("forward", "reverse", "idempotent") if not figures[law]]
    notes = [f"{case['id']}: breaks {', '.join(broken)}"] if broken else []
    notes += [f"{case['id']}: {finding[:200]}" for finding in synthesis.findings]
    hand = case.get("hand_written")
    if hand is not None and len(synthesis.mapping) > hand and not case["id"].startswith("syn"):
        notes.append(f"{case['id']}: {len(synthesis.mapping)} transforms, bound {synthesis.bound}, by hand {hand}")
    elif not synthesis.optimal:
        notes.append(f"{case['id']}: {len(synthesis.mapping)} transforms, bound {synthesis.bound}")
    return notes


if __name__ == "__main__":
    sys.exit(main())
