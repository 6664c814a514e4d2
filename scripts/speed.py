"""Times, each beside what it is compared with, in one run on the same keys."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from cases import read_cases

from treealign import ConversionMapping, KeyTree, PrefixChange, Rename, suggest
from treealign.tree.fold import fold

MEBIBYTE = 1 << 20
# ten renames of whole segments, as (segment here, segment there)
RENAMES = (
    ("self_attn", "attention"),
    ("input_layernorm", "attention_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("shared_experts", "shared_expert"),
    ("experts", "expert_list"),
    ("gate_proj", "w1"),
    ("up_proj", "w3"),
    ("down_proj", "w2"),
    ("eh_proj", "mtp_proj"),
    ("shared_head", "mtp_head"),
)


class Figure(NamedTuple):
    """One measured value, and what it was held against."""

    what: str
    value: float
    unit: str
    beside: str = ""


def median_seconds(work: Callable[[], object], rounds: int = 5) -> float:
    return statistics.median(_seconds(work) for _ in range(rounds))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def figures() -> Iterator[Figure]:
    """All figures, one at a time as they are measured."""
    case = next(read_cases("scale"))
    keys = [leaf[0] for leaf in case.checkpoint]
    yield from header()
    yield from renaming(keys)
    yield from suggesting()
    yield from showing()
    yield from growth()


def renaming(keys: list[str]) -> Iterator[Figure]:
    """`fold` and `map_keys` beside transformers' own renaming: ten rules, the same keys, the same result."""
    theirs, rename = _transformers_renaming()
    mapping = ConversionMapping([Rename(f"**.{here}", f"**.{there}") for here, there in RENAMES])
    tree = KeyTree.from_leaves([(key, None, None) for key in keys])
    expected = {key: (rename(key),) for key in keys}
    assert mapping.map_keys(keys) == expected, "both must do the same work"
    assert mapping.map_keys(tree) == expected, "a tree and its keys must map alike"
    their_time = median_seconds(lambda: [rename(key) for key in keys])
    beside = f"{theirs} rename_source_key: {their_time:.3f} s"
    count = f"{len(keys):,} keys"
    yield Figure(f"fold {count}", median_seconds(lambda: fold(keys)), "s")
    for what, source in ((f"map_keys, ten renames, {count}", keys), ("map_keys of the tree already read", tree)):
        ours = median_seconds(lambda source=source: mapping.map_keys(source))
        yield Figure(what, ours, "s", f"{beside}, {their_time / ours:.1f} times ours")
    prefix = ConversionMapping([PrefixChange(add="model")])
    for what, source in (("map_keys, one prefix", keys), ("map_keys, one prefix, tree already read", tree)):
        ours = median_seconds(lambda source=source: prefix.map_keys(source))
        yield Figure(what, ours, "s", f"{beside}, ten rules: {their_time / ours:.1f} times ours")


def _transformers_renaming() -> tuple[str, Callable[[str], str]]:
    import transformers
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    rules = [WeightRenaming(rf"\.{here}\.", f".{there}.") for here, there in RENAMES]
    return f"transformers {transformers.__version__}", lambda key: rename_source_key(key, rules, [])[0]


def suggesting() -> Iterator[Figure]:
    """`suggest` on both trees of the largest case, in a process of its own for the memory."""
    seconds, fold_seconds, memory = _apart(_suggest_scale)
    yield Figure("suggest, both trees", seconds, "s", f"folding both: {fold_seconds:.3f} s")
    yield Figure("suggest, peak memory above the keys", memory / MEBIBYTE, "MiB")


def _suggest_scale() -> tuple[float, float, int]:
    case = next(read_cases("scale"))
    checkpoint, model = case.trees()
    fold_seconds = _seconds(lambda: (fold(checkpoint.keys), fold(model.keys)))
    before = _forget_peak()
    return _seconds(lambda: suggest(checkpoint, model)), fold_seconds, _peak() - before


def _peak() -> int:
    """The largest memory in use since `_forget_peak`, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> int:
    """Let the peak start anew where the system can (Linux); what is in use now, in bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def header() -> Iterator[Figure]:
    """The strict header reader beside safetensors' own, in a process that has nothing else in memory."""
    script = Path(__file__).with_name("bench_header.py")
    corpus = script.parent.parent / "data/corpus/scale.jsonl.xz"
    run = subprocess.run([sys.executable, script, corpus], capture_output=True, text=True, check=True)
    figures = json.loads(run.stdout)
    beside = f"safe_open: {figures['safe_open']:.3f} s, ratio {figures['ratio']:.2f}"
    yield Figure("read a header, all checks", figures["read_header"], "s", beside)


def write_sparse(path: Path, leaves: tuple[tuple[Any, ...], ...]) -> None:
    """A valid safetensors file of these leaves whose tensors take no room on the disk."""
    names = {"float32": ("F32", 4), "bfloat16": ("BF16", 2), "float8_e4m3fn": ("F8_E4M3", 1)}
    entries, at = {}, 0
    for key, shape, dtype in leaves:
        name, width = names[dtype]
        end = at + math.prod(shape) * width
        entries[key] = {"dtype": name, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + at)


def showing() -> Iterator[Figure]:
    """`treealign show` of 2,000 keys beside `import torch`, as whole processes, taken in turns."""
    leaves = tuple(
        (f"layers.{i}.mlp.{name}.weight", (8, 8), "float32") for i in range(500) for name in ("w1", "w2", "w3", "w4")
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_sparse(path, leaves)
        show = [sys.executable, "-m", "treealign.cli", "show", str(path)]
        torch = [sys.executable, "-c", "import torch"]
        pairs = [(_run(show), _run(torch)) for _ in range(5)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    yield Figure(
        "treealign show, 2,000 keys", ours, "s", f"import torch: {theirs:.3f} s, {theirs / ours:.1f} times ours"
    )


def _run(command: list[str]) -> float:
    return _seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def growth() -> Iterator[Figure]:
    """Time and memory of everything, from 125,000 to 1,000,000 keys."""
    for count in (125_000, 250_000, 500_000, 1_000_000):
        seconds, mapped, memory = _apart(_grow, count)
        per_key = f"{seconds / count * 1e6:.1f} µs and {memory / count:,.0f} bytes a key"
        yield Figure(f"suggest, {count:,} keys a side", seconds, "s", f"{per_key}; map_keys {mapped:.2f} s")


def _grow(count: int) -> tuple[float, float, int]:
    """Experts of a model with more and more layers; one level is added, one segment renamed."""
    parts = ("gate_proj", "up_proj", "down_proj", "extra_proj")
    names = [f"layers.{n // 1000}.mlp.experts.{n // 4 % 250}.{parts[n % 4]}.weight" for n in range(count)]
    shapes = {part: (2 + at, 3) for at, part in enumerate(parts)}
    sides = [
        KeyTree.from_leaves([(form(name), shapes[name.split(".")[5]], "bfloat16") for name in names], ordered=ordered)
        for form, ordered in ((str, False), (lambda name: "model." + name.replace("mlp", "feed_forward"), True))
    ]
    before = _forget_peak()
    start = time.perf_counter()
    suggestion = suggest(*sides)
    seconds = time.perf_counter() - start
    mapped = _seconds(lambda: suggestion.mapping.map_keys(names))
    return seconds, mapped, _peak() - before
