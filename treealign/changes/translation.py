"""Names of one tree in the other: of leaves, and of the modules above them.

A leaf's counterpart is given. A module's follows from its leaves: where a leaf keeps what stands below the module, the
module is what stands above in the new name. Such a counterpart counts only if it holds the same leaves, no more and no
fewer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile

from treealign.formats.cached import cached_property
from treealign.tree.keytree import KeyTree

Pairs = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Translation:
    """From the names of `source` to those of `target`.

    Attributes
    ----------
    pairs : mapping of str to tuple of str
        Leaf to its counterparts; several where a tensor is split. A leaf without any is not in it.
    source, target : KeyTree
        The two trees.
    guessed : frozenset of str
        The leaves whose counterparts are only guessed: other names are possible.
    """

    pairs: Pairs
    source: KeyTree
    target: KeyTree
    guessed: frozenset[str] = frozenset()

    @cached_property
    def back(self) -> Pairs:
        """The pairs the other way round."""
        found: dict[str, list[str]] = {}
        for key, targets in self.pairs.items():
            for target in targets:
                found.setdefault(target, []).append(key)
        return {key: tuple(sources) for key, sources in found.items()}

    @cached_property
    def inverse(self) -> Translation:
        """From `target` to `source`."""
        guessed = frozenset(target for key in self.guessed for target in self.pairs.get(key, ()))
        return Translation(self.back, self.target, self.source, guessed)

    @cached_property
    def certain(self) -> Translation:
        """Without what is only guessed."""
        pairs = {key: targets for key, targets in self.pairs.items() if key not in self.guessed}
        return Translation(pairs, self.source, self.target)

    def is_guess(self, name: str) -> bool:
        """Whether the counterparts of a leaf or module follow from guesses."""
        return bool(self.guessed) and self.of(name) != self.certain.of(name)

    @cached_property
    def votes(self) -> dict[str, tuple[str, ...]]:
        """Module to what its leaves say it is called, each different answer once."""
        found: dict[str, tuple[str, ...]] = {}
        for key, targets in self.pairs.items():
            for target in targets:
                _vote(found, key, target)
        return found

    @cached_property
    def modules(self) -> frozenset[str]:
        """The modules of `source`, those above leaves and those that have none."""
        return modules_of(self.source)

    @cached_property
    def target_modules(self) -> frozenset[str]:
        """The modules of `target`."""
        return modules_of(self.target)

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.pairs)

    @cached_property
    def _sorted_back(self) -> list[str]:
        return sorted(self.back)

    @cached_property
    def _known(self) -> dict[str, tuple[str, ...]]:
        return {}

    def of(self, name: str) -> tuple[str, ...]:
        """The counterparts of a leaf or module; none where it is gone, several where it was split or scattered."""
        if name in self.pairs:
            return self.pairs[name]
        if name not in self._known:
            self._known[name] = self._of_module(name)
        return self._known[name]

    def below(self, module: str) -> list[str]:
        """The leaves below a module that have a counterpart."""
        return _below(self._sorted, module)

    def _of_module(self, module: str) -> tuple[str, ...]:
        leaves = self.below(module)
        if not leaves:
            return self._without_leaves(module)
        images = {target for leaf in leaves for target in self.pairs[leaf]}
        exact = [name for name in self._candidates(module, images) if self._holds_just(name, images)]
        if exact:
            return (next((name for name in exact if self._same_class(module, name)), exact[0]),)
        return self._parts(module, images)

    def _candidates(self, module: str, images: Iterable[str]) -> list[str]:
        own = [module] if module in self.target_modules else []
        names = [*own, *self.votes.get(module, ()), *self._around_child(module), _common_module(images)]
        return list(dict.fromkeys(names))

    def _around_child(self, module: str) -> list[str]:
        """Where a part of the module went: above it, or, where the level between them is gone, there itself."""
        child = f"{module}.{self.below(module)[0][len(module) + 1 :].partition('.')[0]}"
        there = self.of(child)
        if len(there) != 1:
            return []
        above = there[0].rpartition(".")[0]
        taken = child not in self.pairs and there[0].rpartition(".")[2] == module.rpartition(".")[2]
        return [there[0], above] if taken else [above] if child in self.pairs else [above, there[0]]

    def _holds_just(self, module: str, images: set[str]) -> bool:
        held = _below(self._sorted_back, module)
        return len(held) == len(images) and images.issuperset(held)

    def _same_class(self, module: str, counterpart: str) -> bool:
        mine = self.source.modules.get(module)
        return mine is not None and mine == self.target.modules.get(counterpart)

    def _parts(self, module: str, images: set[str]) -> tuple[str, ...]:
        """The modules that together hold the leaves, where each holds nothing else; else none."""
        votes = self.votes.get(module, ())
        held = [key for vote in votes for key in _below(self._sorted_back, vote)]
        return votes if len(held) == len(images) and images.issuperset(held) else ()

    def _without_leaves(self, module: str) -> tuple[str, ...]:
        parent, _, last = module.rpartition(".")
        if module not in self.modules or not module:
            return ()
        above = self.of(parent) if parent else ("",)
        names = [f"{name}.{last}" if name else last for name in above]
        return tuple(name for name in names if name in self.target_modules)


def modules_of(tree: KeyTree) -> frozenset[str]:
    """The paths of all modules: those that the tree lists, and everything above a leaf; the root is not among them."""
    found = set(tree.modules)
    for key in tree.keys:
        path = key.rpartition(".")[0]
        while path and path not in found:
            found.add(path)
            path = path.rpartition(".")[0]
    return frozenset(found - {""})


def _vote(found: dict[str, tuple[str, ...]], key: str, target: str) -> None:
    """Strip equal last segments from both names, and let each module above vote for the other."""
    while True:
        key, _, last = key.rpartition(".")
        target, _, there = target.rpartition(".")
        if last != there or not key or not target:
            return
        said = found.get(key, ())
        if target in said:  # the votes further up were cast together with this one
            return
        found[key] = (*said, target)


def _below(ordered: list[str], module: str) -> list[str]:
    if not module:
        return ordered
    return ordered[bisect_left(ordered, f"{module}.") : bisect_left(ordered, f"{module}/")]  # `/` comes after `.`


def _common_module(names: Iterable[str]) -> str:
    parents = [name.split(".")[:-1] for name in names]
    shared = takewhile(lambda level: len(set(level)) == 1, zip(*parents, strict=False))
    return ".".join(level[0] for level in shared)
