"""Time the strict header reader beside safetensors' own, on the same file, in one run.

    python scripts/bench_header.py data/corpus/scale.jsonl.xz

The corpus is JSON lines with a `checkpoint` list of [key, shape, dtype]; its largest case becomes a sparse file.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from treealign.formats.dtypes import BITS, safetensors_dtype
from treealign.formats.safetensors_header import read_header


def largest_checkpoint(corpus: Path) -> list[tuple[str, list[int], str]]:
    opened = gzip.open if corpus.suffix == ".gz" else lzma.open
    with opened(corpus, "rt", encoding="utf-8") as lines:
        return max((json.loads(line)["checkpoint"] for line in lines), key=len)


def write_sparse(path: Path, leaves: list[tuple[str, list[int], str]]) -> None:
    header, at = {}, 0
    for key, shape, torch_dtype in leaves:
        dtype = safetensors_dtype(torch_dtype) or "F32"
        end = at + math.prod(shape) * BITS[dtype] // 8
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + at)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bench_header(corpus: Path, rounds: int = 15) -> dict[str, float]:
    """Median seconds of both readers, taken in turns, and their ratio."""
    from safetensors import safe_open

    def theirs() -> object:
        with safe_open(path, framework="numpy") as file:
            return file.keys()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        leaves = largest_checkpoint(corpus)
        write_sparse(path, leaves)
        pairs = [(seconds(theirs), seconds(lambda: read_header(path))) for _ in range(rounds)]
    their_median, our_median = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "keys": len(leaves),
        "safe_open": their_median,
        "read_header": our_median,
        "ratio": statistics.median(ours / yours for yours, ours in pairs),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    print(json.dumps(bench_header(arguments.corpus, arguments.rounds), indent=2))
