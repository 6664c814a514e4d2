"""Lists of keys as a person reads them: a module of which every key is listed stands for its keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from treealign.cli.console import plural, width
from treealign.tree.fold import Fold, fold, fold_names
from treealign.tree.keytree import KeyTree

Path = tuple[str, ...]


def key_lines(tree: KeyTree, keys: Iterable[str], limit: int = 20) -> list[str]:
    """The keys, repeats folded and whole modules as one: ``text_model.*  196 keys``.

    Parameters
    ----------
    tree : KeyTree
        Where the keys are from: a module is whole when no key of this tree below it is left out.
    keys : iterable of str
        Some of its keys.
    limit : int
        How many lines before the rest is only counted.
    """
    listed = list(keys)
    folds = fold(listed)
    whole, here = _below(tree.folds), _below(folds)
    groups: dict[Path, list[str]] = {}
    for f in folds:
        depth = next((d for d in range(1, len(f.segments)) if here[f.segments[:d]] == whole[f.segments[:d]]), None)
        path = f.segments if depth is None or here[f.segments[:depth]] == 1 else f.segments[:depth]
        groups.setdefault(path, []).extend(listed[at] for at in f.positions)
    lines = [line for path, members in groups.items() for line in _lines(path, members)]
    rest = len(lines) - limit
    return lines if rest <= 1 else [*lines[:limit], f"… and {rest} more such lines"]


def _below(folds: Iterable[Fold]) -> Counter[Path]:
    """How many keys stand below each folded module, and at each folded key itself."""
    counts: Counter[Path] = Counter()
    for f in folds:
        for depth in range(1, len(f.segments) + 1):
            counts[f.segments[:depth]] += len(f.positions)
    return counts


def _lines(path: Path, members: list[str]) -> list[str]:
    segments = {key: key.split(".") for key in members}
    is_module = any(len(s) > len(path) for s in segments.values())
    names = fold_names(dict.fromkeys(".".join(s[: len(path)]) for s in segments.values()))
    count = plural(len(members), "key")
    texts = [f"{name}.*" if is_module else name for name in names]
    return [f"{text:<{width() - 14}}{count:>10}".rstrip() if at == 0 else text for at, text in enumerate(texts)]
