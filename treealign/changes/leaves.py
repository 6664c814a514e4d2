"""Changes that no transform does: leaves that come and go, sizes, dtypes, kinds, classes, ties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from treealign.changes.results import Change, Severity
from treealign.changes.transforms import folded
from treealign.changes.translation import Translation
from treealign.suggestion import Suggestion
from treealign.tree.fold import Fold, fold, fold_names
from treealign.tree.keytree import KeyTree, Leaf

ROOT = "(root)"
Path = tuple[str, ...]
HARMLESS = Severity("yes", "yes", "yes")


def leaf_changes(suggestion: Suggestion, translation: Translation) -> Iterator[Change]:
    """Everything besides renaming and conversion, the gravest first."""
    old, new = translation.source, translation.target
    yield from _gone(old, suggestion.unexpected_keys)
    yield from _come(new, suggestion.missing_keys)
    yield from _resized(suggestion)
    yield from _retyped(suggestion, old, new)
    if old.modules and new.modules:
        yield from _kinds(suggestion, old, new)
        yield from _ties(translation)
        yield from _classes(translation)


def _gone(tree: KeyTree, keys: Iterable[str]) -> Iterator[Change]:
    for name, members in whole_modules(tree, keys):
        summary = f"`{name}` removed"
        yield Change("leaves removed", summary, len(members), name, ((name, ""),), Severity("no", "no", "no"))


def _come(tree: KeyTree, keys: Iterable[str]) -> Iterator[Change]:
    for name, members in whole_modules(tree, keys):
        summary = f"`{name}` added"
        yield Change("leaves added", summary, len(members), name, (("", name),), Severity("no", "no", "yes"))


def whole_modules(tree: KeyTree, keys: Iterable[str]) -> list[tuple[str, list[str]]]:
    """The keys by the highest modules of which none is left out: (folded name, its keys)."""
    listed = list(keys)
    folds = fold(listed)
    whole, here = _counts(tree.folds), _counts(folds)
    groups: dict[Path, list[str]] = {}
    for f in folds:
        depth = next((d for d in range(1, len(f.segments)) if here[f.segments[:d]] == whole[f.segments[:d]]), None)
        path = f.segments if depth is None or here[f.segments[:depth]] == 1 else f.segments[:depth]
        groups.setdefault(path, []).extend(listed[at] for at in f.positions)
    return [(_folded_module(path, members), members) for path, members in groups.items()]


def _counts(folds: Iterable[Fold]) -> Counter[Path]:
    counts: Counter[Path] = Counter()
    for f in folds:
        for depth in range(1, len(f.segments) + 1):
            counts[f.segments[:depth]] += len(f.positions)
    return counts


def _folded_module(path: Path, members: Sequence[str]) -> str:
    heads = dict.fromkeys(".".join(key.split(".")[: len(path)]) for key in members)
    return folded(fold_names(heads))


def _resized(suggestion: Suggestion) -> Iterator[Change]:
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], list[tuple[str, str]]] = {}
    for one in suggestion.mismatched_keys:
        found.setdefault((one.checkpoint_shape or (), one.model_shape or ()), []).append((one.checkpoint, one.model))
    for (before, after), pairs in found.items():
        yield _of_pairs(
            "tensors resized", f"{list(before)} resized to {list(after)}", pairs, Severity("no", "no", "yes")
        )


def _retyped(suggestion: Suggestion, old: KeyTree, new: KeyTree) -> Iterator[Change]:
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for a, b in _plain_pairs(suggestion, old, new):
        if a.dtype != b.dtype and a.dtype is not None and b.dtype is not None:
            found.setdefault((a.dtype, b.dtype), []).append((a.key, b.key))
    for (before, after), pairs in found.items():
        names = [name for name, _ in whole_modules(old, (key for key, _ in pairs))]
        summary = f"{before} retyped to {after}"
        both = tuple((name, name) for name in names)
        yield Change("tensors retyped", f"{summary}: {folded(names)}", len(pairs), folded(names), both, HARMLESS)


def _kinds(suggestion: Suggestion, old: KeyTree, new: KeyTree) -> Iterator[Change]:
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for a, b in _plain_pairs(suggestion, old, new):
        if a.kind != b.kind:
            found.setdefault((a.kind, b.kind), []).append((a.key, b.key))
    for (before, after), pairs in found.items():
        yield _of_pairs("kind changed", f"{before} turned into {after}", pairs, HARMLESS)


def _plain_pairs(suggestion: Suggestion, old: KeyTree, new: KeyTree) -> Iterator[tuple[Leaf, Leaf]]:
    for link in suggestion.alignment.links:
        if not link.operations:
            for (at,), (there,) in link.expand():
                yield old.leaves[at], new.leaves[there]


def _of_pairs(kind: str, summary: str, pairs: Sequence[tuple[str, str]], severity: Severity) -> Change:
    names = fold_names(old or ROOT for old, _ in pairs)
    there = fold_names(new or ROOT for _, new in pairs)
    both = tuple(zip(names, there, strict=True)) if len(names) == len(there) else ((folded(names), folded(there)),)
    return Change(kind, f"{summary}: {folded(names)}", len(pairs), folded(names), both, severity)


def _ties(translation: Translation) -> Iterator[Change]:
    old, new = translation.source, translation.target
    before = {frozenset((*translation.of(a), *translation.of(b))): (a, b) for a, b in old.tied.items()}
    after = {frozenset(pair): pair for pair in new.tied.items()}
    for pair, (alias, origin) in before.items():
        if pair not in after and len(pair) == 2:
            yield _tie("tie lost", f"`{alias}` no longer shares `{origin}`", alias, Severity("no", "no", "yes"))
    for pair, (alias, origin) in after.items():
        # an old checkpoint may hold two tensors that differ, where there is room for one
        if pair not in before and translation.inverse.of(alias) and translation.inverse.of(origin):
            yield _tie("tie added", f"`{alias}` shares `{origin}`", alias, Severity("no", "yes", "yes"))


def _tie(kind: str, summary: str, alias: str, severity: Severity) -> Change:
    return Change(kind, summary, 1, alias, ((alias, alias),), severity)


def _classes(translation: Translation) -> Iterator[Change]:
    old, new = translation.source, translation.target
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for path, name in old.modules.items():
        there = _counterpart(translation, path)
        after = new.modules.get(there) if there is not None else None
        # a level that is gone was not turned into the module above it, which has a counterpart of its own
        merged = there != path and there in old.modules and translation.of(there or "") == (there,)
        if after is not None and after != name and not merged:
            found.setdefault((name, after), []).append((path, there or ""))
    for (before, after), pairs in found.items():
        yield _of_pairs(
            "class changed", f"class {before} changed to {after}", [p for p in pairs if p[0]] or pairs, HARMLESS
        )


def _counterpart(translation: Translation, path: str) -> str | None:
    """Of a module: cheaply where its leaves agree."""
    if not path:
        return ""
    if path in translation.target.modules and path not in translation.votes:
        return path
    votes = translation.votes.get(path, ())
    if len(votes) == 1 and votes[0] != path and path in translation.target.modules:
        return next(iter(translation.of(path)), None)
    return votes[0] if len(votes) == 1 else None
