"""Audit models of two releases of transformers, each built in a virtual environment of its own.

python scripts/version_pairs.py [FOLDER]

builds what FOLDER does not hold yet, and writes the trees to data/version-pairs.jsonl.xz.

For each model of scripts/version_models.py: what changed, whether every change is explained by a transform or listed,
whether the old checkpoint loads through the mapping, and whether the loaded model computes what the old one did.
"""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from version_models import MODELS, build, outputs

import treealign
from treealign import KeyTree
from treealign.changes.auditing import Audit

ROOT = Path(__file__).parent.parent
PAIRS = ROOT / "data" / "version-pairs.jsonl.xz"
OLD = "4.50.3"
# what that release needs in other versions than the current one; torch and the rest are shared
PINNED = (f"transformers=={OLD}", "tokenizers==0.21.4", "huggingface_hub==0.36.0")
MISSING = ("requests", "urllib3", "charset_normalizer", "idna", "certifi")


class Outcome(NamedTuple):
    """One model: its audit, the keys that no change explains, and how the old checkpoint fared in the new model."""

    name: str
    audit: Audit
    unexplained: tuple[str, ...]
    loaded: str
    difference: float


def environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """The Python of a virtual environment that has these packages, and everything else from this one."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=False)
        own = next(folder.glob("lib/python*/site-packages"))
        if packages:
            install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(own), *packages]
            subprocess.run(install, check=True)
        (own / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def written(python: Path, folder: Path) -> Path:
    """The models as the transformers of an environment builds them."""
    if not (folder / "failed.json").exists():
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        command = [str(python), str(ROOT / "scripts" / "version_models.py"), str(folder)]
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, check=True, env=variables, cwd=folder)
    return folder


def outcome(name: str, old: Path, new: Path) -> Outcome:
    audit = treealign.audit(old / name / "tree.json", new / name / "tree.json")
    model = build(name)
    try:
        treealign.load(model, old / name / "model.safetensors", audit.mapping)
        loaded = "whole"
    except treealign.TreealignError as error:
        first = str(error).splitlines()[0]
        treealign.load(model, old / name / "model.safetensors", audit.mapping, strict=False)
        loaded = f"not whole: {first}"
    before, after = load_file(old / name / "outputs.safetensors")["output"], outputs(name, model)
    difference = float((before - after).abs().max()) if before.shape == after.shape else float("inf")
    return Outcome(name, audit, unexplained(audit), loaded, difference)


def unexplained(audit: Audit) -> tuple[str, ...]:
    """Keys of the old tree that the mapping does not bring where the audit says they are, and that no change lists."""
    mapped = audit.mapping.map_keys(audit.old, converted=False)
    wrong = [key for key, targets in audit.translation.pairs.items() if set(mapped[key]) != set(targets)]
    gone = set(audit.old.keys) - set(audit.translation.pairs) - set(audit.suggestion.unexpected_keys)
    return (*wrong, *(key for key in gone if key not in audit.old.tied))


def lines(one: Outcome) -> list[str]:
    """The outcome for a terminal."""
    renamed = sum(old != new[0] for old, new in one.audit.translation.pairs.items())
    head = f"{one.name:<14} {len(one.audit.old):>4} keys, {renamed:>4} under other names"
    changes = [f"    {change.kind:<18} {change.keys:>4}  {change.summary[:90]}" for change in one.audit.changes]
    verdict = f"loads {one.loaded}; outputs differ by {one.difference:.1e}"
    left = [f"    UNEXPLAINED        {len(one.unexplained):>4}  {one.unexplained[0]}"] if one.unexplained else []
    return [f"{head}; {verdict}", *changes, *left]


def write_trees(found: Sequence[Outcome], path: Path) -> None:
    """Both trees of each model, a line each, so that the audit of them can be tested without the releases."""
    with lzma.open(path, "wt", encoding="utf-8") as file:
        for one in found:
            row = {"name": one.name, "old": _tree_data(one.audit.old), "new": _tree_data(one.audit.new)}
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


def read_trees(path: Path = PAIRS) -> Iterator[tuple[str, KeyTree, KeyTree]]:
    """(name, old tree, new tree) of each model."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            sides = [KeyTree.from_leaves(**row[side], ordered=True) for side in ("old", "new")]
            yield row["name"], sides[0], sides[1]


def _tree_data(tree: KeyTree) -> dict[str, object]:
    return {"leaves": tree.leaves, "modules": dict(tree.modules), "tied": dict(tree.tied)}


def main() -> None:
    work = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    old = written(environment(work / "old", PINNED + MISSING), work / f"transformers-{OLD}")
    new = written(environment(work / "new", ()), work / "transformers-current")
    failed = {**json.loads((old / "failed.json").read_text()), **json.loads((new / "failed.json").read_text())}
    torch.manual_seed(0)
    found = [outcome(name, old, new) for name in MODELS if name not in failed]
    for one in found:
        print("\n".join(lines(one)))
    write_trees(found, PAIRS)
    whole = sum(one.loaded == "whole" for one in found)
    same = sum(one.difference < 1e-4 for one in found)
    clean = sum(not one.unexplained for one in found)
    print(f"{len(found)} models: every change explained in {clean}, loaded whole {whole}, same outputs {same}")
    for name, reason in failed.items():
        print(f"not built: {name}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
