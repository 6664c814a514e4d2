"""The modules that an adapter's keys stand on, before and after a change of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from treealign.checkpoint.adapters.parts import PREFIX, has_part
from treealign.formats.cached import cached_property

_INDEX = re.compile(r"(?<![^.])[0-9]+(?![^.])", re.ASCII)
_MOST_BESIDE = 200  # numbers to try: no model has more layers


def module_of(key: str) -> str:
    """The module of the base model that a key of an adapter's file belongs to.

    >>> module_of("base_model.model.layers.0.q_proj.lora_A.weight"), module_of("base_model.model.score.weight")
    ('layers.0.q_proj', 'score')
    """
    segments = key.removeprefix(PREFIX).split(".")
    at = next((at for at, segment in enumerate(segments) if has_part(segment)), len(segments) - 1)
    return ".".join(segments[:at])


@dataclass(frozen=True)
class Moved:
    """The modules of an adapter's keys, old to new; to several where one was split, and several to one that was fused.

    Attributes
    ----------
    pairs : mapping of str to tuple of str
        Module before to modules after.
    """

    pairs: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, keys: Iterable[tuple[str, str]]) -> Moved:
        """From keys of the adapter's file, before and after."""
        found: dict[str, dict[str, None]] = {}
        for old, new in keys:
            if module_of(old):
                found.setdefault(module_of(old), {})[module_of(new)] = None
        return cls({old: tuple(new) for old, new in found.items()})

    @property
    def changed(self) -> bool:
        """Whether any module is called otherwise."""
        return any(new != (old,) for old, new in self.pairs.items())

    @cached_property
    def new(self) -> frozenset[str]:
        """All modules after."""
        return frozenset(name for names in self.pairs.values() for name in names)

    @cached_property
    def back(self) -> Mapping[str, tuple[str, ...]]:
        """Module after to modules before."""
        found: dict[str, list[str]] = {}
        for old, names in self.pairs.items():
            for new in names:
                found.setdefault(new, []).append(old)
        return {new: tuple(names) for new, names in found.items()}

    @cached_property
    def above(self) -> Mapping[str, tuple[str, ...]]:
        """The modules themselves and those above them that only stand elsewhere, old to new."""
        found = dict(self.pairs)
        for old, names in self.pairs.items():
            for new in names:
                found |= {one: (other,) for one, other in _ancestors(old, new) if one not in self.pairs}
        return found

    def beside(self, rename: Callable[[str], str]) -> Moved:
        """The modules that differ from these by indices only, and have no weights here: those that were left out."""
        found: dict[str, tuple[str, ...]] = {}
        highest = max((int(s) for name in self.pairs for s in name.split(".") if s.isdigit()), default=-1)
        for template in {_INDEX.sub("{}", name) for name in self.pairs}:
            for index in range(min(highest + 1, _MOST_BESIDE) + 1) if "{}" in template else ():
                name = template.replace("{}", str(index))
                if name not in self.pairs:
                    found[name] = (rename(name),)
        return Moved(found)

    def wanted(self, names: Iterable[str]) -> frozenset[str]:
        """What modules of before are after."""
        return frozenset(new for name in names for new in self.pairs[name])

    @cached_property
    def gone(self) -> frozenset[str]:
        """Segments of names that no name has any more."""
        after = {segment for name in self.new for segment in name.split(".")}
        return frozenset(segment for name in self.pairs for segment in name.split(".")) - after


def _ancestors(old: str, new: str) -> Iterator[tuple[str, str]]:
    while old.rpartition(".")[2] == new.rpartition(".")[2]:
        old, new = old.rpartition(".")[0], new.rpartition(".")[0]
        if not old or not new:
            return
        yield old, new
