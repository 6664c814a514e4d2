"""Names for parameters that no checkpoint had: renamed only as everything around them was."""

from __future__ import annotations

from typing import NamedTuple

from treealign.checkpoint.load_record import Record
from treealign.formats.cached import cached_property


class Newcomer(NamedTuple):
    """How a new key would have been called in the checkpoint.

    `depth` counts the levels that it shares with keys of the record; `transforms` are those by which it is renamed.
    """

    depth: int
    key: str
    transforms: tuple[int, ...]


class Newcomers:
    """Names new keys under one record.

    A new key goes back through a transform only if every key of the record below the nearest common module went
    through it: a parameter beside layers that were all prefixed is prefixed, one beside a mixture keeps its name.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.transforms = tuple(record.mapping)

    def name(self, key: str) -> Newcomer:
        """The name of a key of the model that the record does not know."""
        path = key
        while path:
            path = path.rpartition(".")[0]
            if path in self._shared:
                break
        old, used = key, []
        for at in sorted(self._shared.get(path, ()), reverse=True):
            back = self.transforms[at].inverse.map_key(old)
            if back is not None and len(back) == 1:
                old = back[0]
                used.append(at)
        return Newcomer(path.count(".") + bool(path), old, tuple(reversed(used)))

    @cached_property
    def _shared(self) -> dict[str, frozenset[int]]:
        """Path of a module to the transforms that touched all keys of the record below it."""
        shared: dict[str, frozenset[int]] = {}
        for key, step in self.record.by_model.items():
            touched, path = frozenset(step.transforms), key
            while path:
                path = path.rpartition(".")[0]
                shared[path] = shared.get(path, touched) & touched
        return shared
