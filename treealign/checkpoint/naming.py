"""Under which names a model is saved: those it was loaded under, undone from the records that its modules carry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from treealign.checkpoint.claims import Claim, Claims, Root, find_claims
from treealign.checkpoint.layouts import Layout
from treealign.checkpoint.load_record import make_record
from treealign.checkpoint.newcomers import Newcomers
from treealign.checkpoint.places import Place, Places
from treealign.checkpoint.record_file import Levels, Part, moved
from treealign.checkpoint.stripping import levels_above
from treealign.errors import LoadError, MappingError
from treealign.mapping.conversion_mapping import ConversionMapping
from treealign.mapping.guards import GuardDecision, Verdict
from treealign.mapping.operations import Operation, invert, output_shapes
from treealign.mapping.planning import Step


class Emission(NamedTuple):
    """Keys of the files that are made of some tensors of the model.

    Attributes
    ----------
    keys : tuple of str
        In the files.
    places : tuple of Place
        Whose tensors they are made of.
    operations : tuple of Operation
        From these tensors to those of the files.
    dtypes : tuple of str or None
        The dtype that each key had, where it was cast.
    originals : tuple of torch.Tensor
        What the checkpoint had, for a conversion that cannot be undone; it stands as long as the model still equals it.
    """

    keys: tuple[str, ...]
    places: tuple[Place, ...]
    operations: tuple[Operation, ...] = ()
    dtypes: tuple[str | None, ...] = (None,)
    originals: tuple[torch.Tensor, ...] = ()


@dataclass
class Naming:
    """What to write.

    Attributes
    ----------
    emissions : list of Emission
        What is made of the model's tensors.
    kept : dict of str to torch.Tensor
        Key of the files to a tensor that the model does not hold.
    parts : list of Part
        The records of what is written.
    layouts : list of Layout
        How it lay when it was loaded, the largest first.
    """

    emissions: list[Emission] = field(default_factory=list)
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    layouts: list[Layout] = field(default_factory=list)

    def in_order_of(self, places: Places) -> None:
        """Put the emissions in the order in which the model is defined."""
        at = {key: number for number, key in enumerate(places.places)}
        self.emissions.sort(key=lambda emission: at[emission.places[0].key])

    @property
    def keys(self) -> list[str]:
        """All keys of the files."""
        return [key for emission in self.emissions for key in emission.keys] + list(self.kept)


def own_names(places: Places) -> Naming:
    """The names of the model itself, tied weights once."""
    return Naming([Emission((key,), spots[:1]) for key, spots in places.names.items()])


def mapped_names(places: Places, mapping: ConversionMapping) -> Naming:
    """The names from which a mapping would have loaded the model.

    Raises
    ------
    LoadError
        A conversion lacks keys of the model or does not fit them.
    MappingError
        Two keys would get one name, or a guard cannot tell.
    """
    naming, faults, steps = Naming(), list[str](), list[Step]()
    last = len(tuple(mapping)) - 1
    for step in mapping.reverse.plan(tuple(places.names)):
        if step.absent:
            faults.append(f"{', '.join(step.targets)}: made of {', '.join(step.absent)} too, which the model lacks")
            continue
        spots = tuple(places.places[key] for key in step.sources)
        emission = Emission(step.targets, spots, step.operations, (None,) * len(step.targets))
        faults += _misfit(emission)
        naming.emissions.append(emission)
        touched = tuple(sorted(last - at for at in step.transforms))
        steps.append(Step(step.targets, step.sources, invert(step.operations), touched))
    _refuse(faults)
    applied = GuardDecision((Verdict.APPLY,) * (last + 1))
    naming.parts = [Part(make_record(mapping, applied, steps, {}))]
    return naming


def original_names(places: Places) -> Naming:
    """The names under which the tensors were loaded; those of the model where they were not.

    Raises
    ------
    LoadError
        A conversion cannot be undone: parts of it are no longer in the model, or no longer fit.
    """
    claims = find_claims(places)
    if not claims.roots:
        return own_names(places)
    return _Namer(places, claims).name()


class _Namer:
    """Goes from claims to emissions, root by root, and names what nobody claims."""

    def __init__(self, places: Places, claims: Claims) -> None:
        self.places, self.claims, self.roots = places, claims, claims.roots
        self.place_of = {claim: places.places[key] for key, found in claims.claims.items() for claim in found}
        self.first = {found[0] for found in claims.claims.values()}
        self.levels = [self._levels(root) for root in claims.roots]
        self.emitted: list[tuple[int, Step, Emission]] = []
        self.steps: list[list[Step]] = [[] for _ in claims.roots]
        self.naming = Naming()
        self.faults: list[str] = []

    def name(self) -> Naming:
        for at, root in enumerate(self.roots):
            for step in root.record.steps:
                self._emit(at, root, step)
        self._drop_covered()
        for at, step, emission in self.emitted:
            self.steps[at].append(step)
            self.naming.emissions.append(emission)
        self._name_newcomers()
        self._refuse()
        used = sorted((at for at in range(len(self.roots)) if self.steps[at]), key=lambda at: -len(self.steps[at]))
        self.naming.layouts = [self.roots[at].carried.read_layout() for at in used]
        self.naming.parts = [self._part(at) for at in used]
        return self.naming

    def _levels(self, root: Root) -> Levels:
        outside = root.position and any(moved(key, root.position, "") is None for key in self.places.places)
        mount = root.position if outside else ""
        path = root.carried.path
        return Levels(path, levels_above(root.record, path) if path else "", mount, mount)

    def _emit(self, at: int, root: Root, step: Step) -> None:
        held = [self.place_of.get(Claim(at, key)) for key in step.targets]
        places = tuple(place for place in held if place is not None)
        keys = tuple(self.levels[at].file_key(key) or key for key in step.sources)
        kept = tuple(root.carried.kept[key] for key in step.sources if key in root.carried.kept)
        if not places:
            if len(kept) == len(keys) and self._stands(root, step.targets[0]):
                self.naming.kept |= dict(zip(keys, kept, strict=True))
                self.steps[at].append(step)
        elif len(places) < len(held):
            absent = [key for key, place in zip(step.targets, held, strict=True) if place is None]
            self.faults.append(f"{', '.join(keys)}: made of {', '.join(absent)} too, which this model does not have")
        elif any(Claim(at, key) in self.first for key in step.targets):
            dtypes = tuple(root.record.dtypes.get(key) for key in step.sources)
            emission = Emission(keys, places, invert(step.operations), dtypes, kept)
            self.faults += _misfit(emission)
            self.emitted.append((at, step, emission))

    def _stands(self, root: Root, key: str) -> bool:
        """Whether the module of a key that was not loaded is still there."""
        path = moved(key.rpartition(".")[0], root.carried.path, root.position)
        return path is not None and path in self.places.modules

    def _drop_covered(self) -> None:
        """Where a later load filled a part of what an earlier conversion made, the conversion takes the new value."""
        widest: dict[str, int] = {}
        for _, _, emission in self.emitted:
            for place in emission.places:
                widest[place.key] = max(widest.get(place.key, 0), len(emission.places))
        self.emitted = [e for e in self.emitted if any(widest[p.key] <= len(e[2].places) for p in e[2].places)]

    def _name_newcomers(self) -> None:
        """Name the tensors that no checkpoint had."""
        known = {self.places.tied.get(key, key) for key in self.claims.claims}
        namers = [Newcomers(root.record) for root in self.roots]
        taken = set(self.naming.keys)
        for key, spots in self.places.names.items():
            if key not in known and not _never_counted(spots[0]):
                name = self._newcomer(key, namers, taken)
                taken.add(name)
                self.naming.emissions.append(Emission((name,), spots[:1]))

    def _newcomer(self, key: str, namers: Sequence[Newcomers], taken: set[str]) -> str:
        path, _, name = key.rpartition(".")
        held = [here.below(name) for here in self.claims.held.get(path, ())]
        if not held:
            return key
        found = [(namers[here.root].name(here.standing), here) for here in held]
        best, here = max(found, key=lambda pair: pair[0].depth)
        levels = self.levels[here.root]
        renamed = levels.file_key(best.key)
        if renamed is not None and renamed not in taken:
            self.steps[here.root].append(Step((best.key,), (here.standing,), (), best.transforms))
            return renamed
        own = moved(key, self.roots[here.root].position, levels.mount) or key
        old = moved(own, levels.mount, levels.strip)
        self.steps[here.root] += [Step((old,), (here.standing,))] if old else []
        return own

    def _part(self, at: int) -> Part:
        record = self.roots[at].record
        return Part(make_record(record.mapping, record.decision, self.steps[at], {}), self.levels[at])

    def _refuse(self) -> None:
        counts = Counter(self.naming.keys)
        self.faults += [f"{key}: {count} tensors would have this name" for key, count in counts.items() if count > 1]
        _refuse(self.faults)


def _never_counted(place: Place) -> bool:
    """Whether the checkpoint had no such counter and nothing was counted: it is left out again."""
    return place.is_counted_by_torch and not place.tensor.is_meta and not int(place.tensor)


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise LoadError(
            "the model cannot be saved under the names of its checkpoint",
            facts=faults[:50],
            hint="original_names=False saves it under its own",
        )


def _misfit(emission: Emission) -> list[str]:
    if not emission.operations:
        return []
    try:
        output_shapes(emission.operations, [tuple(place.tensor.shape) for place in emission.places])
    except MappingError as error:
        reason = "; ".join([error.what, *error.facts])
        return [f"{', '.join(emission.keys)}: the tensors changed their shape since they were converted: {reason}"]
    return []
