"""Folding: keys that differ only by indices become one template, in one linear pass.

Checkpoints repeat themselves; 92,000 keys have a few dozen templates. Everything above works on templates and expands
only when a concrete key is asked for. Cost: one regular-expression pass over the keys, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from treealign.formats.bounds import refuse_more
from treealign.formats.legible import printable
from treealign.tree.keys import LONGEST_NUMBER, natural_key

# a whole segment of digits without leading zeros; the digits in `conv1` are part of a name. The key is set between dots
# first: a pattern that begins with a literal is searched for several times faster than one that looks around
_INDEX = re.compile(rf"\.(0|[1-9][0-9]{{0,{LONGEST_NUMBER - 1}}})(?=\.)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Fold:
    """Keys that share a template.

    Attributes
    ----------
    template : str
        The key with each index replaced by ``{}``: ``layers.{}.mlp.up_proj.weight``.
    segments : tuple of str
        The template between dots; an index is ``"{}"``.
    positions : list of int
        Where the keys stand in the folded sequence.
    indices : list of tuple of str
        The digits of each key, one tuple a key, in the same order as `positions`.
    """

    template: str
    segments: tuple[str, ...]
    positions: list[int]
    indices: list[tuple[str, ...]]


def fold(keys: Sequence[str], most: int | None = None) -> tuple[Fold, ...]:
    """Group keys by template, in order of first appearance.

    A key that holds a brace folds with nothing: its template is the key itself and its indices are empty.

    Raises
    ------
    FormatError
        There are more than `most` templates.

    Notes
    -----
    O(n) in the number of keys.

    >>> [f.template for f in fold(["layers.0.w", "layers.1.w", "head.w"])]
    ['layers.{}.w', 'head.w']
    """
    found: dict[str | tuple[str], tuple[list[int], list[tuple[str, ...]]]] = {}
    split = _INDEX.split
    for at, key in enumerate(keys):
        name: str | tuple[str]
        row: tuple[str, ...]
        if "{" in key or "}" in key:
            name, row = (key,), ()  # in a tuple, so that the key `a.{}` and the template of `a.0` stay apart
        else:
            pieces = split(f".{key}.")
            name, row = ".{}".join(pieces[::2]), tuple(pieces[1::2])
        if name in found:
            positions, rows = found[name]
            positions.append(at)
            rows.append(row)
        else:
            found[name] = [at], [row]
            if most is not None and len(found) > most:
                refuse_more(len(found), most, "names that differ by more than their indices", f"of {len(keys):,} keys")
    return tuple(_made(name, *rows) for name, rows in found.items())


def _made(name: str | tuple[str], positions: list[int], indices: list[tuple[str, ...]]) -> Fold:
    template = name[1:-1] if isinstance(name, str) else name[0]
    return Fold(template, tuple(template.split(".")), positions, indices)


def fold_names(keys: Iterable[str], limit: int = 20) -> list[str]:
    """Keys for a message: repeats folded, ``layers.{0..31}.mlp.up_proj.weight``, what is not printable spelled out.

    At most `limit` lines; a last line counts the rest.
    """
    ordered = sorted(keys, key=natural_key)
    folds = fold(ordered)
    lines = [printable(_with_ranges(f) if f.indices[0] else f.template) for f in folds[:limit]]
    if len(folds) > limit:
        rest = sum(len(f.positions) for f in folds[limit:])
        lines.append(f"… and {rest} more keys in {len(folds) - limit} patterns")
    return lines


def _with_ranges(f: Fold) -> str:
    columns = [ranges(sorted({int(v) for v in column})) for column in zip(*f.indices, strict=True)]
    texts = iter(columns)
    return ".".join(next(texts) if s == "{}" else s for s in f.segments)


def ranges(values: Sequence[int]) -> str:
    """Sorted numbers as text: ``3``, ``{0..31}``, ``{0..3,7}``.

    >>> ranges([0, 1, 2, 7])
    '{0..2,7}'
    """
    runs: list[list[int]] = []
    for v in values:
        if runs and v == runs[-1][1] + 1:
            runs[-1][1] = v
        else:
            runs.append([v, v])
    if len(runs) == 1 and runs[0][0] == runs[0][1]:
        return str(runs[0][0])
    return "{" + ",".join(str(a) if a == b else f"{a}..{b}" for a, b in runs) + "}"
