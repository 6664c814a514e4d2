"""In which order parts stand in a whole, and what says so."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from itertools import pairwise
from typing import NamedTuple

from treealign.align.hinted import Hint, hinted_order
from treealign.align.parameters import parameter_of
from treealign.align.patterns import Pattern
from treealign.align.reasons import Reason
from treealign.align.words import split_words, tokens, unwrapped, vocabulary
from treealign.tree.keys import number_of

CONVENTION = Reason("order", "the order of the parts is a convention that the names do not spell")
UNKNOWN = Reason("order", "nothing says in which order the parts stand")
GIVEN = "order of the parts given by a hint"
ATTENTION = frozenset({"q", "k", "v"})
_DIGITS = re.compile(r"[0-9]+", re.ASCII)


class Order(NamedTuple):
    """An order of parts, whether it is certain, why not, and what speaks for it."""

    positions: tuple[int, ...]
    certain: bool
    reason: str
    evidence: tuple[str, ...]


def order_parts(whole: Pattern, parts: Sequence[Pattern], hints: Sequence[Hint] = ()) -> Order:
    """Order the parts of a whole.

    As a hint says; by the whole's own name (`up_gate_proj`, `qkv`), by the numbers of a series, by the vocabulary's
    composition of the whole's role; else by convention, which is a guess.
    """
    said = hinted_order(whole, parts, hints)
    if said is not None:
        return Order(said, True, "", (GIVEN,))
    if len(parts) == 1:
        return Order((0,), True, "", ("parts numbered by an index",))
    numbered = series_order(parts)
    if numbered is not None:
        return Order(numbered, True, "", ("parts numbered by their names",))
    roles = [own_roles(p) for p in parts]
    spelled = _spelled(whole, roles)
    if spelled is not None:
        return Order(spelled, True, "", (f"order spelled by the name {own_name(whole)}",))
    composed = _composed(whole, roles)
    if composed is not None:
        return Order(composed, False, CONVENTION, (f"order of {own_name(whole)} by convention of the field",))
    positions = _conventional(parts, roles)
    return Order(positions, False, UNKNOWN, ())


def series_order(parts: Sequence[Pattern]) -> tuple[int, ...] | None:
    """Order by the number in the parts' names, where these differ by one number counting up from 0 (`shard_0`, …)."""
    numbers = [[number_of(n) for n in _DIGITS.findall(own_name(p))] for p in parts]
    stems = {_DIGITS.sub("#", own_name(p)) for p in parts}
    if len(stems) != 1 or any(len(n) != 1 for n in numbers):
        return None
    ranked = sorted(range(len(parts)), key=lambda at: numbers[at])
    return tuple(ranked) if [numbers[at][0] for at in ranked] == list(range(len(parts))) else None


def parted_neighbours(order: Sequence[int], inner: Set[int]) -> tuple[bool, int]:
    """Whether an order moves some of the inner parts among themselves, and how many neighbours it parts.

    These are the breakpoints of a permutation (Watterson et al. 1982): whole runs that change places count little.

    >>> parted_neighbours((3, 0, 1, 2), {0, 1, 2}), parted_neighbours((1, 0, 2), {0, 1, 2})
    ((False, 1), (True, 2))
    """
    among = [n for n in order if n in inner]
    return among != sorted(among), sum(b - a != 1 for a, b in pairwise(order))


def own_name(p: Pattern) -> str:
    """The name of its module, as the field spells it and without wrappers; of a parameter without one, its own."""
    named = unwrapped(p.named)
    return named[-2] if parameter_of(named) and len(named) > 1 else named[-1]


def own_roles(p: Pattern) -> frozenset[str]:
    """Roles that its own name or its module's name gives it."""
    found = [t for t in tokens(p.named) if t.text[0] == "@" and t.depth <= 1]
    return frozenset(t.text[1:] for t in found)


def _spelled(whole: Pattern, roles: Sequence[frozenset[str]]) -> tuple[int, ...] | None:
    """Order in which the whole's name spells the parts' roles: `up_gate`, `qkv`, `gqkv`.

    None where a part may be something else as well: `linear2` follows a gate in one library and is it in another.
    """
    letters, known_parts = vocabulary().letters, vocabulary().part_roles
    if any(len(role & known_parts) > 1 for role in roles):
        return None
    spelled: list[str] = []
    for word in split_words(own_name(whole)):
        known = [letters[c] for c in word if c in letters]
        spelled += known if len(known) == len(word) and len(word) > 1 else [word]
    places = [next((n for n, word in enumerate(spelled) if word in role), None) for role in roles]
    if None in places or len(set(places)) < len(places):
        return None
    return tuple(sorted(range(len(places)), key=lambda n: places[n] or 0))


def is_composed(whole: Pattern, parts: Sequence[Pattern]) -> bool:
    """Whether the parts are those of the whole's fused role, all of them."""
    return len(parts) > 1 and _composed(whole, [own_roles(p) for p in parts]) is not None


def is_part_of_whole(a: Pattern, b: Pattern) -> bool:
    """Whether one name is that of a fused tensor and the other that of one of its parts: never the same tensor."""
    compositions = vocabulary().compositions
    mine, theirs = own_roles(a), own_roles(b)
    pairs = ((mine, theirs), (theirs, mine))
    return any(parts & set(compositions.get(role, ())) and role not in parts for one, parts in pairs for role in one)


def _composed(whole: Pattern, roles: Sequence[frozenset[str]]) -> tuple[int, ...] | None:
    compositions = vocabulary().compositions
    for role in sorted(own_roles(whole)):
        wanted = compositions.get(role, ())
        places = [next((n for n, word in enumerate(wanted) if word in mine), None) for mine in roles]
        if wanted and None not in places and len(set(places)) == len(places) == len(wanted):
            return tuple(sorted(range(len(places)), key=lambda n: places[n] or 0))
    return None


def _conventional(parts: Sequence[Pattern], roles: Sequence[frozenset[str]]) -> tuple[int, ...]:
    """The vocabulary's usual order of roles, an attention's before others; else the order of the names."""
    for line in vocabulary().conventional_order:
        places = [next((n for n, word in enumerate(line) if word in mine), None) for mine in roles]
        if None not in places and len(set(places)) == len(places):
            return tuple(sorted(range(len(places)), key=lambda n: places[n] or 0))
    runs = [[n for n, mine in enumerate(roles) if bool(mine & ATTENTION) == inner] for inner in (True, False)]
    if not all(runs):
        return tuple(sorted(range(len(parts)), key=lambda n: parts[n].template))
    made = [_conventional([parts[n] for n in run], [roles[n] for n in run]) for run in runs]
    return tuple(run[n] for run, order in zip(runs, made, strict=True) for n in order)
