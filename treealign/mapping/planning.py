"""From names to work: which keys go together through which operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from treealign.errors import MappingError
from treealign.mapping.convert import Convert, Group
from treealign.mapping.folded import State, expand, targets_of, written
from treealign.mapping.operations import Operation, resolve
from treealign.mapping.scope import Transform
from treealign.tree.fold import fold_names


class Step(NamedTuple):
    """What to do with the tensors of some keys.

    Attributes
    ----------
    sources, targets : tuple of str
        In the order in which the operations take and give their tensors.
    operations : tuple of Operation
        Resolved, to be applied left to right; empty where the tensor stays as it is.
    transforms : tuple of int
        Positions in the mapping of the transforms that touched these keys.
    absent : tuple of str
        Keys that a `Convert` needs and that were not given, under the names they have when it takes them.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    operations: tuple[Operation, ...] = ()
    transforms: tuple[int, ...] = ()
    absent: tuple[str, ...] = ()

    def refuse_incomplete(self) -> None:
        """Raise if keys are absent.

        Raises
        ------
        MappingError
            Naming the absent keys and what would have been made of them.
        """
        if self.absent:
            raise MappingError(
                f"a Convert lacks {len(self.absent)} of {len(self.absent) + len(self.sources)} keys",
                facts=[*(f"absent: {k}" for k in fold_names(self.absent)), *(f"for: {t}" for t in self.targets[:5])],
            )


# a `Convert`, what it makes of the group, and under which names that ends
_Group: TypeAlias = tuple[int, tuple[str, ...], tuple[str, ...]]


class _Taken(NamedTuple):
    """A key that a `Convert` takes, and the name it has then."""

    key: str
    entry: str
    targets: tuple[str, ...]
    state: State


def plan_steps(transforms: Sequence[Transform], states: Sequence[State], keys: Sequence[str]) -> tuple[Step, ...]:
    """One step for each key or group of keys, in the order of the first key of each.

    Raises
    ------
    MappingError
        A size depends on captures and has no entry for them.
    """
    targets = targets_of(states, keys)
    steps: dict[int, Step] = {}
    groups: dict[_Group, dict[str, _Taken]] = {}
    first: dict[_Group, int] = {}
    for state in states:
        positions = state.rows.positions
        if state.entry is None:
            steps |= {at: Step((keys[at],), targets[keys[at]], (), state.touched) for at in positions}
            continue
        index, name, made = state.entry
        entries = zip(positions, expand(name, state.rows.indices), written(made, state.rows), strict=True)
        for at, entry, outcome in entries:
            group = index, outcome, targets[keys[at]]
            groups.setdefault(group, {})[entry] = _Taken(keys[at], entry, targets[keys[at]], state)
            first[group] = min(at, first.get(group, at))
    steps |= {first[group]: _converted(transforms, group[0], taken) for group, taken in groups.items()}
    return tuple(steps[at] for at in sorted(steps))


def _converted(transforms: Sequence[Transform], index: int, taken: dict[str, _Taken]) -> Step:
    convert, some = transforms[index], next(iter(taken.values()))
    group = convert.group(some.entry) if isinstance(convert, Convert) else None
    assert isinstance(convert, Convert)
    assert isinstance(group, Group)
    present = [taken[name] for name in group.sources if name in taken]
    touched = {at for one in taken.values() for at in one.state.touched}
    return Step(
        tuple(one.key for one in present),
        some.targets,
        resolve(convert.operations, group.captures),
        tuple(sorted(touched)),
        tuple(name for name in group.sources if name not in taken),
    )
