"""Changes of modules that the mapping old -> new does: each transform is one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from treealign.changes.results import Change, Severity
from treealign.changes.spans import edited, without_common_ends, written
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.folded import Rows, State
from treealign.mapping.guards import decide
from treealign.mapping.running import run
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import Convert, PrefixChange, Rename
from treealign.tree.grammar import Choice
from treealign.tree.keytree import KeyTree
from treealign.tree.patterns import KeyPattern
from treealign.tree.segments import Name

RENAMED = Severity("mapped", "mapped", "no")
_SHIFTED = re.compile(r"\{(\w+)[+-]\d+([:}])")


def transform_changes(mapping: ConversionMapping, old: KeyTree, doubtful: frozenset[int]) -> list[Change]:
    """One change for each transform that touches a key of the old tree.

    `doubtful` are the positions of leaves whose match is not certain.
    """
    decision = decide(mapping.transforms, old.folds, converted=False)
    states, _ = run(mapping.transforms, old.keys, old.folds, decision)
    found = []
    for at, transform in enumerate(mapping.transforms):
        touched = [state for state in states if at in state.touched]
        if touched:
            found.append(_change(transform, touched, doubtful))
    return found


def _change(transform: Transform, states: Sequence[State], doubtful: frozenset[int]) -> Change:
    groups: dict[tuple[Name, Name], list[Rows]] = {}
    for state in states:
        for pair in edited(state):
            groups.setdefault(pair, []).append(state.rows)
    pairs = tuple(dict.fromkeys(written(pair, rows) for pair, rows in groups.items()))
    kind, summary = _words(transform)
    certain = not doubtful or not any(doubtful.intersection(state.rows.positions) for state in states)
    keys = sum(len(state.rows.positions) for state in states)
    return Change(kind, summary, keys, folded(old for old, _ in pairs), pairs, RENAMED, certain, transform)


def folded(names: Iterable[str], limit: int = 3) -> str:
    """A few names on one line; the rest is counted."""
    listed = list(dict.fromkeys(names))
    rest = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _words(transform: Transform) -> tuple[str, str]:
    below = f" below `{transform.under.removeprefix('**.')}`" if transform.under else ""
    if isinstance(transform, PrefixChange):
        return _level(transform.levels, transform.add is not None, below or " at the root")
    if isinstance(transform, Rename) and len(transform.pairs) == 1:
        return _renamed(transform, below)
    if isinstance(transform, Rename):
        pairs = " and ".join(f"`{_plain(source)}` to `{_plain(target)}`" for source, target in transform.pairs)
        return "renamed", f"renamed at once{below}: {pairs}"
    assert isinstance(transform, Convert)
    return _converted(transform, below)


def _level(levels: Sequence[str], added: bool, below: str) -> tuple[str, str]:
    what, verb = "level" if len(levels) == 1 else "levels", "inserted" if added else "removed"
    return f"level {verb}", f"{what} `{'.'.join(levels)}` {verb}{below}"


def _renamed(rename: Rename, below: str) -> tuple[str, str]:
    start, mine, other, end = without_common_ends(rename.source, rename.target)
    where = f" below `{'.'.join([*filter(None, [rename.under.removeprefix('**.')]), *start])}`" if start else below
    if not mine or not other:
        return _level(mine or other, not mine, where or _above(end))
    if _SHIFTED.sub(r"{\1\2", rename.source) == _SHIFTED.sub(r"{\1\2", rename.target):
        return "list reindexed", f"`{_plain(rename.source)}` reindexed to `{_plain(rename.target)}`{below}"
    if min(len(mine), len(other)) == 1 or len(mine) == len(other):
        return "renamed", f"`{'.'.join(mine)}` renamed to `{'.'.join(other)}`{where}"
    return "subtree moved", f"`{_plain(rename.source)}` moved to `{_plain(rename.target)}`{below}"


def _above(end: Sequence[str]) -> str:
    """Where a level at the root comes or goes."""
    if not end:
        return " at the root"
    parts = KeyPattern.parse(end[0]).segments[0].parts
    names = parts[0].options if len(parts) == 1 and isinstance(parts[0], Choice) else end[:1]
    return f" above {', '.join(f'`{name}`' for name in names)}"


def _plain(pattern: str) -> str:
    return pattern.removeprefix("**.").removesuffix("$")


def _converted(convert: Convert, below: str) -> tuple[str, str]:
    mine, other = (set(_captures(side)) for side in (convert.sources, convert.targets))
    many, few = len(convert.sources) + len(mine - other), len(convert.targets) + len(other - mine)
    kind = "tensors fused" if many > few else "tensors split" if many < few else "tensors rearranged"
    sources, targets = (", ".join(f"`{_plain(one)}`" for one in side) for side in (convert.sources, convert.targets))
    verb = {"tensors fused": "fused into", "tensors split": "split into"}.get(kind, "rearranged into")
    same = kind == "tensors rearranged" and convert.sources == convert.targets
    return kind, f"{sources} rearranged{below}" if same else f"{sources} {verb} {targets}{below}"


def _captures(patterns: Sequence[str]) -> Iterable[str]:
    return (name for pattern in patterns for name in KeyPattern.parse(pattern).captures)
