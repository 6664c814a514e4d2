"""What `treealign show` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Any

from treealign.cli.console import number, plural, size, width
from treealign.cli.folded import Row, rows
from treealign.tree.fold import Fold, fold_names
from treealign.tree.keytree import KeyTree

_BITS = {"bool": 8, "complex64": 64, "complex128": 128}


def tree_lines(tree: KeyTree, label: str) -> list[str]:
    """A heading with the totals, then the folded tree."""
    dtypes: Counter[str | None] = Counter()
    for leaf in tree.leaves:
        dtypes[leaf.dtype] += prod(leaf.shape or ())
    common = dtypes.most_common(1)[0][0] if dtypes else None
    table = rows(tree, common)
    return [label, _totals(tree, dtypes), *([""] if table else []), *_table(table)]


def _totals(tree: KeyTree, dtypes: Counter[str | None]) -> str:
    parts = [f"{plural(len(tree), 'key')} in {plural(len(tree.folds), 'pattern')}"]
    if all(leaf.shape is not None for leaf in tree.leaves):
        parts.append(f"{number(_parameters(tree))} parameters")
    if (total := byte_size(tree)) is not None:
        parts.append(size(total))
    named = [dtype for dtype, _ in dtypes.most_common() if dtype is not None]
    return ", ".join(parts + named)


def _parameters(tree: KeyTree) -> int:
    counted = (leaf for leaf in tree.leaves if leaf.kind == "parameter" and leaf.key not in tree.tied)
    return sum(prod(leaf.shape or ()) for leaf in counted)


def byte_size(tree: KeyTree) -> int | None:
    """Bytes of all leaves, tied ones once; None where a shape or dtype is unknown."""
    total = 0
    for leaf in tree.leaves:
        bits = dtype_bits(leaf.dtype)
        if leaf.shape is None or bits is None:
            return None
        total += 0 if leaf.key in tree.tied else prod(leaf.shape) * bits
    return total // 8


def dtype_bits(dtype: str | None) -> int | None:
    """Bits of one number: a dtype's name says them, ``float8_e4m3fn`` too.

    >>> dtype_bits("bfloat16"), dtype_bits("float8_e4m3fn"), dtype_bits("bool"), dtype_bits(None)
    (16, 8, 8, None)
    """
    if dtype is None or dtype in _BITS:
        return _BITS.get(dtype or "")
    digits = dtype.split("_")[0].lstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits) if digits.isdigit() else None


def _table(table: list[Row]) -> Iterator[str]:
    columns = width()
    start = min(columns // 2, max((len(_left(row)) for row in table), default=0) + 2)
    for row in table:
        left, right = _left(row), list(row.leaves) or [_module_text(row)]
        yield from _line(left, right, start, columns)


def _left(row: Row) -> str:
    return "  " * row.depth + row.name


def _module_text(row: Row) -> str:
    parts = [row.module] if row.module else []
    return "  ".join([*parts, plural(row.keys, "key"), *([number(row.parameters)] if row.parameters else [])])


def _line(left: str, right: list[str], start: int, columns: int) -> Iterator[str]:
    """The texts of the right column after the left one, on further lines where they do not fit."""
    line = left.ljust(start - 2)
    indent = " " * start
    for text in right:
        if len(line) + 2 + len(text) > columns and line.strip():
            yield line.rstrip()
            line = indent[: max(4, min(start, columns - len(text))) - 2]
        line += "  " + text
    yield line.rstrip()


def tree_json(tree: KeyTree, label: str) -> dict[str, Any]:
    """The same as data: one entry a pattern, with its count, shapes, dtypes and kinds."""
    return {
        "source": label,
        "keys": len(tree),
        "bytes": byte_size(tree),
        "ordered": tree.ordered,
        "tied": dict(tree.tied),
        "patterns": [_pattern(tree, f) for f in tree.folds],
    }


def _pattern(tree: KeyTree, f: Fold) -> dict[str, Any]:
    leaves = [tree.leaves[at] for at in f.positions]
    return {
        "pattern": fold_names([leaf.key for leaf in leaves])[0],
        "count": len(leaves),
        "shapes": [None if shape is None else list(shape) for shape in dict.fromkeys(leaf.shape for leaf in leaves)],
        "dtypes": list(dict.fromkeys(leaf.dtype for leaf in leaves)),
        "kinds": list(dict.fromkeys(leaf.kind for leaf in leaves)),
    }
