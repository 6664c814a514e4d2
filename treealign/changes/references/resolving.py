"""What a mention meant in the old tree, what it means in the new one, and how it would have to be spelled there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from treealign.changes.references.mentions import HOLE
from treealign.changes.references.names import Names
from treealign.changes.references.readers import READERS, compiled
from treealign.changes.references.spelling import respelled_pattern, respelled_text
from treealign.changes.results import NOTHING, OTHER, STILL
from treealign.changes.translation import Translation
from treealign.formats.cached import cached_property

# in which names a reader looks; where it finds keys, the modules above them add nothing
_KINDS = {"keys": ("keys",), "modules": ("modules",), "layers": ("layers",), "names": ("keys", "modules")}

_ALL_OTHERS = "_default"  # torchao's key for whatever no other key names
_CLASS = re.compile(r"[A-Z]\w*")


@dataclass(frozen=True)
class Resolution:
    """What became of the meaning of a text.

    Attributes
    ----------
    status : str
        As in `Reference`.
    new : str or None
        The spelling in the new tree.
    names : tuple of str
        What it matched in the old tree; at least one.
    exact : bool
        Whether `new` can be written in place of the text: it means the same tensors, none of them fused with others or
        split, and the text means nothing now, nor did `new` mean anything else, so that a second time changes nothing.
    guess : bool
        Whether `new` follows from matches that are still open: then it is not exact.
    """

    status: str
    new: str | None
    names: tuple[str, ...]
    exact: bool = True
    guess: bool = False


@dataclass(frozen=True, eq=False)
class Resolver:
    """Resolves texts against both trees of a translation, each text once."""

    translation: Translation

    @cached_property
    def old(self) -> Names:
        """The old tree's names."""
        return Names(self.translation.source)

    @cached_property
    def new(self) -> Names:
        """The new tree's names."""
        return Names(self.translation.target)

    @cached_property
    def _known(self) -> dict[tuple[str, str], Resolution | None]:
        return {}

    def resolve(self, text: str, reader: str) -> Resolution | None:
        """None where the text matches nothing in the old tree."""
        at = text, reader
        if at not in self._known:
            self._known[at] = self._class(text) if reader == "class" else self._resolve(text, reader)
        return self._known[at]

    def _resolve(self, text: str, reader: str) -> Resolution | None:
        for kind in _KINDS[READERS[reader].names]:
            matched = self.old.matching(text, reader, kind)
            if matched:
                return self._judged(text, reader, kind, matched)
        return None

    def _judged(self, text: str, reader: str, kind: str, matched: list[str]) -> Resolution:
        meant, found = self._meanings(text, reader, kind, matched)
        if found == meant or (found and self._same_tensors(kind, matched, found)):
            # what was removed is no longer matched, of course; a text that meant nothing else has lost its meaning
            return Resolution(STILL if meant else NOTHING, None, tuple(matched))
        spellings = self._spellings(text, reader, matched)
        new = next((one for one in spellings if self._means(one, reader, kind, meant)), None)
        guess = any(map(self.translation.is_guess, matched))
        exact = not (found or guess) and self._is_exact(matched) and (new is None or self._is_new(new, reader, kind))
        return Resolution(OTHER if found else NOTHING, new, tuple(matched), exact, guess)

    def _same_tensors(self, kind: str, matched: Iterable[str], found: Iterable[str]) -> bool:
        """Whether layers hold the tensors that those of before held, though they are other modules: fused ones, say."""
        if kind != "layers":
            return False
        pairs, back = self.translation.pairs, self.translation.back
        before = {new for leaf in _leaves(matched, pairs) for new in pairs[leaf]}
        return before == {leaf for leaf in _leaves(found, back) if back[leaf]}

    def _class(self, name: str) -> Resolution | None:
        """What became of the modules of a class: a name of another class only where all of them got the same."""
        if name not in self.old.classes:
            return None
        if name in self.new.classes:
            return Resolution(STILL, None, (name,))
        paths = [path for path, kind in self.old.tree.modules.items() if kind == name]
        there = {self.new.tree.modules.get(target, "") for path in paths for target in self.translation.of(path)}
        new = there.pop() if len(there) == 1 else None
        guess = any(map(self.translation.is_guess, paths))
        return Resolution(NOTHING, new or None, (name,), not guess, guess)

    def _meanings(self, text: str, reader: str, kind: str, matched: list[str]) -> tuple[frozenset[str], frozenset[str]]:
        """What a text meant, in names of the new tree, and what it means."""
        return self._translated(matched), self._with_counterpart(self.new.matching(text, reader, kind))

    def _is_new(self, text: str, reader: str, kind: str) -> bool:
        """Whether a spelling meant nothing in the old tree, or the same: else nobody could say which tree it is for."""
        matched = self.old.matching(text, reader, kind)
        meant, found = self._meanings(text, reader, kind, matched)
        return not matched or meant == found

    def _translated(self, names: Iterable[str]) -> frozenset[str]:
        return frozenset(target for name in names for target in self.translation.of(name))

    def _with_counterpart(self, names: Iterable[str]) -> frozenset[str]:
        """Without what is new: a text that also matches an added leaf means what it meant."""
        back = self.translation.inverse
        return frozenset(name for name in names if back.of(name))

    def _means(self, text: str, reader: str, kind: str, meant: frozenset[str]) -> bool:
        return bool(text) and self._with_counterpart(self.new.matching(text, reader, kind)) == meant

    def _spellings(self, text: str, reader: str, matched: list[str]) -> Iterator[str]:
        if not any(self.translation.of(name) for name in matched):
            return
        if not READERS[reader].is_regex or is_plain(text):
            yield from respelled_text(text, reader, matched, self.translation)
        if READERS[reader].is_regex or reader in ("skip", "glob", "layer glob", "plan"):
            yield from respelled_pattern(text, matched, self.translation)

    def _is_exact(self, names: Iterable[str]) -> bool:
        pairs, back = self.translation.pairs, self.translation.back
        leaves = {leaf for name in names for leaf in ([name] if name in pairs else self.translation.below(name))}
        return all(len(pairs[leaf]) == 1 and len(back[pairs[leaf][0]]) == 1 for leaf in leaves)

    def is_dead(self, text: str, reader: str) -> bool:
        """Whether a text finds nothing in either tree; classes, and parts of names, are listed for several models."""
        if (
            text == _ALL_OTHERS
            or reader in ("class", "contains")
            or (READERS[reader].names == "layers" and _CLASS.fullmatch(text))
        ):
            return False
        if READERS[reader].is_regex and compiled(text, reader) is None:
            return False
        kinds = _KINDS[READERS[reader].names]
        return not any(side.matching(text, reader, kind) for side in (self.old, self.new) for kind in kinds)

    def run_in(self, text: str) -> str:
        """The longest run of segments of a text that stand side by side in the old tree; empty if shorter than two."""
        return longest_run(text.split("."), self.old)


def _leaves(layers: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """The leaves that layers hold themselves."""
    held = frozenset(layers)
    return (leaf for leaf in known if leaf.rpartition(".")[0] in held)


def longest_run(segments: list[str], names: Names) -> str:
    """The longest run of segments of which each two neighbours are neighbours in some name."""
    best: list[str] = []
    run: list[str] = []
    for segment in segments:
        fits = bool(run) and names.beside(run[-1], segment)
        run = [*run, segment] if fits else [segment]
        if len(run) > max(1, len(best)):
            best = run
    return ".".join(best)


def is_plain(text: str) -> bool:
    """Whether a text could be a dotted name: no blanks, slashes and the like."""
    return text.replace(HOLE, "x").replace(".", "x").replace("-", "x").replace("*", "x").isidentifier()
