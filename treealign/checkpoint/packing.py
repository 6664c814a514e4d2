"""Keys as compact JSON: keys that differ only by indices stand as one template with its indices.

92,000 keys of a checkpoint with 256 experts are a few dozen templates, and most of those hold every combination of a
few ranges. So a record travels with every module and beside every file at the cost of a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from treealign.errors import FormatError
from treealign.tree.fold import Fold, fold


def pack_keys(keys: Sequence[str]) -> list[Any]:
    """A set of keys as JSON; their order is not kept.

    Each item is a key, or ``[template, ranges]`` with one list of runs ``[first, last]`` for each index where the keys
    are all combinations of these, or ``[template, rows]`` with the digits of each key otherwise.

    >>> pack_keys(["layers.0.w", "layers.1.w", "head.w"])
    [['layers.{}.w', {'ranges': [[[0, 1]]]}], 'head.w']
    """
    return [_pack_fold(f) for f in fold(keys)]


def unpack_keys(packed: Any) -> list[str]:
    """The keys of `pack_keys`, template by template.

    Raises
    ------
    FormatError
        The data is not what `pack_keys` gives.
    """
    try:
        return [key for item in packed for key in _unpack_item(item)]
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as e:
        raise FormatError("packed keys cannot be read", facts=[str(e)]) from e


def pack_lists(lists: Iterable[Sequence[str]]) -> list[Any]:
    """Lists of keys as JSON, in order of first appearance of their templates.

    Lists whose keys have the same templates stand as ``[templates, rows]``, a row holding the indices of all keys of a
    list one after the other. A key that holds braces stands as ``{"key": …}``: it is no template.

    >>> pack_lists([("a.0.q", "b.0.q"), ("a.1.q", "b.1.q")])
    [[['a.{}.q', 'b.{}.q'], [['0', '0'], ['1', '1']]]]
    """
    rows: dict[tuple[tuple[str, bool], ...], list[list[str]]] = {}
    for keys in lists:
        folds = [fold([key])[0] for key in keys]
        templates = tuple((f.template, _holds_braces(key)) for f, key in zip(folds, keys, strict=True))
        rows.setdefault(templates, []).append([digits for f in folds for digits in f.indices[0]])
    return [[[{"key": t} if plain else t for t, plain in templates], found] for templates, found in rows.items()]


def unpack_lists(packed: Any) -> list[tuple[str, ...]]:
    """The lists of `pack_lists`, those of one tuple of templates together.

    Raises
    ------
    FormatError
        The data is not what `pack_lists` gives.
    """
    try:
        return [_fill(templates, row) for templates, rows in packed for row in rows]
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, StopIteration) as e:
        raise FormatError("packed keys cannot be read", facts=[str(e)]) from e


def _holds_braces(key: str) -> bool:
    return "{" in key or "}" in key


def _fill(templates: Sequence[Any], row: Sequence[str]) -> tuple[str, ...]:
    digits, keys = iter(row), []
    for template in templates:
        parts = [template["key"]] if isinstance(template, dict) else template.split("{}")
        keys.append(_interleave(parts, [next(digits) for _ in parts[1:]]))
    return tuple(keys)


def _pack_fold(f: Fold) -> Any:
    if not f.indices[0]:
        return f.template
    columns = [sorted({int(row[at]) for row in f.indices}) for at in range(len(f.indices[0]))]
    count = 1
    for column in columns:
        count *= len(column)
    if count == len(f.indices):  # keys differ, so as many rows as combinations are all combinations
        return [f.template, {"ranges": [_runs(column) for column in columns]}]
    return [f.template, {"rows": [list(row) for row in f.indices]}]


def _runs(values: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return runs


def _unpack_item(item: Any) -> Iterable[str]:
    if isinstance(item, str):
        return [item]
    template, body = item
    parts = template.split("{}")
    rows = body["rows"] if "rows" in body else product(*(_column(runs) for runs in body["ranges"]))
    return [_interleave(parts, row) for row in rows]


def _column(runs: Sequence[Sequence[int]]) -> list[str]:
    return [str(value) for first, last in runs for value in range(first, last + 1)]


def _interleave(parts: Sequence[str], row: Sequence[str]) -> str:
    if len(row) != len(parts) - 1:
        raise ValueError(f"{len(row)} indices for the template {'{}'.join(parts)!r}")
    return parts[0] + "".join(digits + part for digits, part in zip(row, parts[1:], strict=True))
