"""The text of a lock: a tree's folded form, one pattern a line, from which the tree can be read back.

A line says names, shape, and what is out of the ordinary::

    model.layers.{0..31}.mlp.up_proj.weight [11008, 4096] float32
    model.layers.{0..31}.mlp: LlamaMLP
    lm_head.weight = model.embed_tokens.weight

A leaf, the class of a module, a leaf that shares the storage of another. Numbers in braces are all taken, each with
each: ``{0..3,7}``. A name with anything but letters, digits, ``_``, ``-`` and dots in it is quoted as in JSON, and then
stands for itself alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

from treealign.errors import FormatError
from treealign.tree.fold import fold, ranges
from treealign.tree.keys import natural_key
from treealign.tree.keytree import KeyTree

_PLAIN = re.compile(r"[\w-]+(\.[\w-]+)*", re.ASCII)
_NAME = r'(?P<{0}>"(?:[^"\\]|\\.)*"|[^\s":=]+)'
_LEAF = re.compile(_NAME.format("name") + r" \[(?P<shape>[0-9, ]*|\?)\](?: (?P<dtype>[\w?]+))?(?: (?P<kind>buffer))?")
_MODULE = re.compile(_NAME.format("name") + r": (?P<label>\S.*)")
_TIED = re.compile(_NAME.format("name") + " = " + _NAME.format("origin"))
_BRACES = re.compile(r"\{([0-9.,]+)\}")
_LARGEST = 10_000_000  # keys: a line of a few characters must not fill the memory
Column = tuple[int, ...]


def tree_lines(tree: KeyTree) -> Iterator[str]:
    """The lines of one tree; the order of its leaves changes nothing in them."""
    leaves: dict[str, list[str]] = {}
    for leaf in tree.leaves:
        shape = "[?]" if leaf.shape is None else str(list(leaf.shape))
        leaves.setdefault(_described(shape, leaf.dtype, leaf.kind), []).append(leaf.key)
    yield from _listed((name, f" {text}") for text, keys in leaves.items() for name in folded_exactly(keys))
    classes: dict[str, list[str]] = {}
    for path, label in tree.modules.items():
        classes.setdefault(label, []).append(path)
    yield from _listed((name, f": {label}") for label, paths in classes.items() for name in folded_exactly(paths))
    yield from _listed((_written(key), f" = {_written(origin)}") for key, origin in tree.tied.items())


def _described(shape: str, dtype: str | None, kind: str) -> str:
    return " ".join([shape, dtype or "?", *([kind] if kind != "parameter" else [])])


def _listed(lines: Iterable[tuple[str, str]]) -> list[str]:
    return [name + text for name, text in sorted(lines, key=lambda line: (natural_key(line[0]), line[1]))]


def folded_exactly(names: Sequence[str]) -> Iterator[str]:
    """Patterns with ranges that stand for just these names, each name in one of them.

    >>> list(folded_exactly(["a.0.x", "a.1.x", "a.3.y", "b c"]))
    ['a.{0..1}.x', 'a.3.y', '"b c"']
    """
    for one in fold(names):
        if not one.indices[0] or _PLAIN.fullmatch(one.template.replace("{}", "0")) is None:
            yield from (_written(names[at]) for at in one.positions)
            continue
        for columns in products(sorted(tuple(map(int, row)) for row in one.indices)):
            texts = iter(columns)
            yield ".".join(ranges(next(texts)) if s == "{}" else s for s in one.segments)


def products(rows: Sequence[Column]) -> list[tuple[Column, ...]]:
    """Sorted rows of numbers as products of sets of numbers: each row in exactly one of them."""
    tails: dict[int, list[Column]] = {}
    for row in rows:
        tails.setdefault(row[0], []).append(row[1:])
    heads: dict[tuple[Column, ...], list[int]] = {}
    for number, below in tails.items():
        heads.setdefault(tuple(below), []).append(number)
    found = []
    for rest, numbers in heads.items():
        found += [(tuple(numbers), *more) for more in (products(rest) if rest[0] else [()])]
    return found


def _written(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


def read_lines(lines: Iterable[tuple[int, str]], where: str) -> KeyTree:
    """The tree of numbered lines.

    Raises
    ------
    FormatError
        Lines that say none of the three things, all of them at once.
    """
    leaves: dict[str, tuple[object, ...]] = {}
    modules: dict[str, str] = {}
    tied: dict[str, str] = {}
    wrong = []
    for number, line in lines:
        try:
            _read_line(line, leaves, modules, tied)
        except ValueError as error:
            wrong.append(f"line {number}: {error}: {line[:200]}")
    if wrong:
        hint = "write it again with `treealign lock MODEL`"
        raise FormatError("this is no lock of treealign", where=where, facts=wrong[:20], hint=hint)
    return KeyTree.from_leaves(leaves.values(), modules, tied, source=where)


def _read_line(line: str, leaves: dict[str, tuple[object, ...]], modules: dict[str, str], tied: dict[str, str]) -> None:
    if leaf := _LEAF.fullmatch(line):
        shape, dtype = _shape(leaf["shape"]), leaf["dtype"]
        found: Mapping[str, object] = {
            key: (key, shape, None if dtype == "?" else dtype, leaf["kind"] or "parameter")
            for key in _expanded(leaf["name"])
        }
        if leaves.keys() & found.keys():
            raise ValueError("a key that stands above already")
        leaves.update(found)  # type: ignore[arg-type]
    elif pair := _TIED.fullmatch(line):
        tied[_single(pair["name"])] = _single(pair["origin"])
    elif module := _MODULE.fullmatch(line):
        modules.update(dict.fromkeys(_expanded(module["name"]), module["label"]))
    else:
        raise ValueError("neither a leaf nor a module nor a tie")


def _shape(text: str) -> tuple[int, ...] | None:
    return None if text == "?" else tuple(int(size) for size in text.split(",") if size.strip())


def _single(text: str) -> str:
    names = _expanded(text)
    if len(names) != 1:
        raise ValueError("a tie is of one leaf")
    return names[0]


def _expanded(text: str) -> list[str]:
    if text.startswith('"'):
        return [str(json.loads(text))]
    pieces = _BRACES.split(text)
    columns = [_numbers(piece) for piece in pieces[1::2]]
    size = 1
    for column in columns:
        size *= len(column)
    if size > _LARGEST:
        raise ValueError(f"it stands for more than {_LARGEST:,} keys")
    literals = pieces[::2]
    return [
        "".join([literals[0], *(n + t for n, t in zip(row, literals[1:], strict=True))]) for row in product(*columns)
    ]


def _numbers(text: str) -> list[str]:
    found: list[str] = []
    for run in text.split(","):
        first, _, last = run.partition("..")
        low, high = int(first), int(last or first)
        if high - low > _LARGEST:
            raise ValueError(f"it stands for more than {_LARGEST:,} keys")
        found += map(str, range(low, high + 1))
    return found
