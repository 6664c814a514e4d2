"""Folded names written out: one name for each key that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple

from treealign.mapping.folded import Rows, State
from treealign.tree.segments import Name, Segment, Slot


def expander(name: Name) -> Callable[[tuple[str, ...]], str]:
    """What writes out a folded name for a row of indices."""
    text, slots = _formatted(name)
    columns = [slot.column for slot in slots]
    if any(slot.shift for slot in slots):
        return lambda row: text % tuple(str(int(row[s.column]) + s.shift) if s.shift else row[s.column] for s in slots)
    return lambda row: text % tuple(row[column] for column in columns)


def expand(name: Name, indices: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A folded name written out for each row of indices."""
    text, slots = _formatted(name)
    if not slots:
        return repeat(text % (), len(indices))
    if indices and slots == [Slot(column) for column in range(len(indices[0]))]:
        return map(text.__mod__, indices)  # the rows are what the format takes: no call for each key
    return map(expander(name), indices)


def written(names: Iterable[Name], rows: Rows) -> Iterator[tuple[str, ...]]:
    """Several folded names written out, together for each row."""
    return zip(*(expand(name, rows.indices) for name in names), strict=True)


def targets_of(states: Iterable[State], keys: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names that each key ends with, in the order of `keys`."""
    # a list first: filling a dict in the order of the states, which is not that of its keys, takes twice the time
    placed: list[tuple[str, ...]] = [()] * len(keys)
    for state in states:
        if len(state.names) == 1:
            _place_one(state, keys, placed)
        else:
            texts = written(state.names, state.rows)
            for position, names in zip(state.rows.positions, texts, strict=True):
                placed[position] = names
    return dict(zip(keys, placed, strict=True))


def _place_one(state: State, keys: Sequence[str], placed: list[tuple[str, ...]]) -> None:
    splice = _splice(state.origin, state.names[0])
    if not state.touched:
        for position in state.rows.positions:
            placed[position] = (keys[position],)
    elif splice:
        head, kept, tail = splice
        for position in state.rows.positions:
            placed[position] = (f"{head}{keys[position][kept]}{tail}",)
    else:
        texts = expand(state.names[0], state.rows.indices)
        for position, text in zip(state.rows.positions, texts, strict=True):
            placed[position] = (text,)


class _Splice(NamedTuple):
    """A new name as the middle of the old one between a new head and a new tail."""

    head: str
    kept: slice
    tail: str


def _splice(origin: Name, name: Name) -> _Splice | None:
    """How to get a name from a key where nothing changed between its indices: cheaper than writing out each of them."""
    old, new = _slotted(origin), _slotted(name)
    if old is None or new is None or origin[old] != name[new]:
        return None
    end = len(_after(origin[old.stop :]))
    kept = slice(len(_before(origin[: old.start])), -end if end else None)
    return _Splice(_before(name[: new.start]), kept, _after(name[new.stop :]))


def _slotted(name: Name) -> slice | None:
    """From the first segment with a slot to the last."""
    at = [place for place, segment in enumerate(name) if not isinstance(segment, str)]
    return slice(at[0], at[-1] + 1) if at else None


def _before(segments: Name) -> str:
    return "".join(f"{segment}." for segment in segments)


def _after(segments: Name) -> str:
    return "".join(f".{segment}" for segment in segments)


def _formatted(name: Name) -> tuple[str, list[Slot]]:
    """A name as a format, and the slots that it takes."""
    slots = [piece for segment in name if not isinstance(segment, str) for piece in segment if isinstance(piece, Slot)]
    return ".".join(map(_segment_format, name)), slots


def _segment_format(segment: Segment) -> str:
    if isinstance(segment, str):
        return segment.replace("%", "%%")
    return "".join("%s" if isinstance(piece, Slot) else piece.replace("%", "%%") for piece in segment)


def one_to_one(name: Name, rows: Rows) -> bool:
    """Whether different rows surely give different names: every column of the indices stands in the name."""
    pieces = chain.from_iterable(segment for segment in name if not isinstance(segment, str))
    return len({piece.column for piece in pieces if isinstance(piece, Slot)}) == len(rows.indices[0])
