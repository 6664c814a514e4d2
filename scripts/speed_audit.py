"""Times of the audit: two large trees, and a scan of Python files beside parsing them."""

from __future__ import annotations

import ast
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from cases import read_cases
from speed import MEBIBYTE, Figure, _apart, _forget_peak, _peak

import treealign
from treealign import KeyTree, suggest
from treealign.formats.collector import collector_paused

DATA = Path(__file__).parent.parent / "data"
FILES = 5_000


def audit_figures() -> Iterator[Figure]:
    """All figures, one at a time; each in a process of its own."""
    for name in ("a level added above all", "a level removed and a part renamed in each layer"):
        keys, seconds, alone, memory = _apart(_audit_scale, name)
        yield Figure(f"audit, {keys:,} keys a side", seconds, "s", f"{name}; suggest alone: {alone:.3f} s")
        yield Figure("    peak memory above the trees", memory / MEBIBYTE, "MiB")
    files, size, seconds, parsing, found = _apart(_scan_files)
    beside = f"{size / 1e6:.0f} MB; ast.parse of all of them: {parsing:.1f} s; {found} references lost their meaning"
    yield Figure(f"scan of {files:,} Python files", seconds, "s", beside)


def _audit_scale(name: str) -> tuple[int, float, float, int]:
    case = next(read_cases("scale"))
    old, new = case.trees()
    if "removed" in name:
        old, new = new, _renamed(new)
    start = time.perf_counter()
    suggest(old, new)
    alone = time.perf_counter() - start
    before = _forget_peak()
    start = time.perf_counter()
    treealign.audit(old, new)
    return len(old), time.perf_counter() - start, alone, _peak() - before


def _renamed(tree: KeyTree) -> KeyTree:
    rows = [(_new_name(leaf.key), *leaf[1:]) for leaf in tree.leaves]
    return KeyTree.from_leaves(rows, {_new_name(path): name for path, name in tree.modules.items()}, ordered=True)


def _new_name(key: str) -> str:
    return key.replace("model.layers.", "layers.", 1).replace(".mlp.", ".feed_forward.")


def _scan_files() -> tuple[int, int, float, float, int]:
    installed = sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py"))
    step = max(1, len(installed) // FILES)
    chosen = installed[::step][:FILES]
    llava = DATA / "llava-1.5-7b"
    audit = treealign.audit(llava / "transformers-4.52.json", llava / "transformers-5.24.json")
    with tempfile.TemporaryDirectory() as folder:
        for at, path in enumerate(chosen):
            (Path(folder) / f"{at}_{path.name}").write_bytes(path.read_bytes())
        start = time.perf_counter()
        found = audit.scan([folder])
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    with collector_paused():
        size = sum(_parse(path) for path in chosen)
    parsing = time.perf_counter() - start
    return len(chosen), size, seconds, parsing, sum(reference.changed for reference in found.references)


def _parse(path: Path) -> int:
    raw = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(raw)
        except (SyntaxError, ValueError):
            return 0
    return len(raw)
