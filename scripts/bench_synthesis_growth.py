"""How the cost of synthesis alone, and of `map_keys`, grows along one axis at a time.

    python scripts/bench_synthesis_growth.py [AXIS ...]

Matches are given, folds are made before the clock starts. Seconds are of CPU, the least of two runs; the exponent is
the slope between the smallest size that took over 0.1 s and the largest, and a dash where none did.

level, word, leaf   distinct names that do not fold: one level more around all, one word, one leaf called otherwise
words               distinct names of which every one is called otherwise: as many rules as names
digits              names that differ by digits only and are numbered otherwise, in no order: as many rules as names
depth               few leaves at a great depth
experts, layers     repeats
list, blocks        one flat Sequential: renamed, and cut into blocks of ten, each a rule
map_keys            as many literal rules as keys, each for one key
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence

from bench_growth import deep, names, words

from treealign import ConversionMapping, KeyTree, Rename
from treealign.synthesize import synthesize

Pairs = list[tuple[str, str]]
LEAST = 0.1
PARTS = (("w1", "gate"), ("w2", "down"), ("w3", "up"))
NAMES = (100, 500, 2000, 8000)


def renamed(count: int, old: str, new: str) -> Pairs:
    return [(key, key.replace(old, new)) for key, *_ in names(count)]


def every_word(count: int) -> Pairs:
    return [(f"a.{w}.weight", f"a.{v}.weight") for w, v in zip(words(count), words(count, 1), strict=True)]


def renumbered(count: int) -> Pairs:
    return [(f"a.conv{i}x.weight", f"b.conv{i * 7919 % count}x.weight") for i in range(count)]


def experts(count: int) -> Pairs:
    return [
        (f"l.{i}.experts.{j}.{old}.weight", f"layers.{i}.mlp.experts.{j}.{new}.weight")
        for i in range(4)
        for j in range(count)
        for old, new in PARTS
    ]


def layers(count: int) -> Pairs:
    return [(f"h.{i}.{old}.weight", f"layers.{i}.mlp.{new}.weight") for i in range(count) for old, new in PARTS]


AXES: dict[str, tuple[Callable[[int], Pairs], Sequence[int]]] = {
    "level": (lambda n: [(key, f"model.{key}") for key, *_ in names(n)], NAMES),
    "word": (lambda n: renamed(n, "core.", "kernel."), NAMES),
    "leaf": (lambda n: renamed(n, ".scale", ".gamma"), NAMES),
    "words": (every_word, (100, 200, 400, 800)),
    "digits": (renumbered, (101, 201, 401, 801)),
    "depth": (lambda n: [(key, f"model.{key}") for key, *_ in deep(n)], (20, 100, 200, 400)),
    "experts": (experts, (8, 64, 256, 1024)),
    "layers": (layers, (10, 100, 1000, 4000)),
    "list": (lambda n: [(f"net.{i}.weight", f"features.{i}.weight") for i in range(n)], (50, 200, 500, 2000)),
    "blocks": (
        lambda n: [(f"net.{i}.weight", f"stages.{i // 10}.{i % 10}.weight") for i in range(n)],
        (50, 200, 500, 2000),
    ),
    "map_keys": (lambda n: [(a, f"b.{b}") for a, b in every_word(n)], (500, 1000, 2000, 4000, 8000)),
}


def measure(axis: str, pairs: Pairs) -> tuple[float, int]:
    """Seconds of CPU, and how many rules there are."""
    trees = [KeyTree.from_leaves([(key, (4,), None) for key in side]) for side in zip(*pairs, strict=True)]
    assert all(tree.folds for tree in trees), "folding is no part of it"
    literal = ConversionMapping(Rename(f"{a}$", f"{b}$") for a, b in pairs) if axis == "map_keys" else None
    start = time.process_time()
    mapping = literal or synthesize(pairs, [], *trees).mapping
    if literal:
        literal.map_keys(trees[0], converted=False)
    return time.process_time() - start, len(mapping)


def main() -> int:
    synthesize([("a.b", "c.b")], [], *(KeyTree.from_leaves([(key, (1,), None)]) for key in ("a.b", "c.b")))  # imports
    for axis, (make, sizes) in AXES.items():
        if len(sys.argv) > 1 and axis not in sys.argv[1:]:
            continue
        taken = []
        for size in sizes:
            pairs = make(size)
            seconds, rules = min(measure(axis, pairs) for _ in range(2))
            taken.append((size, seconds))
            print(f"{axis:9s} {size:6,}  {seconds:7.2f} s  {rules:6,} rules", flush=True)
        large = [(n, s) for n, s in taken if s > LEAST]
        slope = math.log(large[-1][1] / large[0][1]) / math.log(large[-1][0] / large[0][0]) if len(large) > 1 else None
        print(f"{axis:9s} exponent {'-' if slope is None else f'{slope:.2f}'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
