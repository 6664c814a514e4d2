"""Law 2: no two checkpoint keys reach one model key, except through a `Convert` that says so."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple, TypeAlias

from treealign.errors import MappingError
from treealign.mapping.folded import State, expand, one_to_one, written
from treealign.mapping.scope import Transform
from treealign.tree.segments import Name, Slot, cut

_MOST_FACTS = 20
Owner: TypeAlias = "str | tuple[int, tuple[str, ...]]"  # a key, or a group of a `Convert`


class _Arrival(NamedTuple):
    owner: Owner
    key: str
    touched: tuple[int, ...]


def check_injective(transforms: Sequence[Transform], keys: Sequence[str], states: Sequence[State]) -> None:
    """Raise if keys meet.

    Raises
    ------
    MappingError
        Naming the keys that meet, where, and the transforms that took them there.

    Notes
    -----
    Names that differ outside their slots cannot meet, and neither can the keys of one template that kept all its
    indices; only the rest is written out and counted. Who meets whom is worked out only where the count is short.
    """
    if _apart(states):
        return
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


def _apart(states: Sequence[State]) -> bool:
    entries: dict[int, list[tuple[State, Name]]] = defaultdict(list)
    for state in states:
        if state.entry:
            entries[state.entry.at].append((state, state.entry.name))
    reached = [(state, name) for state in states for name in state.names]
    doubtful = [(state, name) for state, name in _doubtful(reached) if not state.entry]
    names = [*_written(doubtful), *chain.from_iterable(_groups(states))]
    return _distinct(names) and all(_distinct(_written(_doubtful(taken))) for taken in entries.values())


def _distinct(names: list[str]) -> bool:
    return len(set(names)) == len(names)


def _written(found: Iterable[tuple[State, Name]]) -> list[str]:
    return [text for state, name in found for text in expand(name, state.rows.indices)]


def _groups(states: Iterable[State]) -> Iterator[tuple[str, ...]]:
    """The targets of each group of each `Convert`, once."""
    groups: set[tuple[int, tuple[str, ...], tuple[str, ...]]] = set()
    for state in states:
        if state.entry:
            made = written(state.entry.made, state.rows)
            groups.update(zip(repeat(state.entry.at), made, written(state.names, state.rows)))
    return (targets for *_, targets in groups)


def _doubtful(found: Iterable[tuple[State, Name]]) -> Iterator[tuple[State, Name]]:
    """Those whose keys might meet others, or each other."""
    alike: dict[object, list[tuple[State, Name, list[str | Slot]]]] = defaultdict(list)
    for state, name in found:
        pieces = [cut(segment) if isinstance(segment, str) else segment for segment in name]
        digits = [digit for piece in pieces for digit in piece[1::2]]
        alike[tuple(piece[::2] for piece in pieces)].append((state, name, digits))
    for group in alike.values():
        # digits that stand in all of them tell them apart; where one has a slot it may hold what the other has
        plain = [at for at in range(len(group[0][2])) if all(isinstance(digits[at], str) for _, _, digits in group)]
        common = Counter(tuple(digits[at] for at in plain) for _, _, digits in group)
        for state, name, digits in group:
            if common[tuple(digits[at] for at in plain)] > 1 or not one_to_one(name, state.rows):
                yield state, name


def _entries(states: Sequence[State], keys: Sequence[str]) -> Iterator[tuple[object, str, _Arrival]]:
    """Keys as they enter a `Convert`: two may share a target, but not a place among the sources."""
    for state in states:
        if state.entry:
            index, name, _ = state.entry
            for position, text in zip(state.rows.positions, expand(name, state.rows.indices), strict=True):
                yield index, text, _Arrival(keys[position], keys[position], state.touched)


def _arrivals(states: Sequence[State], keys: Sequence[str]) -> Iterator[tuple[object, str, _Arrival]]:
    for state in states:
        targets = written(state.names, state.rows)
        made = written(state.entry.made, state.rows) if state.entry else repeat(())
        for position, names, group in zip(state.rows.positions, targets, made, strict=False):
            owner = (state.entry.at, group) if state.entry else keys[position]
            yield from ((None, text, _Arrival(owner, keys[position], state.touched)) for text in names)


def _meetings(arrivals: Iterator[tuple[object, str, _Arrival]]) -> Iterator[tuple[str, _Arrival, _Arrival]]:
    first: dict[tuple[object, str], _Arrival] = {}
    for place, text, arrival in arrivals:
        found = first.setdefault((place, text), arrival)
        if found.owner != arrival.owner:
            yield text, found, arrival


def _facts(transforms: Sequence[Transform], name: str, arrivals: Sequence[_Arrival]) -> Iterator[str]:
    yield f"{' and '.join(sorted(arrival.key for arrival in arrivals))} reach {name}"
    for arrival in sorted(arrivals, key=lambda a: a.key):
        by = ", ".join(repr(transforms[index].with_guard()) for index in arrival.touched)
        yield f"  {arrival.key}: {by or 'untouched'}"
