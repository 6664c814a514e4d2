"""Which tensor of a model is which of a record: by what its module carries, and where the module stands.

A module carries its place in the model that was loaded. Wrapped, moved into another model or left as it is, it is found
again by that. A copy carries the same place (a model deepened by copying layers), so of two modules of one place in one
loaded model the one that still stands there has the better claim, and the other counts by where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from treealign.checkpoint.carrying import Slice, slices
from treealign.checkpoint.load_record import Record
from treealign.checkpoint.places import Places, join
from treealign.formats.cached import cached_property


@dataclass(frozen=True)
class Root:
    """A topmost module that carries a record.

    Attributes
    ----------
    carried : Slice
        What it carries; `carried.path` is its place in the model that was loaded.
    position : str
        Its place in the model at hand.
    """

    carried: Slice
    position: str

    @cached_property
    def record(self) -> Record:
        """The record."""
        return self.carried.read_record()


class Held(NamedTuple):
    """A module under a root: its place in the loaded model by what it carries, and by where it stands."""

    root: int
    own: str
    standing: str

    def below(self, name: str) -> Held:
        """The same for something below it."""
        return Held(self.root, join(self.own, name), join(self.standing, name))


class Claim(NamedTuple):
    """A key of a root's record."""

    root: int
    key: str


@dataclass(frozen=True)
class Claims:
    """What each tensor of a model is in the records that its modules carry.

    Attributes
    ----------
    roots : tuple of Root
        The topmost modules that carry records.
    held : mapping of str to tuple of Held
        Path of a module to its place under each root, the newest load first.
    claims : mapping of str to tuple of Claim
        Key of a place to what it is, the newest load first; nothing for what no checkpoint had.
    """

    roots: tuple[Root, ...]
    held: Mapping[str, tuple[Held, ...]]
    claims: Mapping[str, tuple[Claim, ...]]


def find_claims(places: Places) -> Claims:
    """Hold the tensors of a model against what its modules carry."""
    roots, held = _trace(places.modules)
    claims: dict[str, list[Claim]] = {key: [] for key in places.places}
    taken: set[Claim] = set()
    for standing in (True, False):
        for key, found in claims.items():
            path, _, name = key.rpartition(".")
            settled = {claim.root for claim in found}
            for here in held.get(path, ()):
                if (here.own == here.standing) is standing and here.root not in settled:
                    found.extend(_claim(here.below(name), roots, taken))
                    taken.update(found)
    return Claims(tuple(roots), held, {key: tuple(found) for key, found in claims.items() if found})


def _claim(leaf: Held, roots: list[Root], taken: set[Claim]) -> list[Claim]:
    known = roots[leaf.root].record.by_model
    candidates = (Claim(leaf.root, key) for key in dict.fromkeys((leaf.own, leaf.standing)))
    return [claim for claim in candidates if claim.key in known and claim not in taken][:1]


def _trace(modules: Mapping[str, nn.Module]) -> tuple[list[Root], dict[str, tuple[Held, ...]]]:
    roots: list[Root] = []
    held: dict[str, tuple[Held, ...]] = {}
    for path, module in modules.items():
        above, _, name = path.rpartition(".")
        inherited = {roots[h.root].carried.record: h.below(name) for h in held.get(above, ()) if path}
        here: list[Held] = []
        for carried in slices(module):
            known = inherited.pop(carried.record, None)
            if known is None:
                roots.append(Root(carried, path))
                known = Held(len(roots) - 1, carried.path, carried.path)
            here.append(known._replace(own=carried.path))
        held[path] = (*here, *inherited.values())
    return roots, held
