"""Law 2: no two checkpoint keys reach one model key, except through a `Convert` that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from treealign.errors import MappingError
from treealign.mapping.folded import State, expand, one_to_one, signature
from treealign.mapping.scope import Transform

_MOST_FACTS = 20
Owner: TypeAlias = "str | tuple[int, tuple[str, ...]]"  # a key, or a group of a `Convert`


class _Arrival(NamedTuple):
    owner: Owner
    key: str
    state: State


def check_injective(transforms: Sequence[Transform], keys: Sequence[str], states: Sequence[State]) -> None:
    """Raise if keys meet.

    Raises
    ------
    MappingError
        Naming the keys that meet, where, and the transforms that took them there.

    Notes
    -----
    Names whose text between the digits differs cannot meet, and neither can the keys of one template that kept all its
    indices; only the rest is written out and compared.
    """
    meetings = [*_meetings(_entries(states, keys)), *_meetings(_arrivals(states, keys))]
    if meetings:
        facts = [fact for name, *arrivals in meetings[:_MOST_FACTS] for fact in _facts(transforms, name, arrivals)]
        if len(meetings) > _MOST_FACTS:
            facts.append(f"… and {len(meetings) - _MOST_FACTS} more")
        raise MappingError(
            "two keys reach one name",
            facts=facts,
            hint="drop one of the keys, narrow the transform with `under`, or join the keys with a Convert",
        )


def _entries(states: Sequence[State], keys: Sequence[str]) -> Iterator[tuple[object, str, _Arrival]]:
    """Keys as they enter a `Convert`: two may share a target, but not a place among the sources."""
    entries = [(state, *state.entry) for state in states if state.entry]
    common = Counter((index, signature(name)) for _, index, name in entries)
    for state, index, name in entries:
        if common[index, signature(name)] > 1 or not one_to_one(name, state.rows):
            for position, text in zip(state.rows.positions, expand(name, state.rows.indices), strict=True):
                yield index, text, _Arrival(keys[position], keys[position], state)


def _arrivals(states: Sequence[State], keys: Sequence[str]) -> Iterator[tuple[object, str, _Arrival]]:
    common = Counter(signature(name) for state in states for name in state.names)
    for state in states:
        if state.entry:
            yield from _group_arrivals(state, keys)
        elif common[signature(state.names[0])] > 1 or not one_to_one(state.names[0], state.rows):
            texts = expand(state.names[0], state.rows.indices)
            for position, text in zip(state.rows.positions, texts, strict=True):
                yield None, text, _Arrival(keys[position], keys[position], state)


def _group_arrivals(state: State, keys: Sequence[str]) -> Iterator[tuple[object, str, _Arrival]]:
    assert state.entry is not None
    columns = [expand(name, state.rows.indices) for name in state.names]
    groups = dict(zip(zip(*columns, strict=True), state.rows.positions, strict=True))
    for targets, position in groups.items():
        for text in targets:
            yield None, text, _Arrival((state.entry[0], targets), keys[position], state)


def _meetings(arrivals: Iterator[tuple[object, str, _Arrival]]) -> Iterator[tuple[str, _Arrival, _Arrival]]:
    first: dict[tuple[object, str], _Arrival] = {}
    for place, text, arrival in arrivals:
        found = first.setdefault((place, text), arrival)
        if found.owner != arrival.owner:
            yield text, found, arrival


def _facts(transforms: Sequence[Transform], name: str, arrivals: Sequence[_Arrival]) -> Iterator[str]:
    yield f"{' and '.join(sorted(arrival.key for arrival in arrivals))} reach {name}"
    for arrival in sorted(arrivals, key=lambda a: a.key):
        by = ", ".join(repr(transforms[index].with_guard()) for index in arrival.state.touched)
        yield f"  {arrival.key}: {by or 'untouched'}"
