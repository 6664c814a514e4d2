"""Trees and files for the tests of the audit."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import treealign
from treealign.changes.auditing import Audit

DATA = Path(__file__).parent.parent / "data"
OLD = DATA / "llava-1.5-7b" / "transformers-4.52.json"
NEW = DATA / "llava-1.5-7b" / "transformers-5.24.json"


@cache
def llava() -> Audit:
    """LLaVA with and without the level `vision_model`, as two releases of transformers build it."""
    return treealign.audit(OLD, NEW)


def tree(*leaves: tuple[str, tuple[int, ...]], modules=None, tied=None) -> treealign.KeyTree:
    rows = [(key, shape, "float32") for key, shape in leaves]
    return treealign.KeyTree.from_leaves(rows, modules=modules, tied=tied, ordered=True)


def audited(old, new, **sides) -> Audit:
    """The audit of two lists of (key, shape)."""
    return treealign.audit(tree(*old, **sides), tree(*new, **sides))


def scanned(audit: Audit, folder: Path, name: str, text: str, minimum: float = 0.7) -> Audit:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return audit.scan([path], minimum)
