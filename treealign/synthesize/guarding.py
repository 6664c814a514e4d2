"""Guards: how a transform that would touch the model's own names learns that they are converted already."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial

from treealign.mapping.transforms import PrefixChange, Rename, Transform
from treealign.synthesize.templates import PartialMatch, Values
from treealign.tree.patterns import KeyPattern
from treealign.tree.segments import Name

_CHOICE = re.compile(r"\{(\w+):[^{}]*\|", re.ASCII)

Names = Sequence[tuple[Name, Values]]
Lone = tuple[Sequence[str], Sequence[str]]


def guard(
    transforms: Sequence[Transform],
    checkpoint: Names,
    model: Names,
    lone: Lone = ((), ()),
) -> list[Transform]:
    """The transforms, those with a guard that would touch the model's names.

    `before` is what some source of the transform matches in the checkpoint and nothing in the model does, `after` the
    opposite; where the transform's own patterns do not tell, those of the others do, and where none does (an index that
    is shifted), `lone`: keys that only the checkpoint and only the model has.
    """
    left, right = _Index(checkpoint), _Index(model)
    touching = [touches(t, right) for t in transforms]
    if not any(touching):
        return list(transforms)
    own = [_evidence(t, left, right) if touched else ([], []) for t, touched in zip(transforms, touching, strict=True)]
    if not all(any(e) for e, touched in zip(own, touching, strict=True) if touched):
        own = [_evidence(t, left, right) for t in transforms]
    everything = ([p for e in own for p in e[0]], [p for e in own for p in e[1]])
    found = []
    for t, touched, evidence in zip(transforms, touching, own, strict=True):
        before, after = next((e for e in (evidence, (everything[0][:1], everything[1][:1])) if any(e)), lone)
        found.append(t.with_guard(before, after) if touched and (before or after) else t)
    return found


class _Index:
    """Names by their segments: what must have some words is looked for among those that have the rarest of them."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._by_word: dict[str, list[int]] = {}
        for number, (name, _) in enumerate(names):
            for word in {segment for segment in name if isinstance(segment, str)}:
                self._by_word.setdefault(word, []).append(number)

    def having(self, words: Set[str]) -> Iterator[tuple[Name, Values]]:
        """Names that may have all of these segments."""
        lists = [self._by_word.get(word, []) for word in words]
        numbers = min(lists, key=len) if lists else range(len(self._names))
        return (self._names[n] for n in numbers)


def touches(transform: Transform, names: _Index) -> bool:
    """Whether a transform without guard touches one of the names."""
    return any(_asks(partial(transform.rewrite, n, v)) for words in transform.words for n, v in names.having(words))


def _evidence(transform: Transform, checkpoint: _Index, model: _Index) -> tuple[list[str], list[str]]:
    before = [p for p in _patterns(transform) if _holds(p, checkpoint) and not _holds(p, model)]
    after = [p for p in _patterns(transform.inverse) if _holds(p, model) and not _holds(p, checkpoint)]
    return before, after


def _patterns(transform: Transform) -> Iterator[str]:
    """What the transform looks for, as whole patterns."""
    if isinstance(transform, PrefixChange):
        levels = transform.remove
        yield from [_below(transform.under, levels)] if levels else []
    elif isinstance(transform, Rename):
        for source, target in transform.pairs:
            if any(f"{{{name}}}" in source for name in _CHOICE.findall(target)):
                continue  # which words it stands for only the other side spells out
            if not transform.under:
                yield source
            elif not source.startswith("**."):
                yield _below(transform.under, source)


def _below(under: str, text: str) -> str:
    return f"{under}.{text}" if under else text


def _holds(text: str, names: _Index) -> bool:
    pattern = KeyPattern.parse(text)
    return any(_asks(partial(pattern.match, n, 0, v)) for n, v in names.having(pattern.words))


def _asks(question: Callable[[], object]) -> bool:
    """Whether the answer is something, for some keys of the template at least."""
    try:
        return question() is not None
    except PartialMatch:
        return True
