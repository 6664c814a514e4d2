"""Renamings as regular expressions and replacements, for loaders that apply such pairs one after the other.

Each pair says exactly what the key pattern says: whole segments, the first position, nothing in lookbehinds. Loaders
can carry an index over but not subtract from it: a shifted one is written out value by value, a chain from its end, a
swap by way of names that no key has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple, TypeAlias

from treealign.errors import MappingError
from treealign.mapping.scope import Transform
from treealign.mapping.transforms import PrefixChange, Rename
from treealign.tree.patterns import Capture, Choice, KeyPattern
from treealign.tree.segments import LARGEST

MOST_VALUES = 512

Values = Mapping[str, str]  # name of a capture to what it holds, before it is shifted


def held_values(rename: Rename, sides: tuple[KeyPattern, KeyPattern], names: Iterable[str]) -> list[list[Values]]:
    """Ways to write one pair of a renaming out: for each, what its captures hold in one rule after the other.

    First the captures that are shifted are written out, then also those with a range or a choice. A rule comes before
    those that make what it matches, so that none takes up what another made.

    Parameters
    ----------
    rename : Rename
        The renaming.
    sides : tuple of KeyPattern
        The pair: its source and its target.
    names : iterable of str
        The keys that it works on, for an index that is shifted without end. Where none are given there is no such way.
    """
    source, target = sides
    moved = {name: by for name in source.captures if (by := shift_of(target, name) - shift_of(source, name))}
    limited = [name for name in source.captures if name not in moved and _listed(source.captures[name]) is not None]
    seen = _seen(rename, names) if any(_listed(source.captures[name]) is None for name in moved) else {}
    ways: list[list[Values]] = []
    for held in dict.fromkeys([(*moved,), (*moved, *limited)]):
        columns = [
            _in_order(
                [v for v in _listed(source.captures[name]) or seen.get(name, ()) if _stands(sides, name, v)],
                moved.get(name, 0),
            )
            for name in held
        ]
        ways.append([dict(zip(held, row, strict=True)) for row in product(*columns)] if _are_few(columns) else [])
    return [way for way in ways if any(way)]


def shift_of(pattern: KeyPattern, name: str) -> int:
    """By how much a pattern shifts an index."""
    capture = pattern.captures[name]
    return capture.shift if isinstance(capture, Capture) else 0


def filled_parts(parts: Iterable[str | Capture | Choice], values: Values) -> tuple[str | Capture | Choice, ...]:
    """Parts of a segment with text in place of some captures."""
    return tuple(part if isinstance(part, str) else _filled_part(part, values.get(part.name)) for part in parts)


def _filled_part(part: Capture | Choice, value: str | None) -> str | Capture | Choice:
    if value is None:
        return part
    return str(int(value) + part.shift) if isinstance(part, Capture) else value


def _stands(sides: Iterable[KeyPattern], name: str, value: str) -> bool:
    """Whether it is no index below 0, which matches nothing."""
    return not value.isdigit() or all(int(value) + shift_of(s, name) >= 0 for s in sides)


def _listed(capture: Capture | Choice) -> tuple[str, ...] | None:
    """What a capture may hold; None where that has no end."""
    if isinstance(capture, Choice):
        return capture.options
    if capture.high is None or capture.high >= LARGEST or capture.high - capture.low >= MOST_VALUES:
        return None
    return tuple(map(str, range(capture.low, capture.high + 1)))


def _seen(rename: Rename, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What the captures hold in the keys that are renamed."""
    found: dict[str, dict[str, None]] = {}
    for name in names:
        rewritten = rename.rewrite(tuple(name.split(".")))
        for capture, value in rewritten.captures.items() if rewritten else ():
            found.setdefault(capture, {})[str(value)] = None
    return {capture: tuple(values) for capture, values in found.items()}


def _in_order(values: Sequence[str], by: int) -> list[str]:
    return sorted(values, key=int, reverse=by > 0) if by else list(values)


def _are_few(columns: Sequence[Sequence[str]]) -> bool:
    count = 1
    for column in columns:
        count *= len(column)
    return 0 < count <= MOST_VALUES


END = r"(?=\.|$)"
ASIDE = "~"  # before a name that waits for another to go
_NUMBER = "0|[1-9][0-9]*"


class Hole(NamedTuple):
    """A part of a name that is carried over: a group of the regular expression."""

    name: str
    regex: str


Token: TypeAlias = "str | Hole"


class Substitution(NamedTuple):
    """A regular expression and its replacement, as `re.sub` takes them."""

    pattern: str
    replacement: str


def substitutions(transform: Transform, names: Iterable[str] = ()) -> list[Substitution]:
    """A renaming as substitutions, to be applied in order, each once to each key.

    Parameters
    ----------
    transform : PrefixChange or Rename
        Its guard is not asked.
    names : iterable of str
        The keys that it works on, for an index that is shifted without end.

    Raises
    ------
    MappingError
        An index is shifted without end and no keys are given, or by too many values.
    """
    if isinstance(transform, PrefixChange):
        return [_prefix(transform)]
    if not isinstance(transform, Rename):
        raise MappingError("a regular expression renames, and this converts", facts=[repr(transform)])
    known = list(names)
    return [made for pair in _in_turn(transform) for made in _pair(transform, pair, known)]


def renamed(pairs: Iterable[Substitution], key: str) -> str:
    """A key after substitutions."""
    for pattern, replacement in pairs:
        key = re.sub(pattern, replacement, key)
    return key


def escaped(text: str) -> str:
    """Text in a regular expression, with nothing escaped that needs it not."""
    return re.sub(r"\\([-~#&])", r"\1", re.escape(text))


def tokens(pattern: KeyPattern, gap: str) -> list[Token]:
    """A pattern as text and holes; `gap` names what its ``**.`` stands for."""
    made: list[Token] = [Hole(gap, r"(?:[^.]*\.)*?")] if pattern.anywhere else []
    for at, segment in enumerate(pattern.segments):
        made += ["."] if at else []
        made += [part if isinstance(part, str) else hole(part) for part in segment.parts]
    return made


def hole(capture: Capture | Choice) -> Hole:
    """What a capture may hold."""
    if isinstance(capture, Choice):
        return Hole(capture.name, "|".join(map(escaped, capture.options)))
    if capture.high is None or capture.high >= LARGEST:
        return Hole(capture.name, _NUMBER)
    low, high = capture.low + capture.shift, capture.high + capture.shift
    if high - low >= MOST_VALUES:
        raise MappingError(f"{{{capture.name}}} has too many values for a regular expression", facts=[f"{low}..{high}"])
    single = high < 10
    return Hole(capture.name, f"[{low}-{high}]" if single else "|".join(map(str, range(low, high + 1))))


# -- one transform -----------------------------------------------------------------------------------------------------


def _scope(transform: Transform) -> list[Token]:
    return [] if transform.scope is None else [*tokens(transform.scope, "above"), "."]


def _prefix(change: PrefixChange) -> Substitution:
    scope = _scope(change)
    levels = f"{'.'.join(change.levels)}."
    source = [*scope, levels] if change.remove is not None else scope
    target = scope if change.remove is not None else [*scope, levels]
    return _made(source, target, "")


_Sides: TypeAlias = tuple[KeyPattern, KeyPattern, str, str]  # patterns, and what marks a name that waits


def _in_turn(rename: Rename) -> list[_Sides]:
    """The pairs in an order in which no name is taken for one that was just made."""
    pairs = dict(rename._patterns)
    texts = {source.text: source for source in pairs}
    begin = next((s for s in texts if s not in {t.text for t in pairs.values()}), None)
    first = texts[begin] if begin is not None else next(iter(pairs))
    chain = [first]
    while (after := texts.get(pairs[chain[-1]].text)) is not None and after is not first:
        chain.append(after)
    if begin is not None or len(chain) == 1:
        return [(source, pairs[source], "", "") for source in reversed(chain)]
    aside = (first, pairs[first], "", ASIDE)
    return [aside, *((s, pairs[s], "", "") for s in reversed(chain[1:])), (pairs[first], pairs[first], ASIDE, "")]


def _pair(rename: Rename, sides: _Sides, names: Sequence[str]) -> Iterator[Substitution]:
    source, target, mark, new_mark = sides
    scope, end = _scope(rename), "$" if source.at_end else END
    old, new = _marked(tokens(source, "front"), mark), _marked(tokens(target, "front"), new_mark)
    shifted = [name for name in source.captures if shift_of(source, name) != shift_of(target, name)]
    ways = held_values(rename, (source, target), names) if shifted else [[{}]]
    if not ways:
        raise MappingError(
            f"{', '.join(f'{{{name}}}' for name in shifted)} is shifted, which a regular expression can do only value "
            "by value",
            facts=[repr(rename)],
            hint="pass the checkpoint, or give the index a range",
        )
    for values in ways[0]:
        yield _made([*scope, *_filled(old, source, values)], [*scope, *_filled(new, target, values)], end)


def _filled(parts: Sequence[Token], pattern: KeyPattern, values: Values) -> list[Token]:
    return [_value(part, pattern, values) if isinstance(part, Hole) else part for part in parts]


def _value(part: Hole, pattern: KeyPattern, values: Values) -> Token:
    held = values.get(part.name)
    return part if held is None else str(int(held) + shift_of(pattern, part.name))


def _marked(parts: list[Token], mark: str) -> list[Token]:
    """With a mark before the first segment of the run."""
    at = 1 if parts and isinstance(parts[0], Hole) and parts[0].name == "front" else 0
    return [*parts[:at], mark, *parts[at:]] if mark else parts


def _made(source: Sequence[Token], target: Sequence[Token], end: str) -> Substitution:
    numbers = {part.name: n for n, part in enumerate((p for p in source if isinstance(p, Hole)), start=1)}
    pattern = "".join(f"({part.regex})" if isinstance(part, Hole) else escaped(part) for part in source)
    parts = [rf"\g<{numbers[p.name]}>" if isinstance(p, Hole) else p.replace("\\", r"\\") for p in target]
    # a short reference, where no digit follows it
    replacement = re.sub(r"\\g<([1-9])>(?![0-9])", r"\\\1", "".join(parts))
    return Substitution(f"^{pattern}{end}", replacement)
