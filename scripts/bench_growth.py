"""How the cost of one suggestion grows with the number of distinct names, along one axis at a time.

    python scripts/bench_growth.py [AXIS ...] [--names 500 1000 2000 4000 8000]

Both sides are made of invented words, so that nothing folds. Each size runs in a process of its own, which says its CPU
time and its peak of memory; the exponent is the slope between the smallest and the largest size that took over 0.2 s.

identical  both trees are the same
level      the model has one level more around everything
word       one word is called otherwise throughout
depth      identical trees, few leaves at a great depth; `names` counts levels times 40
audit      an audit of two such trees, of which one word is called otherwise
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

SHAPES = (("weight", (64, 64)), ("weight", (256, 64)), ("bias", (64,)), ("bias", (256,)), ("scale", (64,)))
AXES = ("identical", "level", "word", "depth", "audit")
LEAST = 0.2


def words(count: int, seed: int = 0) -> list[str]:
    """Invented words, all different, without digits."""
    rng, found = random.Random(seed), {}
    while len(found) < count:
        found["".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3))] = True
    return list(found)


def names(count: int) -> list[tuple[str, tuple[int, ...], str]]:
    """Leaves of distinct names: ten branches of twenty modules each and so on, four or five levels deep."""
    rng, vocabulary = random.Random(1), words(max(64, count // 8))
    leaves: dict[str, tuple[int, ...]] = {}
    while len(leaves) < count:
        path = [rng.choice(vocabulary) for _ in range(rng.choice((3, 4)))]
        name, shape = rng.choice(SHAPES)
        leaves.setdefault(".".join(["core", *path, name]), shape)
    return [(key, shape, "float32") for key, shape in leaves.items()]


def deep(levels: int) -> list[tuple[str, tuple[int, ...], str]]:
    path = words(levels)
    return [
        (".".join([*path[:at], "weight"]), (64, 64), "float32") for at in range(levels // 20, levels + 1, levels // 20)
    ]


def sides(axis: str, count: int) -> tuple[list, list]:
    here = deep(count // 40 - 1) if axis == "depth" else names(count)
    if axis == "level":
        return here, [(f"model.{key}", *rest) for key, *rest in here]
    if axis in ("word", "audit"):
        return here, [(key.replace("core.", "kernel."), *rest) for key, *rest in here]
    return here, list(here)


def run(axis: str, count: int) -> dict[str, float]:
    from treealign import KeyTree, audit, suggest

    trees = [KeyTree.from_leaves(side, ordered=True) for side in sides(axis, count)]
    start = time.process_time()
    found = audit(*trees) if axis == "audit" else suggest(*trees)
    seconds = time.process_time() - start
    wrong = 0 if axis == "audit" else sum(not m.certain for m in found.matches) + len(found.missing_keys)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak": peak, "open": wrong}


def growth(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The exponent between the smallest and the largest size that took long enough to be measured."""
    points = [(n, s) for n, s in zip(sizes, seconds, strict=True) if s >= LEAST]
    if len(points) < 2:
        return 0.0
    (small, a), (large, b) = points[0], points[-1]
    return math.log(b / a) / math.log(large / small)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axes", nargs="*", default=AXES, metavar="AXIS")
    parser.add_argument("--names", type=int, nargs="+", default=[500, 1000, 2000, 4000, 8000])
    parser.add_argument("--one", action="store_true", help="one measurement in this process")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run(given.axes[0], given.names[0])))
        return
    for axis in given.axes:
        found = []
        for count in given.names:
            command = [sys.executable, __file__, axis, "--one", "--names", str(count)]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            print(f"{axis:10} {count:6} names {found[-1]['seconds']:8.2f} s {found[-1]['peak']:7.0f} MB", flush=True)
        print(f"{axis:10} exponent {growth(given.names, [one['seconds'] for one in found]):.2f}", flush=True)


if __name__ == "__main__":
    main()
