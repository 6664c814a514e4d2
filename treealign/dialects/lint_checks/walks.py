"""Keys on their way through rules, by the code of transformers: what each rule touched, and what came out.

Keys go one by one in the order in which transformers loads and saves them, for some rules remember what they saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

from treealign.dialects.transformers.installed import LOADING


class Touch(NamedTuple):
    """A rule at a key: the key as it was given, the name that the rule met, and what it made of it."""

    key: str
    before: str
    after: str


@dataclass
class Walk:
    """Where keys went.

    Attributes
    ----------
    ends : dict of str to str
        Key to the name that it ends under; of a conversion, the first.
    converted : set of str
        Keys that a converter took.
    touched : dict of int to list of Touch
        What each rule touched, by its position.
    met : dict of int to list of str
        The names that each rule was shown.
    """

    ends: dict[str, str] = field(default_factory=dict)
    converted: set[str] = field(default_factory=set)
    touched: dict[int, list[Touch]] = field(default_factory=dict)
    met: dict[int, list[str]] = field(default_factory=dict)

    def collisions(self) -> dict[str, list[str]]:
        """Names that several keys reach, other than through a converter."""
        reached: dict[str, list[str]] = {}
        for key, end in self.ends.items():
            if key not in self.converted:
                reached.setdefault(end, []).append(key)
        return {end: keys for end, keys in reached.items() if len(keys) > 1}


def forward(rules: Sequence[Any], keys: Iterable[str]) -> Walk:
    """Loading: all renamings in order, then at most one converter."""
    loading, walk = import_module(LOADING), Walk()
    numbered = list(enumerate(rules))
    renamings = [(n, rule) for n, rule in numbered if isinstance(rule, loading.WeightRenaming)]
    converters = [(n, rule) for n, rule in numbered if isinstance(rule, loading.WeightConverter)]
    for key in sorted(keys, key=loading.dot_natural_key):
        name = key
        for n, rule in renamings:
            name, _ = _step(walk, n, rule, key, name)
        for n, rule in converters:
            name, taken = _step(walk, n, rule, key, name)
            if taken:
                walk.converted.add(key)
                break
        walk.ends[key] = name
    return walk


def backward(rules: Sequence[Any], keys: Iterable[str]) -> Walk:
    """Saving, after the converters: the reverse of each renaming, last first; positions as in `rules`."""
    loading, walk = import_module(LOADING), Walk()
    numbered = [(n, rule) for n, rule in enumerate(rules) if isinstance(rule, loading.WeightRenaming)]
    reverse = [(n, rule.reverse_transform()) for n, rule in reversed(numbered)]
    for key in sorted(keys, key=loading.dot_natural_key):
        name = key
        for n, rule in reverse:
            name, _ = _step(walk, n, rule, key, name)
        walk.ends[key] = name
    return walk


def _step(walk: Walk, number: int, rule: Any, key: str, name: str) -> tuple[str, bool]:
    walk.met.setdefault(number, []).append(name)
    made, pattern = rule.rename_source_key(name)
    if pattern is not None:
        walk.touched.setdefault(number, []).append(Touch(key, name, made))
    return made, pattern is not None


def touches(rule: Any, names: Iterable[str]) -> list[Touch]:
    """What one rule alone touches."""
    walk = Walk()
    for name in names:
        _step(walk, 0, rule, name, name)
    return walk.touched.get(0, [])
